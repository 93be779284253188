"""Trade-off curves: the rates that a mechanism allows every attack.

A curve answers two questions. `fpr_at(tpr)`: the smallest false positive rate at which the true positive rate is
allowed. `tpr_at(fpr)`: the largest true positive rate that is allowed. Both directions of neighbouring are covered.

References:
    Dong, Roth, Su 2022, "Gaussian differential privacy", propositions 3 and 4.
"""
from __future__ import annotations

import math
from bisect import bisect_right
from typing import Protocol

import numpy as np
from scipy.special import ndtr, ndtri

from mindarmour.privacy.auditing.bounds.normal import accuracy_of_top
from mindarmour.utils import _validate


class Curve(Protocol):
    """What the tests and ceilings need to know about a mechanism."""

    def fpr_at(self, tpr: float) -> float:
        """Smallest false positive rate at which `tpr` is allowed."""
        ...

    def tpr_at(self, fpr: float) -> float:
        """Largest true positive rate allowed at `fpr`."""
        ...

    def accuracy_of_top(self, share: float) -> float:
        """Largest expected share of right guesses about the surest `share` of records."""
        ...


class GaussianCurve:
    """The curve of a Gaussian mechanism.

    Args:
        mu (float): Sensitivity over standard deviation, at least 0.
    """

    def __init__(self, mu: float) -> None:
        self.mu = _validate.real("mu", mu, low=0, closed="low")

    def fpr_at(self, tpr: float) -> float:
        """Smallest false positive rate at which `tpr` is allowed."""
        return 0.0 if tpr <= 0 else 1.0 if tpr >= 1 else float(ndtr(ndtri(tpr) - self.mu))

    def tpr_at(self, fpr: float) -> float:
        """Largest true positive rate allowed at `fpr`."""
        return 0.0 if fpr <= 0 else 1.0 if fpr >= 1 else float(ndtr(ndtri(fpr) + self.mu))

    def accuracy_of_top(self, share: float) -> float:
        """Largest expected share of right guesses about the surest `share` of records."""
        return accuracy_of_top(self.mu, share)


class TabulatedCurve:
    """The curve of a mechanism whose delta is known at some epsilons.

    Every pair (epsilon, delta) bounds every attack by two lines, so a coarser table is a weaker claim and never a
    wrong one.

    Args:
        epsilons (array_like): At least 0, finite.
        deltas (array_like): Delta at each of them, in [0, 1].

    Examples:
        >>> round(TabulatedCurve([1.0], [0.0]).tpr_at(0.1), 4)
        0.2718
    """

    def __init__(self, epsilons: np.ndarray, deltas: np.ndarray) -> None:
        epsilons, deltas = np.atleast_1d(np.asarray(epsilons, float)), np.atleast_1d(np.asarray(deltas, float))
        if epsilons.shape != deltas.shape or epsilons.ndim != 1 or not epsilons.size:
            raise ValueError(f"epsilons and deltas must be vectors of one length, but got shapes {epsilons.shape} and "
                             f"{deltas.shape}.")
        if not (np.isfinite(epsilons).all() and (epsilons >= 0).all()):
            raise ValueError("epsilons must be finite and at least 0.")
        if not ((deltas >= 0) & (deltas <= 1)).all():
            raise ValueError("deltas must be in [0, 1].")
        self.epsilons, self.deltas = epsilons, deltas
        # fpr >= 0, fpr >= exp(-e) (tpr - delta) and fpr >= 1 - delta - exp(e) (1 - tpr), as lines through a point
        steep = np.exp(np.minimum(epsilons, 700.0))
        zeros, ones = np.zeros_like(deltas), np.ones_like(deltas)
        self._lines, self._starts = _upper_envelope(np.concatenate([[0.0], 1 / steep, steep]),
                                                    np.concatenate([[0.0], deltas, ones]),
                                                    np.concatenate([[0.0], zeros, 1 - deltas]))

    def fpr_at(self, tpr: float) -> float:
        """Smallest false positive rate at which `tpr` is allowed."""
        slope, point, value = self._lines[bisect_right(self._starts, tpr) - 1]
        return min(1.0, max(0.0, value - slope * (point - tpr)))

    def tpr_at(self, fpr: float) -> float:
        """Largest true positive rate allowed at `fpr`."""
        above = np.exp(np.minimum(self.epsilons, 700.0)) * fpr + self.deltas
        below = 1 - np.exp(-self.epsilons) * (1 - self.deltas - fpr)
        return float(np.clip(min(above.min(), below.min()), fpr, 1.0))

    def accuracy_of_top(self, share: float) -> float:
        """Largest expected share of right guesses about the surest `share` of records."""
        share = _validate.real("share", share, low=0, high=1, closed="high")
        low, high = 0.0, share / 2
        for _ in range(60):
            middle = 0.5 * (low + high)
            low, high = (middle, high) if self.tpr_at(middle) + middle < share else (low, middle)
        return 1 - low / share


def pure_curve(epsilon: float, delta: float = 0.0) -> TabulatedCurve:
    """The curve of nothing but (epsilon, delta)-differential privacy."""
    return TabulatedCurve(np.array([epsilon]), np.array([delta]))


def area_ceiling(curve: Curve) -> float:
    """Largest area under the ROC curve of any attack."""
    # between grid points a concave curve lies above its chord: the next value on the right bounds it from above
    points = np.concatenate([[0.0], np.geomspace(1e-9, 0.5, 400), 1 - np.geomspace(0.5, 1e-9, 400)[1:], [1.0]])
    rates = np.array([curve.tpr_at(float(point)) for point in points])
    return float(min(1.0, np.sum(np.diff(points) * rates[1:])))


def accuracy_ceiling(curve: Curve) -> float:
    """Largest accuracy of any attack that tells in from out where both are equally likely.

    Examples:
        >>> round(accuracy_ceiling(GaussianCurve(1.0)), 4)
        0.6915
    """
    return curve.accuracy_of_top(1.0)


def reconstruction_ceiling(curve: Curve, prior: float) -> float:
    """Largest probability of reconstructing a record that a guess without the model gets right with `prior`.

    References:
        Hayes, Mahloujifar, Balle 2023, "Bounding training data reconstruction in DP-SGD", for one record under
        replacement by a draw from the prior; an attack that succeeds is a test with that false positive rate.
    """
    return curve.tpr_at(_validate.real("prior", prior, low=0, high=1, closed="both"))


def _upper_envelope(slopes: np.ndarray, points: np.ndarray, values: np.ndarray) -> tuple:
    """The lines that are the largest somewhere, by slope, and where each of them starts to be.

    A line is (slope, a point, its value there). Rounding may misplace a start a little: every line is a bound.
    """
    kept, starts = [], []
    offsets = values - slopes * points
    order = np.lexsort((offsets, slopes))
    for line, offset in zip(np.stack([slopes, points, values], 1)[order].tolist(), offsets[order].tolist()):
        start = -math.inf
        while kept:
            before, before_offset = kept[-1]
            if line[0] > before[0]:
                start = (before_offset - offset) / (line[0] - before[0])
                if start > starts[-1]:
                    break
            kept.pop()
            starts.pop()
            start = -math.inf
        kept.append((line, offset))
        starts.append(start)
    return [line for line, _ in kept], starts
