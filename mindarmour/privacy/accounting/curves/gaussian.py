"""The Gaussian mechanism, exactly.

A composition of Gaussian mechanisms is one Gaussian mechanism: it is described by mu, the root of the sum of
the squared inverse multipliers.

References:
    Balle, Wang 2018, "Improving the Gaussian mechanism for differential privacy", theorem 8.
    Dong, Roth, Su 2022, "Gaussian differential privacy", corollary 1.
"""
from __future__ import annotations

import math

from scipy.special import log_ndtr

from mindarmour.utils import _validate

_BISECTIONS = 200
# below it the two terms of delta agree in too many digits to be subtracted
_TINY = 1e-4
_FAR = 1e3


def delta_of_gaussian(mu: float, epsilon: float) -> float:
    """Delta of the Gaussian mechanism with sensitivity over standard deviation `mu` at `epsilon`.

    Args:
        mu (float): At least 0, possibly infinite.
        epsilon (float): At least 0.
    """
    mu = _mu(mu)
    epsilon = _validate.real("epsilon", epsilon, low=0, closed="low")
    if mu == 0:
        return 0.0
    return 1.0 if math.isinf(mu) else math.exp(_log_delta(mu, epsilon))


def epsilon_of_gaussian(mu: float, delta: float) -> float:
    """Epsilon of the Gaussian mechanism at `delta`, never below the exact value.

    Examples:
        >>> from mindarmour.privacy.accounting.curves.gaussian import epsilon_of_gaussian
        >>> round(epsilon_of_gaussian(1.0, 1e-5), 6)
        4.377178
    """
    mu = _mu(mu)
    target = math.log(_validate.real("delta", delta, low=0, high=1))
    if mu == 0 or _log_delta_or_zero(mu, 0.0) <= target:
        return 0.0
    if math.isinf(mu) or math.isinf(mu * mu):
        return math.inf
    return _bisect(lambda epsilon: _log_delta(mu, epsilon) <= target, 0.0,
                   mu * mu / 2 + mu * math.sqrt(-2 * target) + 1e-9)


def mu_of_gaussian(epsilon: float, delta: float) -> float:
    """Largest mu whose Gaussian mechanism is (epsilon, delta)-private, never above the exact value."""
    epsilon = _validate.real("epsilon", epsilon, low=0, closed="low")
    target = math.log(_validate.real("delta", delta, low=0, high=1))
    low = 1.0
    while low and _log_delta(low, epsilon) > target:
        low /= 2
    while _log_delta(2 * low, epsilon) <= target:
        low *= 2
    return -_bisect(lambda negative: _log_delta(-negative, epsilon) <= target, -2 * low, -low)


def _mu(mu):
    if isinstance(mu, float) and math.isinf(mu) and mu > 0:
        return mu
    return _validate.real("mu", mu, low=0, closed="low")


def _log_delta_or_zero(mu, epsilon):
    return 0.0 if math.isinf(mu) else _log_delta(mu, epsilon)


def _log_delta(mu, epsilon):
    """log(Phi(mu/2 - eps/mu) - exp(eps) Phi(-mu/2 - eps/mu)); -inf where it underflows."""
    first = float(log_ndtr(mu / 2 - epsilon / mu))
    if mu < _TINY and first > -math.inf:
        gap = _gap_of_tiny(mu, epsilon / mu)
    else:
        gap = epsilon + float(log_ndtr(-mu / 2 - epsilon / mu)) - first
    if math.isnan(gap) or gap >= 0:
        return -math.inf
    return first + math.log(-math.expm1(gap))


def _gap_of_tiny(mu, ratio):
    """The difference of the logarithms where it is lost among their digits: mu times a derivative, bounded below."""
    if ratio > _FAR:
        excess = 1 / ratio  # above the hazard's, whose digits are lost there
    else:
        excess = math.exp(-0.5 * ratio * ratio - 0.5 * math.log(2 * math.pi) - float(log_ndtr(-ratio))) - ratio
    return -mu * excess * (1 + mu * mu)


def _bisect(holds, low, high):
    """Smallest point of [low, high] where the monotone predicate holds; it is taken to hold at `high`."""
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        if middle in (low, high):
            break
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high
