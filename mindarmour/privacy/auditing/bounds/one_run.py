"""Lower bounds of epsilon from one training run: canaries in or out by fair coins, some of them guessed.

References:
    Steinke, Nasr, Jagielski 2023, "Privacy auditing with one (1) training run", theorem 5.2.
"""
from __future__ import annotations

import math

import numpy as np
from scipy.special import bdtrc, expit, gammaln, log_expit

from mindarmour.privacy.auditing.bounds.arguments import check_confidence, check_delta, check_guesses, largest_rejected
from mindarmour.privacy.auditing.bounds.statement import AuditedEpsilon, certified
from mindarmour.utils import _validate

FAIR_COINS = "independent fair coins; the number of guesses fixed beforehand"


def one_run_p_value(canaries: int, guesses: int, right: int, epsilon: float, delta: float = 0.0) -> float:
    """Probability that an (epsilon, delta)-private run allows so many right guesses, at most.

    Args:
        canaries (int): Records with a fair coin, m.
        guesses (int): Coins that were guessed, r <= m; the number and the rule must be fixed beforehand.
        right (int): Right guesses, v <= r.
        epsilon (float): At least 0.
        delta (float): In [0, 1).

    Guarantee: for an (epsilon, delta)-private run the value is below p with probability at most p.

    Examples:
        >>> round(one_run_p_value(canaries=1000, guesses=100, right=90, epsilon=1.0, delta=1e-5), 6)
        0.000841
    """
    canaries, guesses, right = check_guesses(canaries, guesses, right)
    epsilon = _validate.real("epsilon", epsilon, low=0, closed="low")
    delta = check_delta(delta)
    tail = float(bdtrc(right - 1, guesses, expit(epsilon))) if right else 1.0
    if delta == 0 or right == 0:
        return min(1.0, tail)
    # P[v > W >= v - i] over i, summed from the largest value downwards
    below = np.cumsum(_probabilities(np.arange(right - 1, -1, -1), guesses, epsilon))
    alpha = float(np.max(below / np.arange(1, right + 1)))
    return min(1.0, tail + 2 * canaries * delta * alpha)


def _probabilities(right: np.ndarray, guesses: int, epsilon: float) -> np.ndarray:
    """Of each number of right guesses, each right with probability 1 / (1 + exp(-epsilon))."""
    ways = gammaln(guesses + 1) - gammaln(right + 1) - gammaln(guesses - right + 1)
    return np.exp(ways + right * log_expit(epsilon) + (guesses - right) * log_expit(-epsilon))


def one_run_epsilon(canaries: int, guesses: int, right: int, delta: float = 0.0,
                    confidence: float = 0.95) -> AuditedEpsilon:
    """Largest epsilon that one run with so many right guesses excludes. Arguments as for `one_run_p_value`.

    Guarantee: exceeds the true epsilon with probability at most 1 - confidence, if the coins were fair and independent
        and the number of guesses and the rule were fixed before the scores were seen.

    Examples:
        >>> round(one_run_epsilon(canaries=1000, guesses=100, right=90, delta=1e-5), 4)
        1.6261
    """
    check_guesses(canaries, guesses, right)
    alpha = 1 - check_confidence(confidence)
    value = largest_rejected(
        lambda epsilon: one_run_p_value(canaries, guesses, right, epsilon, delta) <= alpha, 1.0)
    return certified(value, check_delta(delta), confidence, FAIR_COINS)


def one_run_ceiling(guesses: int, confidence: float = 0.95) -> float:
    """Largest epsilon that so many guesses, all of them right, can prove.

    Examples:
        >>> round(one_run_ceiling(90), 3)
        3.386
    """
    guesses = _validate.integer("guesses", guesses, low=1)
    log_rate = math.log1p(-check_confidence(confidence)) / guesses
    return max(0.0, log_rate - math.log(-math.expm1(log_rate)))


def doubling_guesses(canaries: int, first: int = 10) -> tuple[int, ...]:
    """Numbers of guesses first, 2 first, 4 first, .. up to all canaries: a grid fixed by `canaries` alone."""
    canaries = _validate.integer("canaries", canaries, low=1)
    grid = [min(_validate.integer("first", first, low=1), canaries)]
    while 2 * grid[-1] <= canaries:
        grid.append(2 * grid[-1])
    return tuple(grid)


def doubling_epsilon(correct: np.ndarray, delta: float = 0.0, confidence: float = 0.95) -> AuditedEpsilon:
    """Best bound over a doubling grid of guesses, each at its share of alpha (Bonferroni).

    Args:
        correct (numpy.ndarray): For every canary whether the guess about it is right, the most certain guess first.
        delta (float): In [0, 1).
        confidence (float): In (0, 1).

    Guarantee: as `one_run_epsilon`, without a number of guesses fixed beforehand.
    """
    correct = checked_sequence(correct)
    grid = doubling_guesses(len(correct))
    each = 1 - (1 - check_confidence(confidence)) / len(grid)
    right = np.cumsum(correct)
    value = max(float(one_run_epsilon(len(correct), r, int(right[r - 1]), delta, each)) for r in grid)
    return certified(value, check_delta(delta), confidence, "independent fair coins; Bonferroni over a doubling grid")


def checked_sequence(correct: np.ndarray) -> np.ndarray:
    """A sequence of right (True) and wrong guesses."""
    correct = np.asarray(correct)
    if correct.dtype != bool or correct.ndim != 1 or not correct.size:
        raise ValueError(f"correct must be a vector of bool with at least one entry, but got shape {correct.shape} and "
                         f"dtype {correct.dtype}.")
    return correct
