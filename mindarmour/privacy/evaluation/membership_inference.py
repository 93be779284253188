"""The documented membership inference evaluator: classifiers trained to tell members from non-members."""
from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Optional, Union

import numpy as np

from mindarmour.privacy.evaluation._check_config import method_of, verify_config_params
from mindarmour.privacy.evaluation.attacker import _get_attack_model, refitted
from mindarmour.privacy.evaluation.checks import checked_outputs, require_classes, warn_of_shared_records
from mindarmour.privacy.evaluation.forward import predict_queries
from mindarmour.privacy.evaluation.membership import roc
from mindarmour.privacy.evaluation.membership.attack_result import AttackResult
from mindarmour.privacy.evaluation.membership.records import read_records
from mindarmour.privacy.evaluation.membership.signals import logit_scaled_confidence
from mindarmour.utils import _validate

if TYPE_CHECKING:
    from mindspore.dataset import Dataset
    from mindspore.train import Model

_PLAIN_METRICS = ("precision", "accuracy", "recall")
_FOLDS = 3
_OUT_OF_FOLD = ("records were judged by classifiers fitted on the others, so their scores depend on each other; give "
                "results() records that train() has not seen")
# feature rows closer than this, relative to their size, are the same record seen through another batch
_SAME_RECORD = 1e-4


@dataclass(frozen=True)
class _FittedAttack:
    """One attack: parameters chosen and classifier fitted on all records, then fitted once without each fold."""

    method: str
    full: Any
    per_fold: tuple

    def scores(self, features: np.ndarray, folds: np.ndarray) -> np.ndarray:
        """Probability of membership; a record of fold k is judged by the classifier that never saw fold k."""
        scores = np.empty(len(features))
        for fold, model in [(-1, self.full), *enumerate(self.per_fold)]:
            chosen = folds == fold
            if chosen.any():
                scores[chosen] = model.predict_proba(features[chosen])[:, 1]
        return scores


