"""Factors of flat clipping against their formula."""
import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor

from mindarmour.privacy.diff_privacy.clipping.rules import FlatClipping


@pytest.fixture(autouse=True)
def eager():
    ms.set_context(mode=ms.PYNATIVE_MODE)


def factors_of(squares, bound):
    factors, _ = FlatClipping()(tuple(Tensor(np.asarray(square, np.float32)) for square in squares),
                                Tensor(bound, ms.float32))
    return [factor.asnumpy() for factor in factors]


def test_factor_is_the_bound_by_the_norm_and_never_above_one():
    norms = np.float32([1e-9, 0.1, 0.7, 0.7001, 1e4])
    for factor in factors_of((norms ** 2 * 0.36, norms ** 2 * 0.64), 0.7):
        np.testing.assert_allclose(factor, np.minimum(1, 0.7 / norms), rtol=1e-5)


def test_a_unit_that_is_not_finite_gets_zero():
    for factor in factors_of(([np.nan, np.inf, 1.0], [1.0, 1.0, 1.0]), 0.7):
        assert (factor[:2] == 0).all() and factor[2] > 0
