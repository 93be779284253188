"""The exact samplers: their laws against exact probabilities, and that every whole number near the centre comes out."""
import math

import numpy as np
import pytest
from scipy import stats

from mindarmour.privacy.release.discrete import bernoulli_exp, discrete_gaussian, discrete_laplace, geometric
from mindarmour.utils.secure_random import SecureStream, derive_key

COUNT = 60_000
WRONG = pytest.mark.parametrize("wrong, accepted", [(1.0, True), (0.95, False), (1.05, False)])


def _stream(*parts):
    return SecureStream(derive_key("discrete", *parts))


def _fits(sample, weights):
    """Whether the counts of the whole numbers fit the weights from -len // 2 on; what lies outside is put together."""
    half = len(weights) // 2
    seen = np.bincount(np.clip(sample, -half, half) + half, minlength=len(weights))
    expected = weights / weights.sum() * len(sample)
    large = expected > 8
    seen, expected = [np.append(part[large], part[~large].sum()) for part in (seen, expected)]
    expected[-1] = max(expected[-1], 1e-9)
    if expected[-1] < 1 and seen[-1] < 10:
        seen, expected = seen[:-1], expected[:-1]
    return stats.chisquare(seen, expected * seen.sum() / expected.sum()).pvalue > 1e-4


@WRONG
@pytest.mark.parametrize("scale", [1, 3, 7])
def test_discrete_laplace_has_the_exact_law(scale, wrong, accepted):
    sample = discrete_laplace(scale, COUNT, _stream("laplace", scale))
    assert _fits(sample, np.exp(-np.abs(np.arange(-300, 301)) / (wrong * scale))) == accepted


@WRONG
@pytest.mark.parametrize("stddev", [1, 3, 8])
def test_discrete_gaussian_has_the_exact_law(stddev, wrong, accepted):
    sample = discrete_gaussian(stddev, COUNT, _stream("gaussian", stddev))
    assert _fits(sample, np.exp(-np.arange(-200.0, 201.0) ** 2 / (2 * (wrong * stddev) ** 2))) == accepted


@pytest.mark.parametrize("scale, draw, law", [
    (2 ** 40 + 12345, discrete_laplace, stats.laplace), (2 ** 52, discrete_laplace, stats.laplace),
    (2 ** 24 + 77, discrete_gaussian, stats.norm), (2 ** 26, discrete_gaussian, stats.norm)])
def test_large_scales_look_like_the_continuous_law(scale, draw, law):
    sample = draw(scale, 20_000, _stream("large", scale))
    assert stats.kstest(sample / scale, law.cdf).pvalue > 1e-4
    low = sample % 16  # the low bits are uniform, for magnitudes however large
    assert stats.chisquare(np.bincount(low, minlength=16)).pvalue > 1e-4
    far = sample[np.abs(sample) > 2 * scale] % 16
    assert stats.chisquare(np.bincount(far, minlength=16)).pvalue > 1e-4


@pytest.mark.parametrize("numerator, denominator", [(0, 1), (1, 1), (1, 3), (2 ** 40, 2 ** 41)])
def test_bernoulli_exp_has_the_exact_probability(numerator, denominator):
    hits = bernoulli_exp(np.full(40_000, numerator), denominator, _stream("bernoulli", numerator, denominator)).sum()
    assert stats.binomtest(int(hits), 40_000, math.exp(-numerator / denominator)).pvalue > 1e-4


def test_geometric_counts_successes_before_the_first_failure():
    sample = geometric(40_000, _stream("geometric"))
    expected = (1 - math.exp(-1)) * np.exp(-np.arange(8.0)) * 40_000
    seen = np.bincount(np.minimum(sample, 8), minlength=9)
    assert stats.chisquare(seen, np.append(expected, 40_000 - expected.sum())).pvalue > 1e-4


@pytest.mark.parametrize("draw, bad", [(discrete_laplace, 0), (discrete_laplace, 2 ** 52 + 1), (discrete_gaussian, 0),
                                       (discrete_gaussian, 2 ** 26 + 1)])
def test_refuses_scales_that_integers_cannot_carry(draw, bad):
    with pytest.raises(ValueError, match="must be an int from 1"):
        draw(bad, 3, _stream("bad"))
