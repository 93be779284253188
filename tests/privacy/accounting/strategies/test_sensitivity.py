"""Sensitivity of strategies: reference values, and every participation pattern of small cases."""
import csv
import json
import pathlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from participation import enumerated, once_per_epoch_patterns, spaced_patterns, toeplitz_matrix

from mindarmour.privacy.accounting.strategies import (
    Buffered,
    InverseToeplitz,
    Toeplitz,
    matrix_sensitivity,
    square_root,
    total_error,
)
from mindarmour.privacy.accounting.strategies.sensitivity import reshuffled_energy, spaced_energy

# a sample by reason: every mechanism, short and long runs, one epoch and eight, all rows of the small enumerable cases
_ROWS = list(csv.DictReader((pathlib.Path(__file__).parent / "strategies_oracle.csv").open()))
_STEPS = st.integers(1, 9)


def _strategy(params, steps):
    if "theta" in params:
        return Buffered(params["theta"], params["omega"])
    if "noising_coef" in params:
        return InverseToeplitz(params["noising_coef"])
    return Toeplitz(params["coef"]) if "coef" in params else square_root(steps)


def _answer(row):
    steps, participations, min_sep = (int(row[name]) for name in ("n", "k", "min_sep"))
    params, quantity = json.loads(row["params"]), row["quantity"]
    if row["mechanism"] in ("dense", "signed", "toeplitz"):
        matrix = np.array(params["matrix"]) if "matrix" in params else toeplitz_matrix(params["coef"], steps)
        if quantity == "sensitivity_enumerated":
            return enumerated(matrix, spaced_patterns(steps, min_sep, participations))
        return matrix_sensitivity(matrix, min_sep, participations)
    strategy, workload = _strategy(params, steps), {}
    if "beta" in params:
        workload = {"momentum": params["beta"], "decay": params["alpha"]}
    if quantity.startswith("colnorm"):
        return _normalised(strategy, steps, min_sep, participations, quantity)
    errors = strategy.squared_errors(steps, **workload)
    return {"column_norm": lambda: strategy.column_norm(steps),
            "sensitivity": lambda: strategy.sensitivity(steps, min_sep, participations),
            "mean_sq_error": errors.mean, "max_sq_error": errors.max,
            "rmse_loss": lambda: total_error(strategy, steps, min_sep, participations, **workload),
            "max_loss": lambda: total_error(strategy, steps, min_sep, participations, "max", **workload)}[quantity]()


def _normalised(strategy, steps, min_sep, participations, quantity):
    """The strategy with columns of norm 1."""
    matrix = toeplitz_matrix(strategy.column(steps), steps)
    matrix = matrix / np.linalg.norm(matrix, axis=0)
    if quantity == "colnorm_sensitivity":
        return matrix_sensitivity(matrix, min_sep, participations)
    errors = np.linalg.norm(np.linalg.solve(matrix.T, np.tril(np.ones((steps, steps))).T), axis=0) ** 2
    return errors.mean() if quantity == "colnorm_mean_sq_error" else errors.max()


def test_reference_values():
    checked = 0
    for row in _ROWS:
        if row["quantity"] == "inverse":
            params, expected = json.loads(row["params"]), json.loads(row["value"])
            decay, scale = Buffered(params["theta"], params["omega"]).inverse()
            np.testing.assert_allclose(decay, expected["theta"], rtol=1e-6)
            np.testing.assert_allclose(scale, expected["omega"], rtol=1e-6, atol=1e-12)
        else:
            assert _answer(row) == pytest.approx(float(row["value"]), rel=float(row["rel_tol"])), row["case"]
        checked += 1
    assert checked > 300


@st.composite
def falling_columns(draw):
    """Non-negative, non-increasing coefficients, ties and zeros included."""
    steps = draw(_STEPS)
    shares = draw(st.lists(st.sampled_from([0.0, 0.3, 0.5, 0.9, 1.0]), max_size=steps - 1))
    return tuple(np.cumprod([draw(st.sampled_from([0.2, 1.0, 3.0])), *shares])), steps


@settings(max_examples=150, deadline=None)
@given(falling_columns(), st.integers(1, 9), st.integers(1, 9))
def test_toeplitz_is_exact(case, min_sep, participations):
    column, steps = case
    expected = enumerated(toeplitz_matrix(column, steps), spaced_patterns(steps, min_sep, participations))
    assert Toeplitz(column).sensitivity(steps, min_sep, participations) == pytest.approx(expected, rel=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 9), st.integers(1, 4), st.integers(1, 5), st.integers(0, 10 ** 6), st.booleans())
