"""A bound that holds for every number of guesses at once.

References:
    Ville 1939 (non-negative martingales); Robbins 1970, "Statistical methods related to the law of the iterated
    logarithm" (mixtures). The mixture is a Beta(1/2, 1/2) prior of the rate of right guesses, restricted to rates
    above the one that epsilon allows.
"""
from __future__ import annotations

import math
import re
from typing import Union

import numpy as np
from scipy.special import betainc, betaln, expit, hyp2f1, log_expit

from mindarmour.privacy.auditing.bounds.arguments import check_confidence, check_delta, largest_rejected
from mindarmour.privacy.auditing.bounds.one_run import checked_sequence
from mindarmour.privacy.auditing.bounds.statement import AuditedEpsilon, certified
from mindarmour.utils import _validate

_RUN = re.compile(r"([+-])(\d+)")


def anytime_epsilon(sequence: Union[str, np.ndarray], confidence: float = 0.95, first: int = 4,
                    delta: float = 0.0) -> AuditedEpsilon:
    """Largest epsilon excluded after any number of guesses from `first` on, all numbers tried at once.

    Args:
        sequence (numpy.ndarray, str): Whether each guess is right, bool, the most certain guess first; or runs of
            right and wrong guesses such as '+90 -10'.
        confidence (float): In (0, 1).
        first (int): Fewest guesses that may decide, at least 1.
        delta (float): In [0, 1); 2 m delta of alpha pays for it, with m the length of the sequence.

    Guarantee: exceeds the true epsilon with probability at most 1 - confidence under independent fair coins; nothing
        but the order of the guesses must be fixed beforehand.

    Raises:
        ValueError: `delta` is so large that nothing is left of alpha.

    Examples:
        >>> round(anytime_epsilon("+20"), 4)
        1.5708
    """
    correct = _sequence(sequence)
    first = _validate.integer("first", first, low=1)
    alpha = 1 - check_confidence(confidence)
    left = alpha - 2 * len(correct) * check_delta(delta)
    if left <= 0:
        raise ValueError(f"delta must be below {alpha / 2 / len(correct):.3g} for {len(correct)} guesses at confidence "
                         f"{confidence}, but got {delta}. Use one_run_epsilon.")
    made = np.arange(1, len(correct) + 1)[first - 1:]
    right = np.cumsum(correct)[first - 1:]
    value = 0.0
    if made.size:
        value = largest_rejected(
            lambda epsilon: float(np.max(_log_martingale(epsilon, right, made - right))) >= -math.log(left), 1.0)
    return certified(value, delta, confidence, "independent fair coins; holds for every number of guesses")


def _log_martingale(epsilon: float, right: np.ndarray, wrong: np.ndarray) -> np.ndarray:
    """Log of the mixture's likelihood ratio against the rate q = 1 / (1 + exp(-epsilon)) of right guesses."""
    prior = _log_upper_beta(epsilon, np.array(0.5), np.array(0.5))
    return (_log_upper_beta(epsilon, right + 0.5, wrong + 0.5) - prior
            - right * log_expit(epsilon) - wrong * log_expit(-epsilon))


def _log_upper_beta(epsilon: float, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Log of the integral of x^(a-1) (1-x)^(b-1) over (q, 1), also where it is a tiny part of the whole."""
    rest = expit(-epsilon)
    share = betainc(b, a, rest)
    with np.errstate(divide="ignore"):
        usual = betaln(a, b) + np.log(share)
    # incomplete beta as a series: rest^b q^a / b * 2F1(1, a + b; b + 1; rest), where the share underflows
    tiny = share < 1e-280
    if not np.any(tiny):
        return usual
    series = (b * log_expit(-epsilon) + a * log_expit(epsilon) - np.log(b)
              + np.log(hyp2f1(1.0, np.where(tiny, a + b, 1.0), b + 1, rest)))
    return np.where(tiny, series, usual)


def _sequence(sequence: Union[str, np.ndarray]) -> np.ndarray:
    if not isinstance(sequence, str):
        return checked_sequence(sequence)
    runs = sequence.split()
    if not runs or not all(_RUN.fullmatch(run) for run in runs):
        raise ValueError(f"sequence must be runs such as '+90 -10', but got {sequence!r}.")
    return np.concatenate([np.full(int(run[1:]), run[0] == "+") for run in runs])
