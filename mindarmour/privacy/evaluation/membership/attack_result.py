"""What every membership inference attack returns."""
from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Optional, Union

import numpy as np

from mindarmour.privacy.evaluation.checks import as_bool_vector, numeric_vector, same_length
from mindarmour.privacy.evaluation.membership import intervals, roc
from mindarmour.utils import _validate
from mindarmour.utils.files import replacing

SUMMARY_METRICS = ("auc", "balanced_accuracy", "advantage", "tpr@10%fpr", "tpr@1%fpr", "tpr@0.1%fpr", "tpr@0%fpr")


@dataclass(frozen=True)
class OperatingPoint:
    """An attack at one threshold, with Clopper-Pearson intervals of both rates *at this threshold*.

    They cover where the threshold was chosen on the same non-members too. They say nothing about the rate at the
    population's own threshold for a false positive rate: that is `AttackResult.ci("tpr@1%fpr")`.

    Args:
        threshold (float): Records with at least this score are called members.
        tpr (float): Share of members called members.
        fpr (float): Share of non-members called members.
        tpr_interval (tuple): Interval of the true positive rate at the threshold; None for a result without intervals.
        fpr_interval (tuple): Interval of the false positive rate at the threshold; None likewise.
    """

    threshold: float
    tpr: float
    fpr: float
    tpr_interval: Optional[tuple]
    fpr_interval: Optional[tuple]

    def ppv(self, prior: float = 0.5) -> Optional[float]:
        """Probability that a record called a member is one, if a share `prior` of all records are members."""
        prior = _validate.real("prior", prior, low=0, high=1)
        called = prior * self.tpr + (1 - prior) * self.fpr
        return prior * self.tpr / called if called > 0 else None


