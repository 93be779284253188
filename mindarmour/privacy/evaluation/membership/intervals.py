"""Confidence intervals of what is read off a ROC curve. NumPy and SciPy only.

Each interval takes into account how its value was found: a maximum over thresholds lies above the truth even where
there is nothing to find, and a rate at a threshold that was chosen on the same records inherits the error of the
choice. Coverage is tested by simulation in `tests/privacy/evaluation/membership/test_intervals.py`.
"""
from __future__ import annotations

import math
from typing import Optional

import numpy as np

from mindarmour.privacy.evaluation.membership.roc import (
    RocCurve,
    fpr_of_metric,
    last_within,
    parse_metric,
    supports,
)
from mindarmour.utils import _validate

Interval = tuple[float, float]

# thresholds kept for resampling: the supremum over more of them differs by less than the sampling error
_GRID = 256
# below so many records in a group, resampled counts are too coarse to tell how far a maximum scatters
_ENOUGH_TO_RESAMPLE = 20
# thresholds within so many standard errors of the best one may be the truly best
_CONTACT = 2.0
_ZERO_FPR = "no sample bounds the true positive rate at a false positive rate of exactly zero"


def clopper_pearson(successes: int, trials: int, confidence: float = 0.95) -> Interval:
    """Exact two-sided interval of a proportion (Clopper and Pearson 1934): coverage is at least `confidence`.

    Args:
        successes (int): Successes observed.
        trials (int): Independent trials, at least 1.
        confidence (float): Coverage, in (0, 1).

    Returns:
        tuple, lower and upper end.
    """
    from scipy.stats import beta
    trials = _validate.integer("trials", trials, low=1)
    successes = _validate.integer("successes", successes, low=0, high=trials)
    tail = _tail(confidence)
    low = 0.0 if successes == 0 else float(beta.ppf(tail, successes, trials - successes + 1))
    high = 1.0 if successes == trials else float(beta.isf(tail, successes + 1, trials - successes))
    return low, high


def metric_interval(curve: RocCurve, name: str, confidence: float, resamples: int, seed: int) -> Optional[Interval]:
    """Interval of a metric by name, None where `why_no_interval` says why.

    Args:
        curve (RocCurve): The ROC curve.
        name (str): As in `parse_metric`.
        confidence (float): Nominal coverage, in (0, 1).
        resamples (int): Draws for 'advantage' and 'balanced_accuracy'.
        seed (int): Seed of these draws.
    """
    parse_metric(name)
    _tail(confidence)
    _validate.integer("resamples", resamples, low=2)
    if why_no_interval(curve, name):
        return None
    if name == "auc":
        return auc_interval(curve, confidence)
    max_fpr = fpr_of_metric(name)
    if max_fpr is not None:
        return rate_interval(curve, max_fpr, confidence)
    low, high = advantage_interval(curve, confidence, resamples, seed)
    return (low, high) if name == "advantage" else ((1 + low) / 2, (1 + high) / 2)


def why_no_interval(curve: RocCurve, name: str) -> str:
    """Why a metric of this curve has no interval; '' if it has one."""
    return why_no_interval_for(name, int(curve.num_non_members))


def why_no_interval_for(name: str, non_members: int) -> str:
    """Why a metric has no interval with so many non-members; '' if it has one."""
    max_fpr = fpr_of_metric(name)
    if max_fpr is None:
        return ""
    if max_fpr == 0:
        return _ZERO_FPR
    if not supports(non_members, max_fpr):
        return f"a false positive rate of {max_fpr:g} needs at least {math.ceil(1 / max_fpr - 1e-9)} non-members"
    return ""


def auc_interval(curve: RocCurve, confidence: float = 0.95) -> Interval:
    """Interval of the area under the curve, for any number of records from one member and one non-member on.

    Wilson's score interval with as many trials as DeLong's variance amounts to, and Student's t in place of the
    normal quantile. Each group counts one more record than it has, placed half at 0 and half at 1 (as Agresti and
    Coull do for proportions): without it, few records that happen to be in order would give the interval [1, 1].

    References:
        DeLong, DeLong and Clarke-Pearson 1988, "Comparing the areas under two or more correlated receiver operating
        characteristic curves". Wilson 1927, "Probable inference, the law of succession, and statistical inference".
    """
    from scipy.stats import t
    members, others = (np.diff(counts) for counts in (curve.true_positives, curve.false_positives))
    # share of the other group below each score, ties half
    above = curve.false_positives[:-1] + others / 2
    area_of_member = 1 - above / curve.num_non_members
    area_of_other = (curve.true_positives[:-1] + members / 2) / curve.num_members
    area = float(np.sum(members * area_of_member) / curve.num_members)
    parts = [_variance_of_mean(members, area_of_member), _variance_of_mean(others, area_of_other)]
    variance = sum(value for value, _ in parts)
    freedom = variance ** 2 / sum(value ** 2 / degrees for value, degrees in parts)
    smaller = min(curve.num_members, curve.num_non_members)
    smoothed = (smaller * area + 0.5) / (smaller + 1)
    trials = smoothed * (1 - smoothed) / variance
    low, high = _wilson(np.array(area), trials, float(t.isf(_tail(confidence), freedom)))
    return float(low), float(high)


def _variance_of_mean(counts: np.ndarray, values: np.ndarray) -> tuple[float, float]:
    """Variance of the mean of values that occur `counts` times, one more record added, and its degrees of freedom."""
    count = counts.sum()
    mean = (np.sum(counts * values) + 0.5) / (count + 1)
    squares = np.sum(counts * (values - mean) ** 2) + (mean ** 2 + (1 - mean) ** 2) / 2
    return float(squares / count / count), float(count)