def test_any_matrix_is_bounded(steps, min_sep, participations, seed, signed):
    values = np.random.default_rng(seed).normal(size=(steps, steps))
    matrix = np.tril(values if signed else np.abs(values))
    expected = enumerated(matrix, spaced_patterns(steps, min_sep, min(participations, steps)))
    assert matrix_sensitivity(matrix, min_sep, participations) >= expected * (1 - 1e-12)


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 9), st.integers(1, 5), st.integers(1, 5), st.integers(0, 10 ** 6))
def test_any_banded_matrix_is_exact(steps, bands, participations, seed):
    values = np.random.default_rng(seed).normal(size=(steps, steps))
    matrix = np.triu(np.tril(values), 1 - bands)
    expected = enumerated(matrix, spaced_patterns(steps, bands, min(participations, steps)))
    assert matrix_sensitivity(matrix, bands, participations) == pytest.approx(expected, rel=1e-12)


@settings(max_examples=80, deadline=None)
@given(falling_columns(), st.lists(st.integers(1, 4), min_size=1, max_size=4))
def test_reshuffled_bound_holds_for_passes_of_any_length(case, lengths):
    column, _ = case
    steps = sum(lengths)
    matrix = toeplitz_matrix(column, steps)
    bound = np.sqrt(reshuffled_energy(Toeplitz(column).column(steps), lengths))
    assert bound >= enumerated(matrix, once_per_epoch_patterns(lengths)) * (1 - 1e-12)


@settings(max_examples=60, deadline=None)
@given(falling_columns(), st.lists(st.integers(1, 4), min_size=1, max_size=4))
def test_fixed_order_is_exact_for_passes_of_any_length(case, lengths):
    """A record at place p takes part in each pass that reaches p; place 0 is the worst."""
    column, _ = case
    steps, starts = sum(lengths), np.concatenate([[0], np.cumsum(lengths)[:-1]])
    patterns = [tuple(start + place for start, length in zip(starts, lengths) if length > place)
                for place in range(max(lengths))]
    expected = enumerated(toeplitz_matrix(column, steps), patterns)
    assert np.sqrt(spaced_energy(Toeplitz(column).column(steps), starts)[-1]) == pytest.approx(expected, rel=1e-12)


def test_once_an_epoch_costs_more_than_a_fixed_order():
    strategy = Buffered((0.95,), (0.95,))
    fixed = strategy.sensitivity(2048, 256, 8)
    assert 1.3 * fixed < strategy.reshuffled_sensitivity(2048, 256) < 1.7 * fixed
    assert strategy.reshuffled_sensitivity(256, 256) == pytest.approx(strategy.column_norm(256))


def test_sensitivity_of_every_prefix():
    strategy = Toeplitz((1.0, 0.6, 0.3, 0.1))
    by_step = strategy.sensitivity_by_step(60, 7, 5)
    assert np.all(np.diff(by_step) >= 0)
    assert by_step == pytest.approx([strategy.sensitivity(steps, 7, 5) for steps in range(1, 61)])
    # with no more bands than min_sep, whole epochs cost as much as as many separate ones
    assert [strategy.sensitivity(7 * k, 7, k) ** 2 for k in (1, 2, 5)] == pytest.approx(
        [k * strategy.column_norm(7) ** 2 for k in (1, 2, 5)])
    assert strategy.sensitivity(100, 2, 50) > np.sqrt(50) * strategy.column_norm(100)


@pytest.mark.parametrize("momentum, decay", [(0.0, 1.0), (0.9, 1.0), (0.0, 0.99), (0.9, 0.99)])
def test_squared_errors_are_those_of_sgd(momentum, decay):
    strategy, steps = Toeplitz((1.0, 0.5, 0.4)), 12
    noise = np.linalg.inv(toeplitz_matrix(strategy.column(steps), steps))
    weights, velocity, rows = np.zeros(steps), np.zeros(steps), []
    for row in noise:
        velocity = momentum * velocity + row
        weights = decay * weights + velocity
        rows.append(weights @ weights)
    assert strategy.squared_errors(steps, momentum, decay) == pytest.approx(rows)


@pytest.mark.parametrize("matrix", [np.ones((2, 3)), np.ones((3, 3)), np.full((2, 2), np.nan), np.ones(3)])
def test_matrix_is_checked(matrix):
    with pytest.raises(ValueError, match="matrix must be"):
        matrix_sensitivity(matrix, 1, 1)


@pytest.mark.parametrize("arguments", [(0, 1, 1), (5, 0, 1), (5, 1, 0), (5, -1, 1)])
def test_participation_is_checked(arguments):
    with pytest.raises(ValueError, match="at least 1"):
        Toeplitz((1.0,)).sensitivity(*arguments)
    with pytest.raises(TypeError, match="an int"):
        Toeplitz((1.0,)).sensitivity(5, 1.5, 1)