@dataclass(frozen=True)
class AttackResult:
    """Membership scores of one attack, and everything that is read off them.

    Rates the sample cannot support are None, shown as 'n/a': n non-members say nothing about a false positive
    rate below 1/n.

    Args:
        scores (numpy.ndarray): One score per record [n], larger means "more likely a member". No NaN; an infinite
            score becomes the largest or smallest finite number.
        is_member (numpy.ndarray): The truth [n], bool or 0/1, with both values present.
        ids (numpy.ndarray): Identities [n]; default 0..n-1.
        labels (numpy.ndarray): Classes [n], needed by `by_slice("class")`.
        correct (numpy.ndarray): Was the record classified correctly [n], needed by `by_slice("correct")`.
        threshold (float): The attack's own decision threshold, where it has one.
        attack (str): Name of the attack.
        threat_model (str): What the attacker is assumed to have.
        settings (dict): Settings of the attack; NumPy numbers become Python numbers.
        without_intervals (str): Why no interval is valid for these scores, such as scores of classifiers that were
            fitted on the other records; '' if records are scored independently of each other.

    Raises:
        TypeError: If the arrays are not numeric.
        ValueError: If an array is empty, has NaN or another length, or only one kind of record is present.

    References:
        Carlini et al. 2022, "Membership inference attacks from first principles", section II-C (why the true
        positive rate at low false positive rates).

    Examples:
        >>> import numpy as np
        >>> from mindarmour.privacy.evaluation import AttackResult
        >>> result = AttackResult(np.array([3.0, 2.0, 1.0, 0.0]), np.array([True, True, False, False]))
        >>> result.auc, result.tpr_at_fpr(0), result.tpr_at_fpr(0.01)
        (1.0, 1.0, None)
    """

    scores: np.ndarray
    is_member: np.ndarray
    ids: Optional[np.ndarray] = None
    labels: Optional[np.ndarray] = None
    correct: Optional[np.ndarray] = None
    threshold: Optional[float] = None
    attack: str = ""
    threat_model: str = ""
    settings: dict = field(default_factory=dict)
    without_intervals: str = ""

    def __post_init__(self) -> None:
        scores = numeric_vector("scores", self.scores)
        if np.isnan(scores).any():
            raise ValueError(f"scores must not be NaN, but {int(np.isnan(scores).sum())} of {len(scores)} are. "
                             f"Check the model's outputs for overflow.")
        member = as_bool_vector("is_member", self.is_member, len(scores))
        if member.all() or not member.any():
            raise ValueError(f"is_member must contain members and non-members, but got {int(member.sum())} members "
                             f"among {len(member)} records.")
        # +inf is the threshold that calls nobody a member, so no score may reach it
        largest = np.finfo(np.float64).max
        object.__setattr__(self, "scores", np.clip(scores, -largest, largest))
        object.__setattr__(self, "settings", {name: _plain(value) for name, value in self.settings.items()})
        object.__setattr__(self, "is_member", member)
        ids = np.arange(len(scores)) if self.ids is None else np.asarray(self.ids)
        object.__setattr__(self, "ids", same_length("ids", ids, len(scores)))
        if self.labels is not None:
            object.__setattr__(self, "labels", same_length("labels", np.asarray(self.labels), len(scores)))
        if self.correct is not None:
            object.__setattr__(self, "correct", as_bool_vector("correct", self.correct, len(scores)))

    @cached_property
    def curve(self) -> roc.RocCurve:
        """The ROC curve: `curve.fpr`, `curve.tpr`, `curve.thresholds`."""
        return roc.curve_of(self.scores, self.is_member)

    @property
    def auc(self) -> float:
        """Probability that a member scores above a non-member, ties counted one half."""
        return roc.auc(self.curve)

    @property
    def balanced_accuracy(self) -> float:
        """Best accuracy over all thresholds, members and non-members weighted equally.

        The threshold is chosen on the records it is judged on: at chance the value is a little above 0.5.
        """
        return roc.balanced_accuracy(self.curve)

    @property
    def advantage(self) -> float:
        """Largest TPR - FPR over all thresholds (Yeom et al. 2018)."""
        return roc.advantage(self.curve)

    def tpr_at_fpr(self, max_fpr: float) -> Optional[float]:
        """Largest true positive rate at a false positive rate of at most `max_fpr`, in [0, 1]; None if unsupported.

        `max_fpr=0` asks for the members above every non-member, which any sample supports.
        """
        return roc.tpr_at_fpr(self.curve, _validate.real("max_fpr", max_fpr, low=0, high=1, closed="both"))

    def metric(self, name: str) -> Optional[float]:
        """Value by name: 'auc', 'balanced_accuracy', 'advantage', 'tpr@X%fpr' (or 'tpr@X%'); None if unsupported."""
        return roc.parse_metric(name)(self.curve)

    def ci(self, name: str, confidence: float = 0.95, *, resamples: int = 300,
           seed: int = 0) -> Optional[tuple[float, float]]:
        """Confidence interval of a metric, which takes the choice of thresholds into account.

        'auc': a score interval with DeLong's variance. 'tpr@X%fpr': of the rate at the population's threshold.
        'advantage' and 'balanced_accuracy': corrected for the maximum over thresholds; with nothing to find, the
        lower end is chance.

        Args:
            name (str): As in `metric`.
            confidence (float): Coverage, in (0, 1), of one interval of one attack: the best of many attacks or
                slices is not covered.
            resamples (int): Draws for 'advantage' and 'balanced_accuracy'.
            seed (int): Seed of these draws.

        Returns:
            tuple of lower and upper end; None where no valid interval is known, and `note` says why.

        References:
            See `mindarmour.privacy.evaluation.membership.intervals`.
        """
        interval = intervals.metric_interval(self.curve, name, confidence, resamples, seed)
        return None if self.without_intervals else interval

    def note(self, name: str) -> str:
        """Why the metric of that name has no interval; '' if it has one."""
        roc.parse_metric(name)
        return self.without_intervals or intervals.why_no_interval(self.curve, name)

    def operating_point(self, max_fpr: float, confidence: float = 0.95) -> Optional[OperatingPoint]:
        """The `OperatingPoint` with the largest TPR whose FPR is at most `max_fpr`; None if unsupported."""
        index = roc.index_at_fpr(self.curve, _validate.real("max_fpr", max_fpr, low=0, high=1, closed="both"))
        return None if index is None else self._point(self.curve.thresholds[index], confidence)

    def decision(self, confidence: float = 0.95) -> Optional[OperatingPoint]:
        """The `OperatingPoint` at the attack's own threshold; None for an attack that only ranks."""
        return None if self.threshold is None else self._point(self.threshold, confidence)

    def ppv(self, max_fpr: float, prior: float = 0.5) -> Optional[float]:
        """Precision at a false positive rate, if a share `prior` of all records are members; None if unsupported."""
        point = self.operating_point(max_fpr)
        return None if point is None else point.ppv(prior)

    def _point(self, threshold: float, confidence: float) -> OperatingPoint:
        called = self.scores >= threshold
        hits, false_alarms = int((called & self.is_member).sum()), int((called & ~self.is_member).sum())
        members, others = int(self.is_member.sum()), int((~self.is_member).sum())
        counts = ((hits, members), (false_alarms, others))
        exact = [None if self.without_intervals else intervals.clopper_pearson(count, total, confidence)
                 for count, total in counts]
        return OperatingPoint(float(threshold), hits / members, false_alarms / others, *exact)

    def per_record(self, worst: Optional[int] = None) -> np.ndarray:
        """Records from the most to the least exposed.

        Args:
            worst (int): Return only so many; None returns all.

        Returns:
            numpy.ndarray with the fields id, label (-1 if unknown), is_member, score, and fpr: the share of
            non-members that score at least as high, so a member with fpr 0 is recognised without a false alarm.
        """
        others = np.sort(self.scores[~self.is_member])
        above = len(others) - np.searchsorted(others, self.scores, side="left")
        labels = np.full(len(self.scores), -1) if self.labels is None else self.labels
        columns = {"id": self.ids, "label": labels, "is_member": self.is_member, "score": self.scores,
                   "fpr": above / len(others)}
        table = np.zeros(len(self.scores), [(name, column.dtype) for name, column in columns.items()])
        for name, column in columns.items():
            table[name] = column
        table = table[np.argsort(-self.scores, kind="stable")]
        return table if worst is None else table[:_validate.integer("worst", worst, low=1)]

    def by_slice(self, by: Union[str, np.ndarray]) -> dict[Any, Optional[AttackResult]]:
        """The same attack on parts of the records.

        Args:
            by (str or numpy.ndarray): 'class' (one slice per label), 'correct' (classified correctly or not), or
                an array [n]: a bool mask, or any value per record.

        Returns:
            dict from the slice's value to its `AttackResult`, or to None where the slice holds only members or
            only non-members.
        """
        values = self._slice_values(by)
        return {value.item(): self._subset(values == value) for value in np.unique(values)}

    def _slice_values(self, by: Union[str, np.ndarray]) -> np.ndarray:
        known = {"class": self.labels, "correct": self.correct}
        if not isinstance(by, str):
            return same_length("by", np.asarray(by), len(self.scores))
        values = known[_validate.choice("by", by, tuple(known))]
        if values is None:
            raise ValueError(f"by_slice({by!r}) needs {'labels' if by == 'class' else 'correct'}, but this result "
                             f"was made without.")
        return values

    def _subset(self, chosen: np.ndarray) -> Optional[AttackResult]:
        if len(np.unique(self.is_member[chosen])) < 2:
            return None
        pick = {name: None if getattr(self, name) is None else getattr(self, name)[chosen]
                for name in ("scores", "is_member", "ids", "labels", "correct")}
        return AttackResult(**pick, threshold=self.threshold, attack=self.attack, threat_model=self.threat_model,
                            settings=self.settings, without_intervals=self.without_intervals)

    def plot_roc(self, ax: Any = None, *, log: bool = True, label: Optional[str] = None, chance: bool = True) -> Any:
        """Draw the ROC curve.

        Args:
            ax (matplotlib.axes.Axes): Where to draw; None makes a new figure.
            log (bool): Logarithmic axes, which show the low false positive rates that matter.
            label (str): Text of the legend; default the attack's name and AUC.
            chance (bool): Draw the diagonal of guessing too.

        Returns:
            matplotlib.axes.Axes, drawn on.
        """
        from mindarmour.privacy.evaluation.membership.roc_plot import draw
        return draw(self, ax, log=log, label=label, chance=chance)

    def to_dict(self, confidence: float = 0.95) -> dict[str, Any]:
        """Plain values: attack, threat model, sample sizes, each summary metric with its interval, and notes."""
        metrics = {}
        for name in SUMMARY_METRICS:
            value, interval = self.metric(name), self.ci(name, confidence)
            metrics[name] = {"value": roc.NOT_AVAILABLE if value is None else value,
                             "interval": roc.NOT_AVAILABLE if interval is None else interval}
        return {"attack": self.attack, "threat_model": self.threat_model, "settings": self.settings,
                "members": int(self.is_member.sum()), "non_members": int((~self.is_member).sum()),
                "confidence": confidence, "metrics": metrics, "notes": self._notes()}

    def _notes(self) -> list[str]:
        """Each reason for a missing interval, once."""
        reasons: dict[str, list] = {}
        for name in SUMMARY_METRICS:
            if self.note(name):
                reasons.setdefault(self.note(name), []).append(name)
        if self.without_intervals:
            return [f"no intervals: {self.without_intervals}"]
        return [f"{', '.join(names)}: no interval, because {reason}" for reason, names in reasons.items()]

    def to_json(self, path: Union[None, str, os.PathLike] = None, confidence: float = 0.95) -> str:
        """JSON text of `to_dict`; also written to `path`, in one piece, if given."""
        text = json.dumps(self.to_dict(confidence), indent=2)
        if path is not None:
            write_text_atomically(path, text + "\n")
        return text

    def summary(self, confidence: float = 0.95) -> str:
        """A short table: each metric with its interval."""
        head = f"{self.attack or 'attack'}: {int(self.is_member.sum())} members, " \
               f"{int((~self.is_member).sum())} non-members, {confidence:.0%} intervals"
        rows = [f"  {name:<18} {roc.display(self.metric(name)):>7}  {roc.display(self.ci(name, confidence))}"
                for name in SUMMARY_METRICS]
        return "\n".join([head, *rows, *(f"  ({note})" for note in self._notes())])


def _plain(value: Any) -> Any:
    """Python numbers and lists in place of NumPy's, which JSON does not know."""
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def write_text_atomically(path: Union[str, os.PathLike], text: str) -> None:
    """Write text so that a reader sees the old file or the new one, never half of it."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
