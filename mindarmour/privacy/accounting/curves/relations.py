"""From one record to a group of records.

References:
    Dwork, Roth 2014, "The algorithmic foundations of differential privacy", theorem 2.2.
    Vadhan 2017, "The complexity of differential privacy", lemma 2.2 (group privacy with delta).
"""
from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from mindarmour.utils import _validate

_BISECTIONS = 100


def group_epsilon(delta_at: Callable[[float], float], delta: float, group_size: int) -> float:
    """Epsilon for data sets that differ in up to `group_size` records.

    Walking from one data set to the other record by record turns (epsilon, delta(epsilon)) into group_size times
    epsilon and (1 + exp(epsilon) + .. + exp((group_size - 1) epsilon)) times delta.

    Args:
        delta_at (callable): Delta for one record at an epsilon of at least 0, not increasing.
        delta (float): For the group, in (0, 1).
        group_size (int): At least 1.

    Returns:
        float, infinite if no epsilon is enough.
    """
    delta = _validate.real("delta", delta, low=0, high=1)
    size = _validate.integer("group_size", group_size, low=1)
    return size * smallest_epsilon(lambda epsilon: delta_at(epsilon) * _walk(epsilon, size), delta)


def group_curve(delta_at: Callable[[np.ndarray], np.ndarray], group_size: int) -> Callable[[np.ndarray], np.ndarray]:
    """Delta of data sets that differ in up to `group_size` records, as a function of an array of epsilons.

    Args:
        delta_at (callable): Delta for one record at an array of epsilons of at least 0.
        group_size (int): At least 1.
    """
    def delta_of_group(epsilons: np.ndarray) -> np.ndarray:
        single = np.asarray(epsilons, np.float64) / group_size
        walks = np.array([_walk(epsilon, group_size) for epsilon in single.ravel()]).reshape(single.shape)
        deltas = np.asarray(delta_at(single), np.float64)
        return np.minimum(1.0, np.multiply(deltas, walks, out=np.zeros_like(deltas), where=deltas > 0))

    return delta_of_group


def _walk(epsilon, size):
    """1 + exp(epsilon) + .. + exp((size - 1) epsilon)."""
    if size * epsilon > 700:
        return math.inf
    return size if epsilon == 0 else math.expm1(size * epsilon) / math.expm1(epsilon)


def smallest_epsilon(delta_at: Callable[[float], float], delta: float) -> float:
    """Smallest epsilon at which a delta that may rise again later is low enough; infinite if there is none."""
    grid = np.concatenate([[0.0], np.logspace(-3, 4, 141)]).tolist()
    good = next((i for i, epsilon in enumerate(grid) if delta_at(epsilon) <= delta), None)
    if good is None:
        return math.inf
    low, high = grid[max(good - 1, 0)], grid[good]
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        if high - low <= 1e-9 * high:
            break
        low, high = (low, middle) if delta_at(middle) <= delta else (middle, high)
    return high