class MembershipInference:
    """Evaluates how well classifiers can infer membership from the model's outputs.

    The classifiers see, of each record, the loss, the logits, the logits in descending order and the logit-scaled
    confidence, all standardised. Members and non-members count equally, however many there are of each, so 0.5 is
    chance for accuracy and precision. Records that `eval` shares with `train` are judged by classifiers that were
    fitted without them.

    Threat model: black box; the attacker sees logits, knows the true labels, and knows the membership of the
    records given to `train`. At low false positive rates expect no more than `LossAttack` finds; `LiRA` and `RMIA`
    find more.

    Args:
        model (mindspore.train.Model): The audited model.
        n_jobs (int): Parallel jobs of the parameter search, -1 for all processors.

    Raises:
        TypeError: If `model` is not a `mindspore.train.Model` or `n_jobs` is not an int.
        ValueError: If `n_jobs` is neither -1 nor positive.

    References:
        Shokri et al. 2017, "Membership inference attacks against machine learning models".

    Examples:
        >>> attack = MembershipInference(model)                                   # doctest: +SKIP
        >>> config = [{"method": "KNN", "params": {"n_neighbors": [3, 5, 7]}}]    # doctest: +SKIP
        >>> attack.train(train_members, train_non_members, config)                # doctest: +SKIP
        >>> attack.eval(test_members, test_non_members, ["precision", "auc"])     # doctest: +SKIP
    """

    def __init__(self, model: Model, n_jobs: int = -1) -> None:
        from mindspore.train import Model
        self.model = _validate.instance("model", model, Model)
        self.n_jobs = _validate.integer("n_jobs", n_jobs)
        if n_jobs != -1 and n_jobs < 1:
            raise ValueError(f"n_jobs must be -1 or a positive int, but got {n_jobs}.")
        self._attacks = []
        self._features, self._is_member, self._folds = np.empty((0, 0)), np.empty(0, bool), np.empty(0, int)

    def train(self, dataset_train: Dataset, dataset_test: Dataset, attack_config: Union[list, tuple]) -> None:
        """Fit one classifier per entry of `attack_config`; a second call replaces the first.

        Args:
            dataset_train (mindspore.dataset.Dataset): Members, with the columns image and label.
            dataset_test (mindspore.dataset.Dataset): Non-members, with the columns image and label.
            attack_config (Union[list, tuple]): Dicts {"method": "knn" | "lr" | "mlp" | "rf", "params": {name:
                candidate values}}; params may be empty. Values that today's scikit-learn dropped are translated:
                penalty 'none', max_features 'auto'; min_impurity_split is left out.

        Raises:
            TypeError: If an argument has the wrong type.
            KeyError: If an entry has other keys, or a parameter is unknown.
            NameError: If a method is unknown.
            ValueError: If a candidate value is not allowed, or a data set is unusable.
        """
        _check_datasets(dataset_train, dataset_test)
        verify_config_params(attack_config)
        self._features, self._is_member = self._collect(dataset_train, dataset_test)
        self._folds = _folds_of(self._features, self._is_member)
        self._attacks = [self._fit(config) for config in attack_config]

    def _fit(self, config):
        search = _get_attack_model(*self._balanced(np.ones(len(self._folds), bool)), config, self.n_jobs)
        per_fold = [refitted(search, *self._balanced(self._folds != fold)) for fold in range(_FOLDS)]
        return _FittedAttack(method_of(config), search, tuple(per_fold))

    def _balanced(self, chosen):
        """Equally many members and non-members among the chosen records, in random but fixed order."""
        rng = np.random.default_rng(0)
        groups = [rng.permutation(np.flatnonzero(chosen & (self._is_member == kind))) for kind in (True, False)]
        smaller = min(map(len, groups))
        order = rng.permutation(np.concatenate([group[:smaller] for group in groups]))
        return self._features[order], self._is_member[order].astype(int)

    def eval(self, dataset_train: Dataset, dataset_test: Dataset, metrics: Union[list, tuple]) -> list[dict]:
        """Judge the fitted classifiers on other records.

        Args:
            dataset_train (mindspore.dataset.Dataset): Members.
            dataset_test (mindspore.dataset.Dataset): Non-members.
            metrics (Union[list, tuple]): Among 'precision', 'accuracy', 'recall' (members and non-members weighted
                equally; -1 where nothing can be divided), 'auc', 'balanced_accuracy', 'advantage' and
                'tpr@1%fpr', 'tpr@0.1%fpr' or another rate ('n/a' where the sample is too small for it).

        Returns:
            list of dicts metric -> value, one per classifier; empty before `train`.

        Raises:
            TypeError: If an argument has the wrong type.
            ValueError: If a metric is unknown or a data set is unusable.
        """
        _check_datasets(dataset_train, dataset_test)
        _check_metrics(metrics)
        if not self._attacks:
            return []
        return [{name: _metric_value(result, name) for name in metrics}
                for result in self._results(*self._collect(dataset_train, dataset_test))]

    def results(self, dataset_train: Dataset, dataset_test: Dataset) -> list[AttackResult]:
        """As `eval`, but the whole `AttackResult` of each classifier: ROC, intervals, per record."""
        _check_datasets(dataset_train, dataset_test)
        return self._results(*self._collect(dataset_train, dataset_test)) if self._attacks else []

    def scores(self) -> list[AttackResult]:
        """Out-of-fold `AttackResult` of each classifier on the records given to `train`, without intervals.

        The score of a record depends on the records of the other folds, whose classifier judged it. The AUC scatters
        a third to a half more than an interval for independent scores says; use `results` on other records for one.
        """
        return [self._result(attack, self._features, self._is_member, self._folds) for attack in self._attacks]

    def _results(self, features, is_member):
        folds = self._folds_seen(features)
        return [self._result(attack, features, is_member, folds) for attack in self._attacks]

    @staticmethod
    def _result(attack, features, is_member, folds):
        return AttackResult(attack.scores(features, folds), is_member, threshold=0.5, attack=attack.method,
                            threat_model="black box, with known members and non-members to learn from",
                            without_intervals=_OUT_OF_FOLD if (folds >= 0).any() else "")

    def _folds_seen(self, features):
        """Fold of the training record with the same features, -1 for records not seen in `train`."""
        from scipy.spatial import cKDTree
        scale = np.maximum(np.abs(self._features).max(axis=0), 1e-12)
        distance, nearest = cKDTree(self._features / scale).query(features / scale,
                                                                  distance_upper_bound=_SAME_RECORD)
        seen = np.isfinite(distance)
        return np.where(seen, self._folds[np.where(seen, nearest, 0)], -1)

    def _collect(self, dataset_train, dataset_test):
        names = ("dataset_train", "dataset_test")
        members, others = (read_records(name, data) for name, data in zip(names, (dataset_train, dataset_test)))
        warn_of_shared_records(names[0], members, names[1], others, "they pull every attack towards chance")
        parts = [attack_features(self.model, *records) for records in (members, others)]
        return np.concatenate(parts), np.repeat([True, False], [len(part) for part in parts])