def _wilson(share: np.ndarray, trials: float, quantile: float) -> tuple[np.ndarray, np.ndarray]:
    square = quantile ** 2
    centre = (share + square / (2 * trials)) / (1 + square / trials)
    half = quantile * np.sqrt(share * (1 - share) / trials + square / (4 * trials ** 2)) / (1 + square / trials)
    return np.maximum(0.0, centre - half), np.minimum(1.0, centre + half)


def rate_interval(curve: RocCurve, max_fpr: float, confidence: float = 0.95) -> Interval:
    """Interval of the largest true positive rate at a false positive rate of at most `max_fpr` above zero.

    The truth is the rate at the population's threshold. How far that may lie from the sample's is bounded by the
    order statistics of the non-members, exactly and with ties; the error of the members at a threshold by Clopper
    and Pearson. The two are independent and add up as squares.

    References:
        Zou and Donner 2008, "Construction of confidence limits about effect measures: a general approach".
    """
    from scipy.stats import binom
    tail, members, others = _tail(confidence), curve.num_members, curve.num_non_members
    hits = curve.true_positives[last_within(curve, max_fpr * others * (1 + 1e-12))]
    # fewer, or more, non-members above the population's threshold have a probability of at most `tail`
    fewest = int(binom.ppf(tail, others, max_fpr))
    fewest -= binom.cdf(fewest, others, max_fpr) > tail
    most = int(binom.isf(tail, others, max_fpr)) + 1
    fewest_hits = curve.true_positives[last_within(curve, fewest)] if fewest >= 0 else 0.0
    beyond = np.flatnonzero(curve.false_positives >= most)
    most_hits = curve.true_positives[beyond[0]] if len(beyond) else members
    low, high = clopper_pearson(int(hits), int(members), confidence)
    rate = hits / members
    return (max(0.0, rate - math.hypot(rate - low, (hits - fewest_hits) / members)),
            min(1.0, rate + math.hypot(high - rate, (most_hits - hits) / members)))


def advantage_interval(curve: RocCurve, confidence: float = 0.95, resamples: int = 300, seed: int = 0) -> Interval:
    """Interval of the largest TPR - FPR over all thresholds.

    Lower end: the value minus a quantile of the largest resampled error over the thresholds that may be the best one
    (all of them if there is nothing to find), at most Smirnov's bound, which is used alone below 20 records. Upper
    end: the largest upper end over all thresholds, each as if it had been fixed in advance.

    References:
        Fang and Santos 2019, "Inference on directionally differentiable functions". Smirnov 1939, "On the
        estimation of the discrepancy between empirical curves of distribution for two independent samples". Newcombe
        1998, "Interval estimation for the difference between independent proportions".
    """
    from scipy.stats import norm
    tail, members, others = _tail(confidence), curve.num_members, curve.num_non_members
    value = float(np.max(curve.tpr - curve.fpr))
    hits, alarms = _thinned(curve)
    quantile = float(norm.isf(tail))
    lower, upper = _fixed_ends(hits, members, alarms, others, quantile)
    smirnov = math.sqrt(math.log(1 / tail) * (1 / members + 1 / others) / 2)
    reach = smirnov
    if min(members, others) >= _ENOUGH_TO_RESAMPLE:
        differences = hits / members - alarms / others
        contact = differences >= differences.max() - _CONTACT * math.sqrt((1 / members + 1 / others) / 4)
        rng = np.random.default_rng(seed)
        noise = resampled_errors(hits, resamples, rng) - resampled_errors(alarms, resamples, rng)
        largest = float(np.quantile(noise[:, contact].max(axis=1), 1 - tail))
        best = int(np.argmax(differences))
        reach = min(smirnov, max(largest, differences[best] - lower[best]))
    return max(0.0, value - reach), min(1.0, max(float(upper.max()), value))


def _thinned(curve: RocCurve) -> tuple[np.ndarray, np.ndarray]:
    """Counts of hits and false alarms at no more than `_GRID` thresholds, about equally many records apart."""
    progress = curve.tpr + curve.fpr
    if len(progress) <= _GRID:
        return curve.true_positives, curve.false_positives
    kept = np.unique(np.append(np.searchsorted(progress, np.linspace(0, 2, _GRID)[:-1]), len(progress) - 1))
    return curve.true_positives[kept], curve.false_positives[kept]


def _fixed_ends(hits: np.ndarray, members: float, alarms: np.ndarray, others: float,
                quantile: float) -> tuple[np.ndarray, np.ndarray]:
    """Ends of TPR - FPR at each threshold as if it had been fixed in advance (Newcombe 1998, method 10)."""
    tpr, fpr = hits / members, alarms / others
    tpr_low, tpr_high = _wilson(tpr, members, quantile)
    fpr_low, fpr_high = _wilson(fpr, others, quantile)
    difference = tpr - fpr
    return (difference - np.hypot(tpr - tpr_low, fpr_high - fpr), difference + np.hypot(tpr_high - tpr, fpr - fpr_low))


def resampled_errors(counts: np.ndarray, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """Errors of the rates at the thresholds when the group is drawn again, its size kept [resamples, thresholds]."""
    total = int(counts[-1])
    drawn = rng.multinomial(total, np.diff(counts) / total, size=resamples)
    errors = np.zeros((resamples, len(counts)))
    np.cumsum(drawn, axis=1, out=errors[:, 1:])
    return errors / total - counts / total


def _tail(confidence: float) -> float:
    return (1 - _validate.real("confidence", confidence, low=0, high=1)) / 2
