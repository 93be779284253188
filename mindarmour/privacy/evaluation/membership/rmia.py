"""The robust membership inference attack."""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Optional, Union

import numpy as np

from mindarmour.privacy.evaluation.membership import roc
from mindarmour.privacy.evaluation.membership.attack_result import AttackResult
from mindarmour.privacy.evaluation.membership.score_attacks import checked_signals, result_of
from mindarmour.privacy.evaluation.membership.shadow_models import ShadowModels, equal_shares
from mindarmour.privacy.evaluation.membership.signals import Signals, true_class_log_probability
from mindarmour.utils import _validate


class RMIA:
    """Score: against what share of other records does this one look trained on.

    The record's probability under the audited model, divided by its average under the reference models, is compared
    with the same ratio of each population record z; the score is the share of z it exceeds gamma-fold. Strong with
    as few as two reference models.

    Args:
        mode (str): 'online' averages reference models trained with and without the record; 'offline' has only those
            without and extrapolates P_in = a P_out + 1 - a.
        gamma (float): How much larger the ratio must be, at least 1.
        a (float or str): Extrapolation in [0, 1], offline only; 'auto' chooses it on a reference model, attacked
            with the others, never on the audited one.

    Threat model: black box; the attacker knows the training recipe and has records of the population.

    References:
        Zarifzadeh, Liu and Shokri 2024, "Low-cost high-power membership inference attacks", equations 2 to 4 and
        section 3.3 (offline).

    Examples:
        >>> from mindarmour.privacy.evaluation import RMIA
        >>> RMIA(mode="offline", gamma=2.0, a=0.3).gamma
        2.0
    """

    def __init__(self, mode: str = "online", gamma: float = 2.0, a: Union[float, str] = "auto") -> None:
        self.mode = _validate.choice("mode", mode, ("online", "offline"))
        self.gamma = _validate.real("gamma", gamma, low=1, closed="low")
        self.a = a if isinstance(a, str) and a == "auto" else _validate.real("a", a, low=0, high=1, closed="both")

    def __call__(self, signals: Signals, shadow_models: ShadowModels, population: Signals, *,
                 exclude: Sequence[int] = ()) -> AttackResult:
        """Attack.

        Args:
            signals (Signals): Of the audited model; its ids are positions in the shadow models' data set.
            shadow_models (ShadowModels): Trained with a `population`; at least two, four for `a="auto"`.
            population (Signals): Of the audited model on that population.
            exclude (Sequence[int]): Shadow models to leave out.

        Returns:
            AttackResult.
        """
        checked_signals(signals)
        _validate.instance("shadow_models", shadow_models, ShadowModels)
        _validate.instance("population", population, Signals)
        settings: dict[str, Any] = {"mode": self.mode, "gamma": self.gamma}
        evidence = _Evidence(signals, shadow_models, population, exclude)
        if self.mode == "offline":
            settings["a"] = self._tuned(signals, shadow_models, exclude) if self.a == "auto" else self.a
        scores = evidence.scores(self.gamma, settings.get("a"))
        models = shadow_models.num_models - len(set(exclude))
        return result_of(self, signals, scores, **settings, models=models,
                         threat_model="black box with reference models: the attacker can train models on the same "
                                      "population with the same recipe")

    def _tuned(self, signals: Signals, shadow_models: ShadowModels, exclude: Sequence[int]) -> float:
        stand_in = next(index for index in range(shadow_models.num_models) if index not in set(exclude))
        target = shadow_models.signals(stand_in, signals.ids)
        if target.is_member.all() or not target.is_member.any():
            raise ValueError("a must be given as a number, because a reference model trained on all or none of the "
                             "audited records cannot be attacked to tune it.")
        population = shadow_models.population_signals(stand_in)
        left = {*exclude, stand_in}
        if shadow_models.num_models - len(left) < 3:
            raise ValueError(f"a='auto' needs at least 4 shadow models, one to be attacked and three to attack it, but "
                             f"{shadow_models.num_models - len(left) + 1} are left. Train more, or give a number.")
        candidates, evidence = np.linspace(0, 1, 11), _Evidence(target, shadow_models, population, left)
        quality = [roc.auc(roc.curve_of(evidence.scores(self.gamma, a), target.is_member))
                   for a in candidates]
        return float(candidates[int(np.argmax(quality))])


class _Evidence:
    """log p_y of the audited records and of the population, under the audited and under the reference models."""

    def __init__(self, signals: Signals, shadow_models: ShadowModels, population: Signals,
                 exclude: Iterable[int]) -> None:
        if population.queries.shape[1] < signals.queries.shape[1]:
            raise ValueError(f"population must hold the augmented views of the signals "
                             f"({signals.queries.shape[1] - 1}), but holds {population.queries.shape[1] - 1}. Collect "
                             f"it with the same augmentations.")
        self._shadow, trained = shadow_models.statistics(true_class_log_probability, signals, exclude=exclude)
        self._inside, self._outside = equal_shares(trained)
        self._others = shadow_models.population_statistics(true_class_log_probability, population, exclude=exclude)
        self._observed, self._population = (true_class_log_probability(part.queries, part.labels)
                                            for part in (signals, population))

    def scores(self, gamma: float, a: Optional[float]) -> np.ndarray:
        """Score of each audited record, averaged over its queries."""
        ratio = log_ratio(self._observed, self._shadow, self._inside, self._outside, a)
        everywhere = np.ones(self._others.shape[:2], bool)
        population_ratio = log_ratio(self._population, self._others, ~everywhere, everywhere, a)
        return np.mean([share_exceeded(ratio[:, query], population_ratio[:, query], gamma)
                        for query in range(ratio.shape[1])], axis=0)


def log_ratio(observed: np.ndarray, shadow: np.ndarray, inside: np.ndarray, outside: np.ndarray,
              a: Optional[float]) -> np.ndarray:
    """log P(x | audited model) - log P(x), per record and query.

    Args:
        observed (numpy.ndarray): log p_y under the audited model [n, queries].
        shadow (numpy.ndarray): log p_y under each reference model [models, n, queries].
        inside (numpy.ndarray): Reference models that count as trained on the record [models, n]; none for the
            population.
        outside (numpy.ndarray): Reference models that count as trained without it [models, n].
        a (float): Offline extrapolation; None for online.
    """
    p = np.exp(shadow)
    without = mean_where(p, outside)
    if a is not None:
        prior = ((1 + a) * without + (1 - a)) / 2
    elif inside.any():
        prior = (mean_where(p, inside) + without) / 2
    else:
        prior = without
    return observed - np.log(np.maximum(prior, np.finfo(float).tiny))


def mean_where(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Mean over the models that `mask` picks for each record."""
    count = mask.sum(axis=0)
    if count.min() < 1:
        raise ValueError("num_models must leave each record a reference model that trained on it (online) and one that "
                         "did not, but one record has none. Train more shadow models or exclude fewer.")
    return (values * mask[:, :, None]).sum(axis=0) / count[:, None]


def share_exceeded(log_ratios: np.ndarray, population_log_ratios: np.ndarray, gamma: float) -> np.ndarray:
    """Share of population records whose ratio is at most 1/gamma of the record's; ties broken by the ratio itself.

    The share takes few values, so ties are everywhere; the fraction in (0, 1) added before dividing never changes
    the order of two different shares.
    """
    from scipy.special import expit
    exceeded = np.searchsorted(np.sort(population_log_ratios), log_ratios - np.log(gamma), side="right")
    return (exceeded + expit(log_ratios)) / (len(population_log_ratios) + 1)