def attack_features(model: Any, inputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """What the classifiers see of each record: loss, logits, sorted logits, logit-scaled confidence [n, 2c + 2]."""
    logits = checked_outputs("outputs of the model", predict_queries(model, inputs)[:, 0], ndim=2).astype(np.float64)
    require_classes("outputs of the model", logits, int(labels.max()) + 1)
    loss = _softmax_cross_entropy(logits, labels)
    descending = -np.sort(-logits, axis=1)
    return np.column_stack([loss, logits, descending, logit_scaled_confidence(logits, labels)])


def _softmax_cross_entropy(logits: np.ndarray, labels: np.ndarray, epsilon: float = 1e-12) -> np.ndarray:
    """Cross-entropy loss per record, probabilities clipped to [epsilon, 1 - epsilon].

    Args:
        logits (numpy.ndarray): [n, classes].
        labels (numpy.ndarray): Class numbers [n].
        epsilon (float): Clipping.

    Returns:
        numpy.ndarray [n].
    """
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    probability = (shifted / shifted.sum(axis=1, keepdims=True))[np.arange(len(labels)), labels]
    return -np.log(np.clip(probability, epsilon, 1 - epsilon))


def _eval_info(pred: np.ndarray, truth: np.ndarray, option: str,
               weights: Optional[np.ndarray] = None) -> float:
    """Precision, accuracy or recall of predicted memberships.

    Args:
        pred (numpy.ndarray): Predictions [n], 1 for member.
        truth (numpy.ndarray): The truth [n], 1 for member.
        option (str): 'precision', 'accuracy' or 'recall'.
        weights (numpy.ndarray): Weight of each record; None counts each once.

    Returns:
        float; -1 where the denominator is 0.

    Raises:
        ValueError: If `option` is unknown.
    """
    _validate.choice("option", option, _PLAIN_METRICS)
    pred, truth = np.asarray(pred) == 1, np.asarray(truth) == 1
    weights = np.ones(len(truth)) if weights is None else weights
    right = {"precision": pred & truth, "recall": pred & truth, "accuracy": pred == truth}[option]
    among = {"precision": pred, "recall": truth, "accuracy": np.ones(len(truth), bool)}[option]
    total = weights[among].sum()
    return float(weights[right].sum() / total) if total > 0 else -1


def _metric_value(result: AttackResult, name: str) -> Union[float, str]:
    if name not in _PLAIN_METRICS:
        value = result.metric(name)
        return roc.NOT_AVAILABLE if value is None else value
    member = result.is_member
    weights = np.where(member, 0.5 / member.sum(), 0.5 / (~member).sum())
    return _eval_info(result.scores >= result.threshold, member, name, weights)


def _folds_of(features: np.ndarray, is_member: np.ndarray) -> np.ndarray:
    """Fold of each record, stratified by membership; records with equal features share one."""
    smaller = int(min(is_member.sum(), (~is_member).sum()))
    if smaller < 2 * _FOLDS:
        raise ValueError(f"dataset_train and dataset_test must hold at least {2 * _FOLDS} records each, but the "
                         f"smaller holds {smaller}.")
    _, group = np.unique(features, axis=0, return_inverse=True)
    from sklearn.model_selection import StratifiedGroupKFold
    folds = np.empty(len(features), int)
    splitter = StratifiedGroupKFold(_FOLDS, shuffle=True, random_state=0)
    for fold, (_, held_out) in enumerate(splitter.split(features, is_member, group.reshape(-1))):
        folds[held_out] = fold
    return folds


def _check_datasets(*datasets):
    from mindspore.dataset import Dataset
    for name, dataset in zip(("dataset_train", "dataset_test"), datasets):
        _validate.instance(name, dataset, Dataset, "mindspore.dataset.Dataset")


def _check_metrics(metrics):
    _validate.instance("metrics", metrics, (list, tuple))
    for name in metrics:
        if name not in _PLAIN_METRICS:
            roc.parse_metric(name)
