"""Attacks that only look at the outputs of the audited model: no training, seconds."""
from __future__ import annotations

from typing import Any, Optional, Union

import numpy as np

from mindarmour.privacy.evaluation.checks import in_blocks, numeric_vector
from mindarmour.privacy.evaluation.membership import roc
from mindarmour.privacy.evaluation.membership.attack_result import AttackResult
from mindarmour.privacy.evaluation.membership.signals import (
    Signals,
    log_probabilities,
    log_sum_without,
    logit_scaled_confidence,
    true_class_log_probability,
)
from mindarmour.utils import _validate

BLACK_BOX = "black box: the attacker sees the model's logits or probabilities and knows the true label"


def result_of(attack: object, signals: Signals, scores: np.ndarray, *, threat_model: str = BLACK_BOX,
              threshold: Optional[float] = None, **settings: Any) -> AttackResult:
    """`AttackResult` of an attack object on `signals`."""
    return AttackResult(scores, signals.is_member, signals.ids, signals.labels, signals.correct, threshold,
                        type(attack).__name__, threat_model, settings)


class LossAttack:
    """Score: minus the cross-entropy loss.

    Threat model: black box; nothing but the audited model. The weakest baseline: hard records have a high loss
    whether they were trained on or not, so it recognises almost nobody at low false positive rates.

    References:
        Yeom et al. 2018, "Privacy risk in machine learning", adversary 1.

    Examples:
        >>> import numpy as np
        >>> from mindarmour.privacy.evaluation import LossAttack, Signals
        >>> signals = Signals(np.array([[9.0, 0.0], [1.0, 0.0]]), np.array([0, 0]), np.array([True, False]))
        >>> LossAttack()(signals).auc
        1.0
    """

    def __call__(self, signals: Signals) -> AttackResult:
        """Attack `signals` (Signals) and return an `AttackResult`."""
        return result_of(self, checked_signals(signals), -signals.losses)


class ConfidenceAttack:
    """Score: how sure the model is.

    Args:
        kind (str): 'logit' for phi = log p_y - log(1 - p_y), LiRA's statistic, 'true' for the probability of the
            true class, or 'max' for the largest probability, which needs no label. The first two order records as
            `LossAttack` does; only 'max' is another attack.

    Threat model: black box; nothing but the audited model.

    References:
        Salem et al. 2019, "ML-Leaks", adversary 3 (largest probability); Carlini et al. 2022, section IV-C (phi).
    """

    def __init__(self, kind: str = "logit") -> None:
        self.kind = _validate.choice("kind", kind, ("logit", "true", "max"))

    def __call__(self, signals: Signals) -> AttackResult:
        """Attack `signals` (Signals) and return an `AttackResult`."""
        checked_signals(signals)
        if self.kind == "logit":
            scores = logit_scaled_confidence(signals.logits, signals.labels)
        elif self.kind == "true":
            scores = true_class_log_probability(signals.logits, signals.labels)
        else:
            scores = in_blocks(_largest_log_probability, signals.logits)
        return result_of(self, signals, scores, kind=self.kind)


def _largest_log_probability(logits: np.ndarray) -> np.ndarray:
    top = logits.argmax(axis=1)[:, None]
    return -np.logaddexp(0, log_sum_without(logits, top) - np.take_along_axis(logits, top, axis=1)[:, 0])


class EntropyAttack:
    """Score: minus the entropy of the prediction, or minus Song and Mittal's modified entropy.

    Args:
        modified (bool): Modified entropy, which also counts whether the sure prediction is right:
            -(1 - p_y) log p_y - sum over the other classes of p_i log(1 - p_i).

    Threat model: black box; with `reference`, also one shadow model whose training set the attacker knows.

    References:
        Song and Mittal 2021, "Systematic evaluation of privacy risks of machine learning models", equation 8 and,
        for the thresholds per class, section 3.2.
    """

    def __init__(self, modified: bool = True) -> None:
        self.modified = _validate.boolean("modified", modified)

    def __call__(self, signals: Signals, reference: Optional[Signals] = None) -> AttackResult:
        """Attack.

        Args:
            signals (Signals): Of the audited model.
            reference (Signals): Of a shadow model on its own members and non-members. The best threshold of each
                class is chosen there and subtracted; None uses one scale for all classes.

        Returns:
            AttackResult, with threshold 0 if a reference was given.
        """
        scores = self.scores(checked_signals(signals))
        if reference is None:
            return result_of(self, signals, scores, modified=self.modified)
        checked_signals(reference, "reference")
        offsets = class_thresholds(self.scores(reference), reference)
        missing = sorted(set(signals.labels.tolist()) - set(offsets))
        if missing:
            raise ValueError(f"reference must hold members and non-members of every audited class, but classes "
                             f"{missing[:5]} lack them. Use a larger reference, or none.")
        scores = scores - np.array([offsets[label] for label in signals.labels.tolist()])
        return result_of(self, signals, scores, threshold=0.0, modified=self.modified,
                         threat_model=BLACK_BOX + ", and has one shadow model")

    def scores(self, signals: Signals) -> np.ndarray:
        """The score of each record, before any threshold."""
        return in_blocks(_modified_entropy if self.modified else _negative_entropy, signals.logits, signals.labels)


