"""From epsilon and delta to what an attacker can do: membership advantage and true positive rate.

A mechanism that is (epsilon, delta)-private for a whole curve of deltas bounds every attack: its true positive
rate at false positive rate f is at most exp(epsilon) f + delta and at most 1 - exp(-epsilon) (1 - delta - f),
for every epsilon; its advantage (true minus false positive rate) is at most delta at epsilon 0.

References:
    Kairouz, Oh, Viswanath 2015, "The composition theorem for differential privacy", theorem 2.1.
    Dong, Roth, Su 2022, "Gaussian differential privacy", proposition 4 and corollary 1.
    Kulynych et al. 2024, "Attack-aware noise calibration for differential privacy".
"""
from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy.special import ndtr, ndtri

from mindarmour.utils import _validate

_EPSILONS = np.concatenate([[0.0], np.logspace(-4, math.log10(60.0), 240)])


def advantage_from_curve(delta_at: Callable[[np.ndarray], np.ndarray]) -> float:
    """Largest membership advantage of any attack, in [0, 1].

    Args:
        delta_at (callable): Delta of the mechanism at an array of epsilons.
    """
    return float(min(1.0, delta_at(np.zeros(1))[0]))


def true_positive_rate_from_curve(delta_at: Callable[[np.ndarray], np.ndarray], false_positive_rate: float) -> float:
    """Largest true positive rate of any attack at `false_positive_rate` (in [0, 1]).

    Args:
        delta_at (callable): Delta of the mechanism at an array of epsilons.
        false_positive_rate (float): Of the attack.
    """
    rate = _validate.real("false_positive_rate", false_positive_rate, low=0, high=1, closed="both")
    deltas = np.asarray(delta_at(_EPSILONS))
    above = np.exp(_EPSILONS) * rate + deltas
    below = 1 - np.exp(-_EPSILONS) * (1 - deltas - rate)
    return float(np.clip(min(above.min(), below.min()), rate, 1.0))


def advantage_of_gaussian(mu: float) -> float:
    """Largest membership advantage against the Gaussian mechanism, exactly."""
    return float(2 * ndtr(_validate.real("mu", mu, low=0, closed="low") / 2) - 1)


def true_positive_rate_of_gaussian(mu: float, false_positive_rate: float) -> float:
    """Largest true positive rate at `false_positive_rate` against the Gaussian mechanism, exactly."""
    mu = _validate.real("mu", mu, low=0, closed="low")
    rate = _validate.real("false_positive_rate", false_positive_rate, low=0, high=1, closed="both")
    return float(ndtr(ndtri(rate) + mu))
