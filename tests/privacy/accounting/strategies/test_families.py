"""Strategies refuse coefficients that no formula covers, and name the first one."""
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from participation import toeplitz_matrix

from mindarmour.privacy.accounting.strategies import (
    Buffered,
    InverseToeplitz,
    Toeplitz,
    decaying,
    inverse_square_root,
    square_root,
)


@pytest.mark.parametrize("cls, values, message", [
    (Toeplitz, (), "at least one number"),
    (Toeplitz, "1", "sequence of numbers"),
    (Toeplitz, 1.0, "sequence of numbers"),
    (Toeplitz, (0.0, 0.0), r"coefficients\[0\] must be above 0"),
    (Toeplitz, (-1.0,), r"coefficients\[0\] must be above 0"),
    (Toeplitz, (1.0, 0.5, 0.6, 0.7), r"coefficients\[2\] must not be above coefficients\[1\]"),
    (Toeplitz, (1.0, 0.5, -0.1, -0.2), r"coefficients\[2\] must not be negative"),
    (Toeplitz, (1.0, math.nan), r"coefficients\[1\] must be a finite"),
    (Toeplitz, (math.inf, 1.0), r"coefficients\[0\] must be a finite"),
    (Toeplitz, (1.0, True), r"coefficients\[1\] must be a number"),
    (Toeplitz, (1.0, "0.5"), r"coefficients\[1\] must be a number"),
    (InverseToeplitz, (0.0, -0.1), r"coefficients\[0\] must be above 0"),
    (InverseToeplitz, (1.0, -0.5, 0.1), r"coefficients\[2\] must not be above 0"),
    (InverseToeplitz, (1.0, -1.5), r"c\[1\] = 1.5"),
    (InverseToeplitz, (1.0, 0.0, -0.5), r"c\[2\] = 0.5 above"),
])
def test_first_bad_coefficient_is_named(cls, values, message):
    with pytest.raises((ValueError, TypeError), match=message):
        cls(values)


@pytest.mark.parametrize("decay, scale, message", [
    ((0.5,), (0.2, 0.1), "as many values as decay"),
    ((1.1,), (0.1,), r"decay\[0\] must be in \(0, 1\]"),
    ((0.5, 0.5), (0.1, 0.1), r"decay\[1\] must be below decay\[0\]"),
    ((0.9, 0.5), (0.1, 0.0), r"scale\[1\] must be above 0"),
    ((0.9, 0.5), (0.6, 0.5), r"scale\[1\] must leave the sum at most 1"),
    ((0.9,), (-0.1,), r"scale\[0\] must be above 0"),
    ((math.nan,), (0.1,), r"decay\[0\] must be a finite"),
])
def test_buffered_names_the_first_bad_value(decay, scale, message):
    with pytest.raises(ValueError, match=message):
        Buffered(decay, scale)


@pytest.mark.parametrize("strategy", [
    Toeplitz([1, 0.5, np.float32(0.25)]), Toeplitz((2.0,)), Toeplitz((1.0, 1.0, 1.0)), square_root(7, 0.9, 0.99),
    inverse_square_root(5), inverse_square_root(5, 0.9), InverseToeplitz((2.0, -1.0, -0.2)), decaying(0.9),
    Buffered((0.99, 0.5), (0.1, 0.4)), Buffered((1.0, 0.3), (0.5, 0.5)), Buffered((0.2,), (0.9,))])
def test_columns_are_inverse_to_each_other_and_fall(strategy):
    steps = 40
    column = strategy.column(steps)
    assert np.all(column >= 0)
    assert np.all(np.diff(column) <= 1e-12)
    product = toeplitz_matrix(column, steps) @ toeplitz_matrix(strategy.inverse_column(steps), steps)
    np.testing.assert_allclose(product, np.eye(steps), atol=1e-12)
    assert strategy.column_norm(steps) == pytest.approx(np.linalg.norm(column))
    assert hash(strategy) == hash(eval(repr(strategy)))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_accepted_inverses_give_falling_columns_forever(shares):
    """What `_refuse_growth` proves from the first coefficients, checked over many."""
    try:
        strategy = InverseToeplitz((1.0, *(-share for share in shares)))
    except ValueError:
        return
    column = strategy.column(200)
    assert np.all(np.diff(column) <= 1e-9)
    assert np.all(column >= 0)


def test_bands():
    assert Toeplitz((1.0, 0.5, 0.0)).bands == 3
    assert InverseToeplitz((3.0,)).bands == 1
    assert InverseToeplitz((3.0, -0.1)).bands == math.inf == decaying(0.5).bands


def test_decaying_is_geometric():
    np.testing.assert_allclose(decaying(0.9).column(20), 0.9 ** np.arange(20))
    np.testing.assert_allclose(decaying(0.9).inverse_column(5), [1, -0.9, 0, 0, 0], atol=1e-15)
    with pytest.raises(ValueError, match="rate must be"):
        decaying(1.0)
