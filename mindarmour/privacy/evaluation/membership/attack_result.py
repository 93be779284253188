"""What every membership inference attack returns."""
from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Optional

import numpy as np

from mindarmour.privacy.evaluation.membership import roc
from mindarmour.utils import _validate
from mindarmour.utils.files import replacing

SUMMARY_METRICS = ("auc", "balanced_accuracy", "advantage", "tpr@10%fpr", "tpr@1%fpr", "tpr@0.1%fpr", "tpr@0%fpr")


@dataclass(frozen=True)
class OperatingPoint:
    """An attack at one threshold, with exact (Clopper-Pearson) intervals of both rates.

    Args:
        threshold (float): Records with at least this score are called members.
        tpr (float): Share of members called members.
        fpr (float): Share of non-members called members.
        tpr_interval (tuple): Interval of `tpr`, given the threshold.
        fpr_interval (tuple): Interval of `fpr`, given the threshold. Where the threshold was chosen on the same
            records, the true rate may lie a little higher than the interval says.
    """

    threshold: float
    tpr: float
    fpr: float
    tpr_interval: tuple
    fpr_interval: tuple

    def ppv(self, prior=0.5):
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
        scores (numpy.ndarray): One score per record [n], larger means "more likely a member". No NaN.
        is_member (numpy.ndarray): The truth [n], bool or 0/1, with both values present.
        ids (numpy.ndarray): Identities [n]; default 0..n-1.
        labels (numpy.ndarray): Classes [n], needed by `by_slice("class")`.
        correct (numpy.ndarray): Was the record classified correctly [n], needed by `by_slice("correct")`.
        threshold (float): The attack's own decision threshold, where it has one.
        attack (str): Name of the attack.
        threat_model (str): What the attacker is assumed to have.

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

    def __post_init__(self):
        scores = numeric_vector("scores", self.scores)
        if np.isnan(scores).any():
            raise ValueError(f"scores must not be NaN, but {int(np.isnan(scores).sum())} of {len(scores)} are. "
                             f"Check the model's outputs for overflow.")
        member = as_bool_vector("is_member", self.is_member, len(scores))
        if member.all() or not member.any():
            raise ValueError(f"is_member must contain members and non-members, but got {int(member.sum())} members "
                             f"among {len(member)} records.")
        object.__setattr__(self, "scores", scores)
        object.__setattr__(self, "is_member", member)
        ids = np.arange(len(scores)) if self.ids is None else np.asarray(self.ids)
        object.__setattr__(self, "ids", same_length("ids", ids, len(scores)))
        if self.labels is not None:
            object.__setattr__(self, "labels", same_length("labels", np.asarray(self.labels), len(scores)))
        if self.correct is not None:
            object.__setattr__(self, "correct", as_bool_vector("correct", self.correct, len(scores)))

    @cached_property
    def ranked(self):
        """The scores in order, for repeated evaluation."""
        return roc.RankedScores(self.scores, self.is_member)

    @cached_property
    def curve(self):
        """The ROC curve: `curve.fpr`, `curve.tpr`, `curve.thresholds`."""
        return self.ranked.curve()

    @property
    def auc(self):
        """Probability that a member scores above a non-member, ties counted one half."""
        return roc.auc(self.curve)

    @property
    def balanced_accuracy(self):
        """Best accuracy over all thresholds, members and non-members weighted equally.

        The threshold is chosen on the records it is judged on: at chance the value is a little above 0.5.
        """
        return roc.balanced_accuracy(self.curve)

    @property
    def advantage(self):
        """Largest TPR - FPR over all thresholds (Yeom et al. 2018)."""
        return roc.advantage(self.curve)

    def tpr_at_fpr(self, max_fpr):
        """Largest true positive rate at a false positive rate of at most `max_fpr`, in [0, 1]; None if unsupported.

        `max_fpr=0` asks for the members above every non-member, which any sample supports.
        """
        return roc.tpr_at_fpr(self.curve, _validate.real("max_fpr", max_fpr, low=0, high=1, closed="both"))

    def metric(self, name):
        """Value by name: 'auc', 'balanced_accuracy', 'advantage', 'tpr@X%fpr' (or 'tpr@X%'); None if unsupported."""
        return roc.parse_metric(name)(self.curve)

    def ci(self, name, confidence=0.95, *, method=None, resamples=1000, seed=0):
        """Confidence interval of a metric.

        Args:
            name (str): As in `metric`.
            confidence (float): Coverage, in (0, 1).
            method (str): 'clopper_pearson' (exact, for 'tpr@X%fpr' at its threshold) or 'bootstrap' (stratified,
                percentile; takes the choice of the threshold into account). None takes the exact one for rates.
            resamples (int): Bootstrap draws.
            seed (int): Seed of the bootstrap.

        Returns:
            tuple of lower and upper end; None where the metric is not available.
        """
        metric, max_fpr = roc.parse_metric(name), roc.fpr_of_metric(name)
        method = method or ("bootstrap" if max_fpr is None else "clopper_pearson")
        _validate.choice("method", method, ("clopper_pearson", "bootstrap"))
        if method == "bootstrap":
            return roc.bootstrap_interval(self.ranked, metric, confidence, resamples, seed)
        if max_fpr is None:
            raise ValueError(f"method 'clopper_pearson' must be used with a rate such as 'tpr@1%fpr', but the metric "
                             f"is {name!r}. Use method='bootstrap'.")
        point = self.operating_point(max_fpr, confidence)
        return None if point is None else point.tpr_interval

    def operating_point(self, max_fpr, confidence=0.95):
        """The `OperatingPoint` with the largest TPR whose FPR is at most `max_fpr`; None if unsupported."""
        index = roc.index_at_fpr(self.curve, _validate.real("max_fpr", max_fpr, low=0, high=1, closed="both"))
        return None if index is None else self._point(self.curve.thresholds[index], confidence)

    def decision(self, confidence=0.95):
        """The `OperatingPoint` at the attack's own threshold; None for an attack that only ranks."""
        return None if self.threshold is None else self._point(self.threshold, confidence)

    def ppv(self, max_fpr, prior=0.5):
        """Precision at a false positive rate, if a share `prior` of all records are members; None if unsupported."""
        point = self.operating_point(max_fpr)
        return None if point is None else point.ppv(prior)

    def _point(self, threshold, confidence):
        called = self.scores >= threshold
        hits, false_alarms = int((called & self.is_member).sum()), int((called & ~self.is_member).sum())
        members, others = int(self.is_member.sum()), int((~self.is_member).sum())
        return OperatingPoint(float(threshold), hits / members, false_alarms / others,
                              roc.clopper_pearson(hits, members, confidence),
                              roc.clopper_pearson(false_alarms, others, confidence))

    def per_record(self, worst=None):
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

    def by_slice(self, by):
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

    def _slice_values(self, by):
        known = {"class": self.labels, "correct": self.correct}
        if not isinstance(by, str):
            return same_length("by", np.asarray(by), len(self.scores))
        values = known[_validate.choice("by", by, tuple(known))]
        if values is None:
            raise ValueError(f"by_slice({by!r}) needs {'labels' if by == 'class' else 'correct'}, but this result "
                             f"was made without.")
        return values

    def _subset(self, chosen):
        if len(np.unique(self.is_member[chosen])) < 2:
            return None
        pick = {name: None if getattr(self, name) is None else getattr(self, name)[chosen]
                for name in ("scores", "is_member", "ids", "labels", "correct")}
        return AttackResult(**pick, threshold=self.threshold, attack=self.attack, threat_model=self.threat_model,
                            settings=self.settings)

    def plot_roc(self, ax=None, *, log=True, label=None, chance=True):
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

    def to_dict(self, confidence=0.95):
        """Plain values: attack, threat model, sample sizes, and each summary metric with its interval."""
        metrics: dict[str, Any] = {name: {"value": self.metric(name), "interval": self.ci(name, confidence)}
                                   for name in SUMMARY_METRICS}
        for entry in metrics.values():
            if entry["value"] is None:
                entry.update(value=roc.NOT_AVAILABLE, interval=roc.NOT_AVAILABLE)
        return {"attack": self.attack, "threat_model": self.threat_model, "settings": self.settings,
                "members": int(self.is_member.sum()), "non_members": int((~self.is_member).sum()),
                "confidence": confidence, "metrics": metrics}

    def to_json(self, path=None, confidence=0.95):
        """JSON text of `to_dict`; also written to `path`, in one piece, if given."""
        text = json.dumps(self.to_dict(confidence), indent=2)
        if path is not None:
            write_text_atomically(path, text + "\n")
        return text

    def summary(self, confidence=0.95):
        """A short table: each metric with its interval."""
        head = f"{self.attack or 'attack'}: {int(self.is_member.sum())} members, " \
               f"{int((~self.is_member).sum())} non-members, {confidence:.0%} intervals"
        rows = [f"  {name:<18} {roc.display(self.metric(name)):>7}  {roc.display(self.ci(name, confidence))}"
                for name in SUMMARY_METRICS]
        return "\n".join([head, *rows])


def numeric_vector(name, values):
    """`values` as a float64 vector with at least one entry."""
    array = np.asarray(values)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name} must be numbers, but got dtype {array.dtype}.")
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"{name} must be a vector with at least one entry, but got shape {array.shape}.")
    return array.astype(np.float64)


def same_length(name, array, length):
    """`array`, refused unless it has one entry per record."""
    if array.shape != (length,):
        raise ValueError(f"{name} must have one entry per record, shape ({length},), but got {array.shape}.")
    return array


def as_bool_vector(name, values, length):
    """`values` (bool or 0/1) as a bool vector of that length."""
    array = same_length(name, np.asarray(values), length)
    if array.dtype != bool and not np.isin(array, (0, 1)).all():
        raise ValueError(f"{name} must hold only True and False or 1 and 0, but got {np.unique(array)[:5].tolist()}.")
    return array.astype(bool)


def write_text_atomically(path, text):
    """Write text so that a reader sees the old file or the new one, never half of it."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
