"""Bounds from a true and a false positive rate, for audits of many independent runs.

References:
    Jagielski, Ullman, Oprea 2020, "Auditing differentially private machine learning".
    Kairouz, Oh, Viswanath 2015, "The composition theorem for differential privacy", theorem 2.1.
    Carlini et al. 2019, "The secret sharer", definition 2 (exposure).
"""
from __future__ import annotations

import math

from scipy.special import ndtri
from scipy.stats import beta

from mindarmour.privacy.auditing.bounds.arguments import check_confidence, check_delta
from mindarmour.privacy.auditing.bounds.statement import AuditedEpsilon, certified
from mindarmour.utils import _validate

_INDEPENDENT = "records of independent runs and a threshold fixed beforehand"


def clopper_pearson_upper(successes: int, trials: int, alpha: float) -> float:
    """Exact upper bound of a proportion, wrong with probability at most `alpha`.

    Examples:
        >>> round(clopper_pearson_upper(successes=0, trials=50, alpha=0.025), 6)
        0.071122
    """
    successes, trials, alpha = _check_counts(successes, trials, alpha)
    return 1.0 if successes == trials else float(beta.isf(alpha, successes + 1, trials - successes))


def jeffreys_upper(successes: int, trials: int, alpha: float) -> float:
    """Upper bound of a proportion by Jeffreys' prior: shorter than Clopper and Pearson's, and *not* certified."""
    successes, trials, alpha = _check_counts(successes, trials, alpha)
    return 1.0 if successes == trials else float(beta.isf(alpha, successes + 0.5, trials - successes + 0.5))


def rate_bounds(tp: int, n_in: int, fp: int, n_out: int, confidence: float = 0.95) -> tuple[float, float]:
    """(lower bound of the true positive rate, upper bound of the false positive rate), each at half of alpha."""
    alpha = (1 - check_confidence(confidence)) / 2
    tp, n_in = (_validate.integer("tp", tp, low=0), _validate.integer("n_in", n_in, low=1))
    fp, n_out = (_validate.integer("fp", fp, low=0), _validate.integer("n_out", n_out, low=1))
    _validate.integer("tp", tp, high=n_in)
    _validate.integer("fp", fp, high=n_out)
    return 1 - clopper_pearson_upper(n_in - tp, n_in, alpha), clopper_pearson_upper(fp, n_out, alpha)


def epsilon_from_rates(tp: int, n_in: int, fp: int, n_out: int, delta: float = 0.0,
                       confidence: float = 0.95) -> AuditedEpsilon:
    """Lower bound of epsilon from the rates of an attack at one threshold.

    One pair of one-sided intervals serves both directions of neighbouring: no further correction is needed.

    Args:
        tp (int): Records that were in and were called in.
        n_in (int): Records that were in.
        fp (int): Records that were out and were called in.
        n_out (int): Records that were out.
        delta (float): In [0, 1).
        confidence (float): In (0, 1).

    Guarantee: exceeds the true epsilon with probability at most 1 - confidence, if the records come from independent
        runs and the threshold was fixed beforehand. Within one run it is a heuristic.

    Examples:
        >>> round(epsilon_from_rates(tp=90, n_in=100, fp=5, n_out=100, delta=1e-5), 4)
        1.988
    """
    delta = check_delta(delta)
    tpr, fpr = rate_bounds(tp, n_in, fp, n_out, confidence)
    value = max(_log_ratio(tpr - delta, fpr), _log_ratio(1 - fpr - delta, 1 - tpr), 0.0)
    return certified(value, delta, confidence, _INDEPENDENT)


def mu_from_rates(tp: int, n_in: int, fp: int, n_out: int, delta: float = 0.0, confidence: float = 0.95) -> float:
    """Lower bound of mu, if the mechanism's trade-off curve is Gaussian. `delta` plays no part: mu has none."""
    check_delta(delta)
    tpr, fpr = rate_bounds(tp, n_in, fp, n_out, confidence)
    return max(0.0, float(ndtri(tpr) - ndtri(fpr)))


def exposure(rank: int, candidates: int) -> float:
    """Bits by which a canary stands out among its candidates: log2(candidates) - log2(rank).

    Examples:
        >>> exposure(rank=500, candidates=1000)
        1.0
    """
    candidates = _validate.integer("candidates", candidates, low=1)
    rank = _validate.integer("rank", rank, low=1, high=candidates)
    return math.log2(candidates) - math.log2(rank)


def _log_ratio(numerator: float, denominator: float) -> float:
    if numerator <= 0:
        return -math.inf
    return math.log(numerator / denominator) if denominator > 0 else math.inf


def _check_counts(successes: int, trials: int, alpha: float) -> tuple[int, int, float]:
    trials = _validate.integer("trials", trials, low=1)
    return (_validate.integer("successes", successes, low=0, high=trials), trials,
            _validate.real("alpha", alpha, low=0, high=1))
