"""Optimised strategies: published optima, and nothing better nearby."""
import numpy as np
import pytest

from mindarmour.privacy.accounting.strategies import (
    Buffered,
    Toeplitz,
    decaying,
    inverse_square_root,
    optimal_buffered,
    optimal_inverse,
    optimal_toeplitz,
    square_root,
    total_error,
)


def _relative(strategy, steps, min_sep, participations, error="mean"):
    independent = Toeplitz((1.0,))
    return total_error(strategy, steps, min_sep, participations, error) / total_error(
        independent, steps, min_sep, participations, error)


@pytest.mark.parametrize("steps, bands, expected", [
    (64, 4, [.70806077, .47455281, .39774488, .33948282]),
    (256, 8, [.57898781, .39414336, .34541262, .31758512, .29671716, .27833491, .25974338, .23722546]),
])
def test_banded_optimum_of_the_literature(steps, bands, expected):
    np.testing.assert_allclose(optimal_toeplitz(steps, bands).coefficients, expected, rtol=1e-5)


@pytest.mark.parametrize("error", ["mean", "max"])
@pytest.mark.parametrize("bands", [2, 5, 16])
def test_banded_optimum_beats_its_neighbours(bands, error):
    best = optimal_toeplitz(300, bands, error)
    loss = total_error(best, 300, 300, 1, error)
    assert loss <= total_error(square_root(bands), 300, 300, 1, error)
    rng = np.random.default_rng(bands)
    for _ in range(20):
        moved = np.minimum.accumulate(np.abs(best.coefficients * (1 + 0.01 * rng.normal(size=bands))))
        assert total_error(Toeplitz(moved), 300, 300, 1, error) >= loss * (1 - 1e-9)


@pytest.mark.parametrize("steps, participations, min_sep, buffers, error, expected", [
    (256, 1, 1, 1, "max", 3.09679320924), (2052, 6, 342, 2, "max", 10.8062693643),
    (2052, 6, 342, 3, "max", 10.7513817472), (2000, 1, 1, 3, "max", 3.49564894358),
    (512, 8, 64, 2, "mean", 9.84024825121)])
def test_buffered_optimum_of_the_literature(steps, participations, min_sep, buffers, error, expected):
    strategy = optimal_buffered(steps, buffers, min_sep, participations, error)
    assert total_error(strategy, steps, min_sep, participations, error) <= expected * (1 + 1e-6)


@pytest.mark.parametrize("steps, participations, banded, one_buffer", [(256, 1, .40, .244), (2052, 8, .37, .129)])
def test_errors_relative_to_independent_noise(steps, participations, banded, one_buffer):
    case = steps, steps // participations, participations
    assert _relative(optimal_toeplitz(steps, 8), *case) == pytest.approx(banded, abs=.005)
    buffered = optimal_buffered(steps, 1, *case[1:])
    assert _relative(buffered, *case) == pytest.approx(one_buffer, abs=.001)
    assert _relative(buffered, *case) < _relative(decaying(0.9), *case) < 0.32
    inverse = optimal_inverse(steps, 4, *case[1:])
    assert _relative(inverse, *case) < _relative(inverse_square_root(4), *case)


def test_prefix_sums_serve_momentum_too():
    """Coefficients for plain sums lose at most 4% against the square root made for momentum 0.9."""
    ours, theirs = optimal_toeplitz(1024, 8), square_root(8, momentum=0.9)
    with_momentum = [total_error(s, 1024, 1024, 1, momentum=0.9) for s in (ours, theirs)]
    assert with_momentum[0] < 1.04 * with_momentum[1]


def test_degenerate_sizes():
    assert optimal_toeplitz(1, 1) == Toeplitz((1.0,))
    assert optimal_inverse(5, 1, 1, 1).coefficients == (1.0,)
    assert isinstance(optimal_buffered(2, 1, 2, 1), Buffered)
    assert optimal_toeplitz(3, 3).bands == 3


@pytest.mark.parametrize("call, message", [
    (lambda: optimal_toeplitz(4, 5), "bands must be an int from 1 to 4"),
    (lambda: optimal_toeplitz(4, 2, "median"), "error must be"),
    (lambda: optimal_buffered(1, 1, 1, 1), "steps must be"),
    (lambda: optimal_buffered(10, 0, 1, 1), "buffers must be"),
    (lambda: square_root(0), "bands must be"),
    (lambda: square_root(3, momentum=1.0), "momentum must be"),
    (lambda: square_root(3, decay=0.0), "decay must be"),
    (lambda: total_error(Toeplitz((1.0,)), 5, 1, 1, "worst"), "error must be"),
])
def test_arguments_are_checked(call, message):
    with pytest.raises(ValueError, match=message):
        call()
