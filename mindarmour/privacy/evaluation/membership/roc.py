"""ROC curves of membership scores and what is read off them. NumPy and SciPy only."""
from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Callable, Optional, Union

import numpy as np

from mindarmour.utils import _validate

_TPR_NAME = re.compile(r"^tpr@(\d+(?:\.\d+)?)%(?:fpr)?$")
NOT_AVAILABLE = "n/a"


@dataclass(frozen=True)
class RocCurve:
    """One point per distinct threshold: call a record a member if its score is at least the threshold.

    Args:
        thresholds (numpy.ndarray): Descending, starting at +inf (nobody is called a member).
        true_positives (numpy.ndarray): Members at or above each threshold.
        false_positives (numpy.ndarray): Non-members at or above each threshold.
    """

    thresholds: np.ndarray
    true_positives: np.ndarray
    false_positives: np.ndarray

    @property
    def tpr(self) -> np.ndarray:
        """True positive rate at each threshold."""
        return self.true_positives / self.true_positives[-1]

    @property
    def fpr(self) -> np.ndarray:
        """False positive rate at each threshold."""
        return self.false_positives / self.false_positives[-1]

    @property
    def num_members(self) -> float:
        """Number of members."""
        return self.true_positives[-1]

    @property
    def num_non_members(self) -> float:
        """Number of non-members."""
        return self.false_positives[-1]


def curve_of(scores: np.ndarray, is_member: np.ndarray) -> RocCurve:
    """The ROC curve.

    Args:
        scores (numpy.ndarray): Scores [n], larger means member, finite.
        is_member (numpy.ndarray): Truth [n], bool.
    """
    order = np.argsort(-scores, kind="stable")
    ordered, members = scores[order], is_member[order]
    # records with equal scores fall on the same side of every threshold: one point of the curve for a tie
    last_of_tie = np.append(np.flatnonzero(ordered[1:] != ordered[:-1]), len(ordered) - 1)
    hits, alarms = (np.append(0.0, np.cumsum(chosen)[last_of_tie]) for chosen in (members, ~members))
    return RocCurve(np.append(np.inf, ordered[last_of_tie]), hits, alarms)


def auc(curve: RocCurve) -> float:
    """Area under the curve; ties count one half."""
    tpr, fpr = curve.tpr, curve.fpr
    return float(np.sum(np.diff(fpr) * (tpr[1:] + tpr[:-1]) / 2))


def balanced_accuracy(curve: RocCurve) -> float:
    """Largest accuracy over all thresholds, members and non-members weighted equally: 1 - (FPR + FNR) / 2."""
    return float((1 + np.max(curve.tpr - curve.fpr)) / 2)


def advantage(curve: RocCurve) -> float:
    """Largest TPR - FPR (Yeom et al. 2018, definition 4)."""
    return float(np.max(curve.tpr - curve.fpr))


def index_at_fpr(curve: RocCurve, max_fpr: float) -> Optional[int]:
    """Position of the lowest threshold whose false positive rate is at most `max_fpr`; None if unsupported.

    A sample of n non-members has no false positive rate between 0 and 1/n, so a rate below 1/n needs more.
    """
    if not supports(curve.num_non_members, max_fpr):
        return None
    return last_within(curve, max_fpr * curve.num_non_members * (1 + 1e-12))


def supports(non_members: float, max_fpr: float) -> bool:
    """Do so many non-members say anything about that false positive rate?"""
    return max_fpr == 0 or non_members * max_fpr >= 1 - 1e-9


def last_within(curve: RocCurve, most: float) -> int:
    """Position of the lowest threshold with at most `most` false positives."""
    return int(np.flatnonzero(curve.false_positives <= most)[-1])


def tpr_at_fpr(curve: RocCurve, max_fpr: float) -> Optional[float]:
    """Largest TPR whose FPR is at most `max_fpr`, None where the sample cannot support that rate."""
    index = index_at_fpr(curve, max_fpr)
    return None if index is None else float(curve.tpr[index])


def parse_metric(name: str) -> Callable[[RocCurve], Optional[float]]:
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


def fpr_of_metric(name: str) -> Optional[float]:
    """False positive rate of a name such as 'tpr@0.1%fpr' (0.001), None for other names."""
    match = _TPR_NAME.match(name)
    if not match or float(match.group(1)) > 100:
        return None
    return float(match.group(1)) / 100


def display(value: Union[None, float, tuple], digits: int = 4) -> str:
    """Text of a number, a pair of numbers or None ('n/a')."""
    if value is None:
        return NOT_AVAILABLE
    if isinstance(value, tuple):
        return f"[{', '.join(display(end, digits) for end in value)}]"
    return f"{value:.{digits}f}" if math.isfinite(value) else str(value)
