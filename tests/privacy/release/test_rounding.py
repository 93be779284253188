"""The lattice: neighbours share their support, and the noise covers what rounding adds."""
import math
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from mindarmour.privacy.release import rounding
from mindarmour.privacy.release.rounding import (
    discretisation,
    grid_step,
    round_to,
    steps_of_sensitivity,
    with_gaussian_noise,
    with_laplace_noise,
)
from mindarmour.utils.secure_random import SecureStream, derive_key


def _drawn(monkeypatch, name, call):
    """Scales that the sampler `name` was asked for, in steps."""
    asked = []
    monkeypatch.setattr(rounding, name, lambda scale, size, stream: (asked.append(scale), np.zeros(size, int))[1])
    call()
    return asked[0]


@pytest.mark.parametrize("sensitivity, epsilon", [(1.0, 0.1), (0.3, 1 / 3), (7e-5, 5.0), (1e10, 0.7)])
@pytest.mark.parametrize("coordinates", [1, 10, 10 ** 6])
def test_laplace_pays_for_the_distance_in_whole_steps(sensitivity, epsilon, coordinates, monkeypatch):
    scale = _drawn(monkeypatch, "discrete_laplace", lambda: with_laplace_noise(
        np.zeros(3), sensitivity, epsilon, coordinates, SecureStream()))
    distance = math.ceil(Fraction(sensitivity) / Fraction(grid_step(sensitivity / epsilon))) + coordinates
    assert Fraction(distance, scale) <= Fraction(epsilon)  # exact: the log-ratio of any two neighbours' probabilities
    assert Fraction(distance, scale - 1) > Fraction(epsilon)


@pytest.mark.parametrize("multiplier", [0.05, 1.0, 40.0])
@pytest.mark.parametrize("coordinates", [1, 10 ** 5, 10 ** 9])
def test_gaussian_noise_covers_rounding_and_discretisation(multiplier, coordinates, monkeypatch):
    sensitivity = 0.3
    stddev = _drawn(monkeypatch, "discrete_gaussian", lambda: with_gaussian_noise(
        np.zeros(3), sensitivity, multiplier, coordinates, SecureStream()))
    step = grid_step(sensitivity * multiplier, rounding.GAUSSIAN_BITS)
    slack = 2 * discretisation(coordinates, stddev) * (1 + 2.6 * multiplier)
    least = (sensitivity / step + math.sqrt(coordinates)) * multiplier * (1 + slack / 2)
    assert least <= stddev <= 1.01 * least + 1


@pytest.mark.parametrize("first", [0.0, 0.1, 1 / 3, -5.7])
def test_rounding_moves_two_neighbours_by_at_most_one_step_more(first):
    step = 2.0 ** -30
    for second in first + np.random.default_rng(0).uniform(-1, 1, 200):
        moved = abs(Fraction(round_to(first, step).item()) - Fraction(round_to(second, step).item()))
        assert moved / Fraction(step) <= steps_of_sensitivity(abs(float(Fraction(first) - Fraction(second))), step, 1)


@pytest.mark.parametrize("noise, cut", [(with_laplace_noise, 4.0), (with_gaussian_noise, 2.5)])
def test_the_low_bits_of_tail_results_do_not_tell_which_neighbour_was_noised(noise, cut):
    # with 52-bit uniforms most grid points of the tail were out of reach, and 59 of 60 releases were identified
    stream = SecureStream(derive_key("tail", noise.__name__))
    for value in (0.0, 1.0 / 3):
        out = noise(np.full(200_000, value), 1.0, 1.0, 1, stream)
        step = grid_step(1.0, rounding.LAPLACE_BITS if noise is with_laplace_noise else rounding.GAUSSIAN_BITS)
        tail = out[np.abs(out - value) > cut]
        steps = np.rint(tail / step).astype(np.int64)
        assert (steps * step == tail).all()
        assert stats.chisquare(np.bincount(steps % 32, minlength=32)).pvalue > 1e-4
