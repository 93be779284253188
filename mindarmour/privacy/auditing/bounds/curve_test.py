"""Does one run contradict a whole claimed trade-off curve?

References:
    Mahloujifar, Melis, Chaudhuri 2024, "Auditing f-differential privacy in one run", the recursion of its
    algorithm. Its validity rests on the paper and on the simulations of the tests, not on a proof checked here.
"""
from __future__ import annotations

import math
from typing import Optional, cast

from mindarmour.privacy.accounting.curves.gaussian import epsilon_of_gaussian
from mindarmour.privacy.auditing.bounds.arguments import check_confidence, check_delta, check_guesses, largest_rejected
from mindarmour.privacy.auditing.bounds.curves import Curve, GaussianCurve, pure_curve
from mindarmour.privacy.auditing.bounds.one_run import FAIR_COINS
from mindarmour.privacy.auditing.bounds.statement import AuditedEpsilon, certified, estimated

_SMALLEST_LOG = -690.0
_GAUSSIAN = "a Gaussian trade-off curve: where the curve is another one, the estimate exceeds the truth"


def curve_rejected(canaries: int, guesses: int, right: int, curve: Curve, alpha: float) -> bool:
    """Whether so many right guesses have probability below `alpha` under every mechanism within `curve`."""
    # mass of "caught" and "missed" canaries at more than i right guesses, were the tail probability alpha
    caught, missed = alpha * right / canaries, alpha * (guesses - right) / canaries
    for others in range(right - 1, -1, -1):
        grown = max(missed, curve.fpr_at(caught))
        caught += others / (guesses - others) * (grown - missed)
        missed = grown
        if caught + missed > guesses / canaries:
            return True
    return caught + missed > guesses / canaries


def curve_p_value(canaries: int, guesses: int, right: int, mu: Optional[float] = None,
                  curve: Optional[Curve] = None) -> float:
    """Smallest level at which one run rejects a claimed curve.

    Args:
        canaries (int): Records with a fair coin, m.
        guesses (int): Coins that were guessed; the number and the rule must be fixed beforehand.
        right (int): Right guesses.
        mu (float, optional): The claim is the Gaussian curve `mu`.
        curve (Curve, optional): The claim is this curve. Exactly one of `mu` and `curve` is given.

    Guarantee: for a run within the curve the value is below p with probability at most p.

    Examples:
        >>> round(curve_p_value(canaries=1000, guesses=138, right=128, mu=1.0), 6)
        0.402464
    """
    canaries, guesses, right = check_guesses(canaries, guesses, right)
    if (mu is None) == (curve is None):
        raise ValueError("Exactly one of mu and curve must be given.")
    curve = GaussianCurve(cast(float, mu)) if curve is None else curve
    low, high = _SMALLEST_LOG, 0.0
    if not curve_rejected(canaries, guesses, right, curve, 1.0):
        return 1.0
    while high - low > 1e-9:
        middle = 0.5 * (low + high)
        low, high = (low, middle) if curve_rejected(canaries, guesses, right, curve, math.exp(middle)) else (middle,
                                                                                                             high)
    return math.exp(high)


def one_run_mu(canaries: int, guesses: int, right: int, confidence: float = 0.95) -> float:
    """Largest mu whose Gaussian curve one run rejects.

    Examples:
        >>> round(one_run_mu(canaries=1000, guesses=100, right=90), 5)
        0.6025
    """
    canaries, guesses, right = check_guesses(canaries, guesses, right)
    alpha = 1 - check_confidence(confidence)
    return largest_rejected(lambda mu: curve_rejected(canaries, guesses, right, GaussianCurve(mu), alpha), 1.0)


def one_run_mu_epsilon(canaries: int, guesses: int, right: int, confidence: float = 0.95,
                       delta: float = 1e-5) -> AuditedEpsilon:
    """Epsilon of the Gaussian curve `one_run_mu`: an estimate, see there."""
    mu = one_run_mu(canaries, guesses, right, confidence)
    return estimated(epsilon_of_gaussian(mu, delta), delta, confidence, _GAUSSIAN)


def one_run_fdp_epsilon(canaries: int, guesses: int, right: int, delta: float = 0.0,
                        confidence: float = 0.95) -> AuditedEpsilon:
    """Largest epsilon whose (epsilon, delta) curve one run rejects."""
    canaries, guesses, right = check_guesses(canaries, guesses, right)
    alpha, delta = 1 - check_confidence(confidence), check_delta(delta)
    value = largest_rejected(
        lambda epsilon: curve_rejected(canaries, guesses, right, pure_curve(epsilon, delta), alpha), 1.0)
    return certified(value, delta, confidence, FAIR_COINS)


def fewest_right(canaries: int, guesses: int, curve: Curve, alpha: float) -> Optional[int]:
    """Smallest number of right guesses that rejects the curve; None if not even all of them do."""
    if not curve_rejected(canaries, guesses, guesses, curve, alpha):
        return None
    low, high = 0, guesses
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if curve_rejected(canaries, guesses, middle, curve, alpha) else (middle, high)
    return high
