"""How far one record moves `C G`, the matrix product whose noisy release stands for a whole run.

A record takes part in some steps; in each of them it moves the clipped sum by at most one clipping bound, in any
direction. Everything here is the L2 norm of what that does to `C G`, divided by the bound, under zero-out. Replacing
a record moves twice as much.

The Toeplitz formulas need a first column that is non-negative and does not increase; `families` enforces it.

References:
    Denisov et al. 2022, "Improved differential privacy for SGD via optimal private linear operators on adaptive
    streams", theorem 2.1 (adaptive gradients). Choquette-Choo et al. 2023, "(Amplified) banded matrix
    factorization". Kalinin, Lampert 2024, "Banded square root matrix factorization", theorem 2 (arXiv 2405.13763):
    evenly spaced participations from the first step on are the worst ones.
"""
from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from itertools import combinations

import numpy as np

from mindarmour.privacy.accounting.strategies.filters import fftconvolve
from mindarmour.utils import _validate

# Up to so many participations sums are added up one by one; beyond, by Fourier transform and rounded up.
_FEW = 64
_ROUNDED_UP = 1 + 1e-9


def spaced_energy(column: np.ndarray, starts: Sequence[int]) -> np.ndarray:
    """Squared sensitivity after each step of a Toeplitz strategy to a record that takes part in the steps `starts`.

    A run that stops after t steps used the leading t x t block of the strategy, so one pass answers for every t.

    Args:
        column (numpy.ndarray): First column of the strategy, [steps].
        starts (sequence[int]): Steps, from 0, in which the record takes part.

    Returns:
        numpy.ndarray, [steps]: entry t - 1 belongs to a run of t steps.
    """
    steps = len(column)
    moved = np.zeros(steps)
    for start in starts:
        if start < steps:
            moved[start:] += column[:steps - start]
    return np.cumsum(moved ** 2)


def energy_of_starts(column: np.ndarray, starts: Sequence[int]) -> float:
    """Last entry of `spaced_energy`, quickly for any number of starts."""
    if len(starts) <= _FEW:
        return float(spaced_energy(column, starts)[-1])
    taken = np.zeros(len(column))
    taken[[start for start in starts if start < len(column)]] = 1.0
    moved = fftconvolve(taken, column)[:len(column)]
    return float(moved @ moved) * _ROUNDED_UP


def spaced_starts(steps: int, min_sep: int, participations: int) -> range:
    """The worst participations, at most `participations` of them and at least `min_sep` steps apart."""
    count = min(participations, math.ceil(steps / min_sep))
    return range(0, count * min_sep, min_sep)


def reshuffled_energy(column: np.ndarray, lengths: Sequence[int]) -> float:
    """Upper bound on the squared sensitivity to a record that takes part once a pass, anywhere in it.

    Two passes i < j put its steps at least (first step of j) - (last step of i) apart, and the inner product of two
    columns falls with their distance.

    Args:
        column (numpy.ndarray): First column of the strategy, as long as the passes together.
        lengths (sequence[int]): Steps of each pass, in order.

    Returns:
        float.
    """
    ends = np.cumsum(lengths)
    own = len(lengths) * float(column @ column)
    if len(lengths) > _FEW:
        return (own + 2 * _many_gaps(column, ends)) * _ROUNDED_UP
    gaps = Counter(int(ends[j - 1] - ends[i]) + 1 for i, j in combinations(range(len(lengths)), 2))
    return own + 2 * sum(count * _correlation(column, gap) for gap, count in gaps.items())


def _many_gaps(column, ends):
    """Inner products of all pairs of passes: how many pairs are how far apart, times the autocorrelation."""
    steps = len(column)
    first, after = np.zeros(steps + 1), np.zeros(steps + 1)
    first[np.concatenate([[0], ends[:-1]])] = 1.0
    after[ends] = 1.0
    pairs = np.rint(fftconvolve(first, after[::-1])[steps:2 * steps])  # by first step minus end of the earlier pass
    correlations = np.append(fftconvolve(column, column[::-1])[steps:], 0.0)  # at distances 1, 2, ...
    return float(pairs @ np.maximum(correlations, 0.0)[:len(pairs)])


def _correlation(column: np.ndarray, distance: int) -> float:
    """Inner product of two columns of a Toeplitz matrix, the first of them the first column."""
    return float(column[:len(column) - distance] @ column[distance:])


def best_spaced(values: np.ndarray, count: int, min_sep: int) -> float:
    """Largest sum of at most `count` of some non-negative values, any two chosen at least `min_sep` places apart."""
    best = np.zeros(len(values) + min_sep)
    for _ in range(count):
        taken = values + best[min_sep:min_sep + len(values)]
        best[:len(values)] = np.maximum.accumulate(taken[::-1])[::-1]
    return float(best[0])


def matrix_sensitivity(matrix: np.ndarray, min_sep: int, participations: int) -> float:
    """Upper bound on the sensitivity of any lower triangular strategy, signed or not.

    Args:
        matrix (array_like): The strategy C, [steps, steps].
        min_sep (int): Steps between two participations of one record, at least 1.
        participations (int): How often a record takes part at most, at least 1.

    Guarantee: never below the sensitivity. It is exact when columns `min_sep` apart are orthogonal (as many bands as
    that or fewer).

    Raises:
        ValueError: `matrix` is not square, not finite or not lower triangular.

    Examples:
        >>> import numpy as np
        >>> from mindarmour.privacy.accounting.strategies import matrix_sensitivity
        >>> round(matrix_sensitivity(np.eye(6), min_sep=2, participations=3), 4)
        1.7321
    """
    matrix = np.asarray(matrix, np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not np.isfinite(matrix).all():
        raise ValueError(f"matrix must be square and finite, but got shape {matrix.shape}.")
    if np.triu(matrix, 1).any():
        raise ValueError("matrix must be lower triangular: noise may depend on earlier steps only.")
    min_sep = _validate.integer("min_sep", min_sep, low=1)
    count = min(_validate.integer("participations", participations, low=1), math.ceil(len(matrix) / min_sep))
    products = np.abs(matrix.T @ matrix)
    if not np.triu(products, min_sep).any():
        return math.sqrt(best_spaced(np.diag(products), count, min_sep))
    rows = np.array([best_spaced(row, count, min_sep) for row in products])
    return math.sqrt(best_spaced(rows, count, min_sep))