def _negative_entropy(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    log_p = log_probabilities(logits)
    return (np.exp(log_p) * log_p).sum(axis=1)


def _modified_entropy(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Minus Song and Mittal's modified entropy. log(1 - p) is taken from the logits where 1 - p would round to 0."""
    p = np.exp(log_probabilities(logits))
    index, top = labels[:, None], logits.argmax(axis=1)[:, None]
    top_odds = np.take_along_axis(logits, top, axis=1)[:, 0] - log_sum_without(logits, top)
    # of all classes only the likeliest can have a probability above one half
    others = np.log1p(-np.minimum(p, 0.75))
    np.put_along_axis(others, top, -np.logaddexp(0, top_odds)[:, None], axis=1)
    others *= p
    np.put_along_axis(others, index, 0, axis=1)
    odds = np.take_along_axis(logits, index, axis=1)[:, 0] - log_sum_without(logits, index)
    return others.sum(axis=1) - np.exp(-np.logaddexp(0, odds)) * np.logaddexp(0, -odds)


def class_thresholds(scores: np.ndarray, reference: Signals) -> dict[int, float]:
    """Score with the largest TPR - FPR for each class that has members and non-members in the reference."""
    thresholds = {}
    for label in np.unique(reference.labels):
        of_class = reference.labels == label
        member = reference.is_member[of_class]
        if member.any() and not member.all():
            curve = roc.curve_of(scores[of_class], member)
            # not the first point: its threshold is infinite, "nobody"
            best = 1 + int(np.argmax((curve.tpr - curve.fpr)[1:]))
            thresholds[int(label)] = float(curve.thresholds[best])
    return thresholds


class GapAttack:
    """Score: 1 if the record is classified correctly, else 0.

    Its balanced accuracy is 1/2 + (accuracy on members - accuracy on non-members) / 2: what the generalisation gap
    alone gives away. An attack that does not beat it has learned nothing about single records.

    Threat model: label only.

    References:
        Yeom et al. 2018, section 3.2 (baseline of Choquette-Choo et al. 2021).
    """

    def __call__(self, signals: Signals) -> AttackResult:
        """Attack `signals` (Signals) and return an `AttackResult` with threshold 0.5."""
        checked_signals(signals)
        return result_of(self, signals, signals.correct.astype(float), threshold=0.5,
                         threat_model="label only: the attacker sees the predicted class and knows the true label")


class PopulationAttack:
    """Member if the loss is below the alpha-quantile of the losses of records that were not trained on.

    The false positive rate is at most alpha in expectation, without any shadow model. Records that tie with the
    quantile are not called members: where many losses are equal (trees, saturated networks) the rate is lower.

    Args:
        alpha (float): False positive rate, in (0, 1).

    Threat model: black box; the attacker also has records of the same population that are surely not members.

    References:
        Ye et al. 2022, "Enhanced membership inference attacks against machine learning models", attack P.
    """

    def __init__(self, alpha: float = 0.01) -> None:
        self.alpha = _validate.real("alpha", alpha, low=0, high=1)

    def __call__(self, signals: Signals, population: Union[Signals, np.ndarray]) -> AttackResult:
        """Attack.

        Args:
            signals (Signals): Of the audited model.
            population (Signals or numpy.ndarray): The audited model on records outside its training set and
                outside `signals`, or just their losses [n].

        Returns:
            AttackResult, whose `decision()` is the attack at alpha.
        """
        checked_signals(signals)
        losses = population.losses if isinstance(population, Signals) else numeric_vector("population", population)
        # the next loss is smaller than the k-th smallest of n with a probability of at most k / (n + 1), ties or not
        rank = int(np.floor(self.alpha * (len(losses) + 1) + 1e-9))
        if rank < 1:
            raise ValueError(f"population must hold at least 1 / alpha - 1 = {1 / self.alpha - 1:.0f} records for "
                             f"alpha={self.alpha}, but got {len(losses)}.")
        threshold = just_above(-float(np.partition(losses, rank - 1)[rank - 1]))
        return result_of(self, signals, -signals.losses, threshold=threshold, alpha=self.alpha,
                         threat_model=BLACK_BOX + ", and has other records of the population")


def just_above(threshold: float) -> float:
    """The threshold that leaves out the scores equal to `threshold`."""
    return float(np.nextafter(threshold, np.inf))


def checked_signals(signals: Any, name: str = "signals") -> Signals:
    """`signals`, refused unless it is a `Signals`."""
    return _validate.instance(name, signals, Signals)
