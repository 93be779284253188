"""The vectorised sparse vector technique equals the loop that was proven; its noise has the stated scale."""
from collections import Counter

import numpy as np
import pytest
from scipy import stats

from mindarmour.privacy.accounting.curves.mechanisms import epsilon_of_sparse_vector
from mindarmour.privacy.release.rounding import grid_step, inflated, round_to
from mindarmour.privacy.release.sparse_vector import (
    PublishedSparseVector,
    SparseVector,
    first_in_random_order,
    passing,
)
from mindarmour.utils.secure_random import SecureStream, derive_key


def _stream(*parts):
    return SecureStream(derive_key("sparse vector", *parts))


def _one_by_one(technique, values, count, rng):
    """Algorithm 7 of Lyu et al. 2017 as a plain loop over a random order."""
    half = technique.sensitivity / 2
    threshold = technique.threshold + rng.laplace(scale=half / technique.eps_threshold)
    released = []
    for place in rng.permutation(len(values)):
        magnitude = min(abs(values[place]), technique.clip)
        if magnitude + rng.laplace(scale=2 * count * half / technique.eps_query) >= threshold:
            released.append(place)
            if len(released) == count:
                break
    return tuple(sorted(released))


def test_selects_like_the_loop_one_by_one():
    technique = SparseVector(2.0, 6.0, 1.0, 1.0, 0.5, 0.3)
    values, count, runs = np.array([0.5, -0.4, 0.1, 0.0]), 2, 6000
    stream, rng = _stream("loop"), np.random.default_rng(3)
    ours = Counter(tuple(technique.select(values, count, stream)) for _ in range(runs))
    loop = Counter(_one_by_one(technique, values, count, rng) for _ in range(runs))
    outcomes = [key for key in set(ours) | set(loop) if ours[key] + loop[key] >= 20]
    table = np.array([[ours[key] for key in outcomes], [loop[key] for key in outcomes]])
    assert len(outcomes) >= 8
    assert stats.chi2_contingency(table).pvalue > 1e-4


@pytest.mark.parametrize("wrong, accepted", [(1.0, True), (0.7, False), (1.3, False)])
def test_selected_fraction_shows_the_scale_of_the_comparison_noise(wrong, accepted):
    count, size, eps_query, eps_threshold = 3000, 20_000, 9000.0, 1e6
    technique = SparseVector(eps_threshold, eps_query, 1.0, 1.0, 0.5, 0.3)
    step = 2.0 ** -40
    passed = passing(np.zeros(size), 0.5, step, round(0.3 / step), round(2 * count * 0.5 / eps_query / step),
                     _stream("fraction"))
    expected = stats.laplace(scale=wrong * 2 * count * 0.5 / eps_query).sf(0.3)
    assert (stats.binomtest(len(passed), size, expected).pvalue > 1e-4) == accepted
    assert len(technique.select(np.zeros(size), count, _stream("cut"))) == count


def test_threshold_noise_is_drawn_once_for_the_whole_visit():
    technique = SparseVector(0.5, 1e9, 1.0, 1.0, 0.5, 0.3)
    stream = _stream("threshold")
    sizes = [len(technique.select(np.full(50, 0.2), 49, stream)) for _ in range(600)]
    assert set(sizes) == {0, 49}
    expected = stats.laplace(scale=0.5 / 0.5).cdf(-0.1)
    assert stats.binomtest(sizes.count(49), 600, expected).pvalue > 1e-4


@pytest.mark.parametrize("wrong, accepted", [(1.0, True), (0.7, False), (1.3, False)])
def test_released_noise_has_the_stated_scale(wrong, accepted):
    count, eps_release = 5000, 1e6
    technique = SparseVector(1.0, 1.0, eps_release, 1.0, 0.5, 0.1)
    noise = technique.release(np.full(count, 0.1), count, _stream("release")) - 0.1
    law = stats.laplace(scale=wrong * count * 1.0 / eps_release)
    assert (stats.kstest(noise, law.cdf).pvalue > 1e-3) == accepted


def test_releases_are_clipped_before_and_after_the_noise():
    technique = SparseVector(1.0, 1.0, 1e4, 1.0, 0.5, 0.1)
    out = technique.release(np.array([1e6] * 2000), 10, _stream("clip"))
    assert out.max() == 0.5
    assert 0.4 < (out == 0.5).mean() < 0.6  # half of the noise is positive: the value was at 0.5, not 1e6


def test_published_form_noises_the_unclipped_value():
    technique = PublishedSparseVector(1.0, 1.0, 1e4, 1.0, 0.5, 0.1)
    assert (technique.release(np.array([1e6] * 2000), 10, _stream("published")) == 0.5).all()


def test_published_form_goes_round_until_the_count_is_reached():
    technique = PublishedSparseVector(50.0, 200.0, 1.0, 1.0, 0.5, 0.2)
    chosen = technique.select(np.zeros(40), 20, _stream("round"))
    assert len(chosen) == len(set(chosen)) == 20


def test_first_in_random_order_is_uniform():
    stream = _stream("uniform")
    seen = np.zeros(6)
    for _ in range(3000):
        seen[first_in_random_order(np.arange(6), 2, stream)] += 1
    assert seen.sum() == 6000
    assert stats.chisquare(seen).pvalue > 1e-4


def test_release_lies_on_the_grid():
    technique = SparseVector(1.0, 1.0, 3.0, 1.0, 0.5, 0.1)
    step = grid_step(4 * 1.0 / 3.0)
    out = technique.release(np.random.default_rng(0).uniform(-0.5, 0.5, 1000), 4, _stream("grid"))
    inner = out[np.abs(out) < 0.5]
    assert len(inner) > 10
    assert (inner / step == np.rint(inner / step)).all()


@pytest.mark.parametrize("count, eps", [(1, (0.5, 1.0, 2.0)), (40, (3.0, 0.2, 1.0))])
def test_scales_cost_what_theorem_4_says(count, eps):
    threshold, query, release = SparseVector(*eps, sensitivity=1.0, clip=0.5, threshold=0.1).scales(count)
    # the accountant's formula takes one sensitivity: that of the magnitudes, half of the values'
    spent = epsilon_of_sparse_vector(threshold, query, count, 0.5, release_scale=release / 2)
    assert spent == pytest.approx(sum(eps))


def test_rounding_moves_no_value_by_more_than_the_sensitivity_grows():
    rng = np.random.default_rng(5)
    first, second = rng.normal(size=(2, 50, 1000))
    step = 0.01
    for order in (1, 2):
        before = np.linalg.norm(first - second, ord=order, axis=0)
        after = np.linalg.norm(round_to(first, step) - round_to(second, step), ord=order, axis=0)
        assert (after <= inflated(before, step, 50, order)).all()
        assert (after > before).any()


def test_a_magnitude_above_the_clip_passes_as_often_as_one_at_the_clip():
    step = 2.0 ** -40
    shares = [len(passing(np.full(20_000, value), 0.5, step, round(0.6 / step), round(0.3 / step), _stream("R17", i)))
              / 20_000 for i, value in enumerate((0.5, 50.0, -50.0))]
    assert shares == pytest.approx([shares[0]] * 3, abs=0.025)
