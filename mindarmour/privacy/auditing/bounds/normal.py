"""Readings of normal scores. As epsilons they are estimates: nothing says that the mechanism's curve is Gaussian.

References:
    Dong, Roth, Su 2022, "Gaussian differential privacy". Balle, Wang 2018, "Improving the Gaussian mechanism for
    differential privacy", theorem 8. Andrew et al. 2023, "One-shot empirical privacy estimation for federated
    learning".
"""
from __future__ import annotations

import math
from typing import Callable, cast

import numpy as np
from scipy import optimize, special

from mindarmour.privacy.accounting.curves import gaussian, tradeoff
from mindarmour.privacy.auditing.bounds.arguments import check_confidence
from mindarmour.privacy.auditing.bounds.statement import AuditedEpsilon, estimated
from mindarmour.utils import _validate


def epsilon_of_gaussian(mu: float, delta: float) -> float:
    """Epsilon of the Gaussian mechanism with sensitivity over standard deviation `mu`, exactly.

    Examples:
        >>> round(epsilon_of_gaussian(mu=1.0, delta=1e-5), 6)
        4.377178
    """
    return gaussian.epsilon_of_gaussian(mu, delta)


def tpr_ceiling_gaussian(mu: float, fpr: float) -> float:
    """Largest true positive rate at `fpr` of any attack on a mechanism with the Gaussian curve `mu`."""
    return tradeoff.true_positive_rate_of_gaussian(mu, fpr)


def mu_from_scores(n_in: int, n_out: int, effect: float, confidence: float = 0.95) -> float:
    """Lower bound of mu from normal scores of equal variance, by the non-central t distribution.

    Args:
        n_in (int): Scores of records that were in.
        n_out (int): Scores of records that were out.
        effect (float): Difference of the means over the pooled standard deviation (n - 2 degrees of freedom).
        confidence (float): In (0, 1).

    Guarantee: exceeds the true distance with probability at most 1 - confidence if the scores are independent and
        normal with one variance; turned into an epsilon it is an estimate.

    Examples:
        >>> round(mu_from_scores(n_in=500, n_out=500, effect=1.0), 6)
        0.889415
    """
    n_in = _validate.integer("n_in", n_in, low=1)
    n_out = _validate.integer("n_out", n_out, low=1)
    freedom = n_in + n_out - 2
    if freedom < 1:
        raise ValueError(f"n_in + n_out must be at least 3, but got {n_in} + {n_out}.")
    effect, confidence = _validate.real("effect", effect), check_confidence(confidence)
    scale = math.sqrt(1 / n_in + 1 / n_out)
    t = effect / scale
    if special.stdtr(freedom, t) <= confidence:
        return 0.0
    shift = _root(lambda nc: float(special.nctdtr(freedom, nc, t)) - confidence, 0.0, t + 1, xtol=1e-12)
    return shift * scale


def effect_size(scores_in: np.ndarray, scores_out: np.ndarray) -> float:
    """Difference of the means over the pooled standard deviation."""
    first, second = np.asarray(scores_in, float), np.asarray(scores_out, float)
    squares = ((first - first.mean()) ** 2).sum() + ((second - second.mean()) ** 2).sum()
    pooled = math.sqrt(squares / (len(first) + len(second) - 2))
    return float(first.mean() - second.mean()) / pooled if pooled > 0 else math.nan


def accuracy_of_top(mu: float, share: float) -> float:
    """Share of right guesses of the best attack on the Gaussian curve `mu` that guesses the surest `share` of records.

    Half of the guesses are 'in', half 'out', and half of the records were in.

    Examples:
        >>> round(accuracy_of_top(mu=1.0, share=0.1), 6)
        0.903258
    """
    mu = _validate.real("mu", mu, low=0, closed="low")
    share = _validate.real("share", share, low=0, high=1, closed="high")

    def surplus(threshold):
        return special.ndtr(mu - threshold) + special.ndtr(-threshold) - share
    threshold = _root(surplus, -40.0, mu + 40.0, xtol=1e-13)
    return min(1.0, float(special.ndtr(mu - threshold) / share))


def epsilon_two_gaussians(mean_out: float, sd_out: float, mean_in: float, sd_in: float,
                          delta: float) -> AuditedEpsilon:
    """Epsilon at which two normal score distributions are delta-close, the larger of both directions.

    Args:
        mean_out, sd_out (float): Scores of records that were out.
        mean_in, sd_in (float): Scores of records that were in.
        delta (float): In (0, 1).

    Guarantee: none, an estimate. A standard deviation that was fitted on few scores and differs by chance fattens a
        tail at delta: use a known one for both where there is one.
    """
    values = [_validate.real(name, value) for name, value in (("mean_out", mean_out), ("mean_in", mean_in))]
    spreads = [_validate.real(name, value, low=0) for name, value in (("sd_out", sd_out), ("sd_in", sd_in))]
    delta = _validate.real("delta", delta, low=0, high=1)
    out, inside = zip(values, spreads)
    value = max(_epsilon_of_pair(inside, out, delta), _epsilon_of_pair(out, inside, delta))
    return estimated(value, delta, 0.5, "normal scores")


def _epsilon_of_pair(first: tuple, second: tuple, delta: float) -> float:
    if _hockey_stick(first, second, 0.0) <= delta:
        return 0.0
    high = 1.0
    while _hockey_stick(first, second, high) > delta:
        high *= 2
    return _root(lambda epsilon: _hockey_stick(first, second, epsilon) - delta, 0.0, high, xtol=1e-12)


def _hockey_stick(first: tuple, second: tuple, epsilon: float) -> float:
    """Integral of (p - exp(epsilon) q)+ of two normals: over the set where the log ratio, a parabola, is above."""
    (mean, sd), (other_mean, other_sd) = first, second
    a = 0.5 / other_sd ** 2 - 0.5 / sd ** 2
    b = mean / sd ** 2 - other_mean / other_sd ** 2
    c = 0.5 * (other_mean / other_sd) ** 2 - 0.5 * (mean / sd) ** 2 + math.log(other_sd / sd) - epsilon
    return sum(_mass(first, *part) - math.exp(epsilon + _log_mass(second, *part)) for part in _above_zero(a, b, c))


def _above_zero(a: float, b: float, c: float) -> list:
    """Intervals where a x^2 + b x + c > 0."""
    if a == 0:
        if b == 0:
            return [(-math.inf, math.inf)] if c > 0 else []
        return [(-c / b, math.inf)] if b > 0 else [(-math.inf, -c / b)]
    square = b * b - 4 * a * c
    if square <= 0:
        return [(-math.inf, math.inf)] if a > 0 else []
    half = -0.5 * (b + math.copysign(math.sqrt(square), b))
    low, high = sorted((half / a, c / half if half else 0.0))
    return [(-math.inf, low), (high, math.inf)] if a > 0 else [(low, high)]


def _mass(normal: tuple, low: float, high: float) -> float:
    return math.exp(_log_mass(normal, low, high))


def _log_mass(normal: tuple, low: float, high: float) -> float:
    """Log of the probability of an interval, from whichever tail is smaller."""
    mean, sd = normal
    low, high = (low - mean) / sd, (high - mean) / sd
    if low > 0:
        low, high = -high, -low
    upper, lower = float(special.log_ndtr(high)), float(special.log_ndtr(low))
    if upper == -math.inf or lower >= upper:
        return -math.inf
    return upper + math.log(-math.expm1(lower - upper))


def _root(function: Callable[[float], float], low: float, high: float, xtol: float) -> float:
    return float(cast(float, optimize.brentq(function, low, high, xtol=xtol)))
