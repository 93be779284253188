"""ROC curves of membership scores and what is read off them. NumPy and SciPy only."""
from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np

from mindarmour.utils import _validate

_TPR_NAME = re.compile(r"^tpr@(\d+(?:\.\d+)?)%(?:fpr)?$")
NOT_AVAILABLE = "n/a"


@dataclass(frozen=True)
class RocCurve:
    """One point per distinct threshold: call a record a member if its score is at least the threshold.

    Args:
        thresholds (numpy.ndarray): Descending, starting at +inf (nobody is called a member).
        true_positives (numpy.ndarray): Weight of the members at or above each threshold.
        false_positives (numpy.ndarray): Weight of the non-members at or above each threshold.
    """

    thresholds: np.ndarray
    true_positives: np.ndarray
    false_positives: np.ndarray

    @property
    def tpr(self):
        """True positive rate at each threshold."""
        return self.true_positives / self.true_positives[-1]

    @property
    def fpr(self):
        """False positive rate at each threshold."""
        return self.false_positives / self.false_positives[-1]

    @property
    def num_members(self):
        """Number (total weight) of members."""
        return self.true_positives[-1]

    @property
    def num_non_members(self):
        """Number (total weight) of non-members."""
        return self.false_positives[-1]


class RankedScores:
    """Scores sorted once, so that many weightings (bootstrap draws) of the same records are cheap.

    Args:
        scores (numpy.ndarray): Scores [n], larger means member.
        is_member (numpy.ndarray): Truth [n], bool.
    """

    def __init__(self, scores, is_member):
        order = np.argsort(-scores, kind="stable")
        ordered = scores[order]
        self._is_member = is_member[order]
        # records with equal scores fall on the same side of every threshold: one point of the curve for a tie
        self._last_of_tie = np.append(np.flatnonzero(ordered[1:] != ordered[:-1]), len(ordered) - 1)
        self._thresholds = np.append(np.inf, ordered[self._last_of_tie])
        self._members = np.flatnonzero(self._is_member)
        self._non_members = np.flatnonzero(~self._is_member)

    def curve(self, weights=None):
        """The ROC curve, each record counted `weights` times (once if None)."""
        weights = np.ones(len(self._is_member)) if weights is None else weights
        counts = [np.append(0.0, np.cumsum(np.where(chosen, weights, 0.0))[self._last_of_tie])
                  for chosen in (self._is_member, ~self._is_member)]
        return RocCurve(self._thresholds, *counts)

    def resampled_curve(self, rng):
        """The ROC curve of a stratified bootstrap draw: members and non-members are drawn separately."""
        weights = np.zeros(len(self._is_member))
        for group in (self._members, self._non_members):
            weights[group] = np.bincount(rng.integers(0, len(group), len(group)), minlength=len(group))
        return self.curve(weights)


def auc(curve):
    """Area under the curve; ties count one half."""
    tpr, fpr = curve.tpr, curve.fpr
    return float(np.sum(np.diff(fpr) * (tpr[1:] + tpr[:-1]) / 2))


def balanced_accuracy(curve):
    """Largest accuracy over all thresholds, members and non-members weighted equally: 1 - (FPR + FNR) / 2."""
    return float((1 + np.max(curve.tpr - curve.fpr)) / 2)


def advantage(curve):
    """Largest TPR - FPR (Yeom et al. 2018, definition 4)."""
    return float(np.max(curve.tpr - curve.fpr))


def index_at_fpr(curve, max_fpr):
    """Position of the lowest threshold whose false positive rate is at most `max_fpr`; None if unsupported.

    A sample of n non-members has no false positive rate between 0 and 1/n, so a rate below 1/n needs more.
    """
    if max_fpr > 0 and curve.num_non_members * max_fpr < 1 - 1e-9:
        return None
    allowed = curve.false_positives <= max_fpr * curve.num_non_members * (1 + 1e-12)
    return int(np.flatnonzero(allowed)[-1])


def tpr_at_fpr(curve, max_fpr):
    """Largest TPR whose FPR is at most `max_fpr`, None where the sample cannot support that rate."""
    index = index_at_fpr(curve, max_fpr)
    return None if index is None else float(curve.tpr[index])


def parse_metric(name):
    """Function curve -> value (or None) of a metric name.

    Args:
        name (str): 'auc', 'balanced_accuracy', 'advantage' or 'tpr@X%fpr' ('tpr@X%') with X a percentage.

    Raises:
        TypeError: If `name` is not a str.
        ValueError: If the metric is unknown.
    """
    _validate.instance("metric", name, str)
    plain = {"auc": auc, "balanced_accuracy": balanced_accuracy, "advantage": advantage}
    if name in plain:
        return plain[name]
    max_fpr = fpr_of_metric(name)
    if max_fpr is None:
        raise ValueError(f"metric must be one of {', '.join(map(repr, plain))} or 'tpr@X%fpr' with X from 0 to 100, "
                         f"but got {name!r}.")
    return lambda curve: tpr_at_fpr(curve, max_fpr)


def fpr_of_metric(name):
    """False positive rate of a name such as 'tpr@0.1%fpr' (0.001), None for other names."""
    match = _TPR_NAME.match(name)
    if not match or float(match.group(1)) > 100:
        return None
    return float(match.group(1)) / 100


def clopper_pearson(successes, trials, confidence=0.95):
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
    tail = (1 - _validate.real("confidence", confidence, low=0, high=1)) / 2
    low = 0.0 if successes == 0 else float(beta.ppf(tail, successes, trials - successes + 1))
    high = 1.0 if successes == trials else float(beta.isf(tail, successes + 1, trials - successes))
    return low, high


def bootstrap_interval(ranked, metric, confidence=0.95, resamples=1000, seed=0):
    """Percentile interval from stratified resampling (Efron and Tibshirani 1993, chapter 13).

    Args:
        ranked (RankedScores): The scores.
        metric (Callable): Curve -> value or None.
        confidence (float): Nominal coverage, in (0, 1).
        resamples (int): Draws.
        seed (int): Seed of the draws.

    Returns:
        tuple of lower and upper end, or None where the metric is not available.
    """
    tail = (1 - _validate.real("confidence", confidence, low=0, high=1)) / 2
    if metric(ranked.curve()) is None:
        return None
    rng = np.random.default_rng(seed)
    draws = [metric(ranked.resampled_curve(rng)) for _ in range(_validate.integer("resamples", resamples, low=2))]
    low, high = np.quantile(np.array(draws, float), [tail, 1 - tail])
    return float(low), float(high)


def display(value, digits=4):
    """Text of a number, a pair of numbers or None ('n/a')."""
    if value is None:
        return NOT_AVAILABLE
    if isinstance(value, tuple):
        return f"[{', '.join(display(end, digits) for end in value)}]"
    return f"{value:.{digits}f}" if math.isfinite(value) else str(value)
