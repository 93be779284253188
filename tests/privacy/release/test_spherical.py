"""Exactly rounded continuous noise: its law, both signs alike, and bounds that enclose whatever bits are known."""
import decimal
import math
from decimal import Decimal

import numpy as np
import pytest
from scipy import stats

from mindarmour.privacy.release.spherical import _Interval, _Uniform, normal_steps, spherical_steps
from mindarmour.utils.secure_random import SecureStream, derive_key


def _stream(*parts):
    return SecureStream(derive_key("spherical", *parts))


@pytest.mark.parametrize("wrong, accepted", [(1.0, True), (0.8, False), (1.25, False)])
@pytest.mark.parametrize("bits", [8, 192])
def test_the_law_does_not_depend_on_the_first_bits(bits, wrong, accepted):
    stream = _stream("law", bits)
    normals = np.concatenate([normal_steps(20, 50.0, stream, bits) for _ in range(60)])
    assert (stats.kstest(normals + 0.5, stats.norm(scale=wrong * 50).cdf).pvalue > 1e-3) == accepted
    radii = [np.linalg.norm(spherical_steps(3, 50.0, stream, bits) + 0.5) for _ in range(700)]
    assert (stats.kstest(radii, stats.gamma(3, scale=wrong * 50).cdf).pvalue > 1e-3) == accepted


def test_floors_of_both_signs_are_alike():
    steps = np.concatenate([normal_steps(50, 1.0, _stream("signs", i)) for i in range(60)])
    seen = np.bincount(np.clip(steps, -4, 3).astype(int) + 4, minlength=8)
    cells = np.diff(stats.norm.cdf([-math.inf, -3, -2, -1, 0, 1, 2, 3, math.inf]))
    assert stats.chisquare(seen, cells * len(steps)).pvalue > 1e-4


def test_one_dimension_is_the_laplace_law():
    steps = np.concatenate([spherical_steps(1, 30.0, _stream("one", i)) for i in range(1500)])
    assert stats.kstest(steps + 0.5, stats.laplace(scale=30).cdf).pvalue > 1e-3


def test_intervals_enclose():
    with decimal.localcontext() as context:
        context.prec = 30
        third, unit = Decimal(1) / 3, Decimal("1e-12")
        narrow = _Interval(third - unit, third + unit)
        with decimal.localcontext() as fine:
            fine.prec = 60
            exact = Decimal(1) / 3
            wanted = [(narrow.root(), exact.sqrt()), (narrow.minus_log(), -exact.ln()), (narrow * narrow, exact ** 2),
                      (narrow + narrow, 2 * exact), (narrow.over(narrow), Decimal(1))]
        for interval, value in wanted:
            assert interval.low < value < interval.high
            assert interval.high - interval.low < Decimal("1e-10")


def test_refining_keeps_the_bits_that_are_known():
    with decimal.localcontext() as context:
        context.prec = 60
        uniform = _Uniform(_stream("refine"), 8)
        before = uniform.interval()
        uniform.refine(64)
        after = uniform.interval()
    assert before.low <= after.low < after.high <= before.high
    assert after.high - after.low < before.high - before.low
