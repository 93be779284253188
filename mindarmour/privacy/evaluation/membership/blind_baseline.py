"""What the records alone tell: a classifier that never asks the audited model."""
from __future__ import annotations

from typing import Any

import numpy as np

from mindarmour.privacy.evaluation.checks import warn_of_shared_records
from mindarmour.privacy.evaluation.membership.attack_result import AttackResult
from mindarmour.privacy.evaluation.membership.records import read_records
from mindarmour.utils import _validate

_COMPONENTS = 32
_FEWEST = 20


class BlindBaseline:
    """Score: how much the record itself looks like a member, without any model.

    Members and non-members are often not draws of one distribution: collected at other times, filtered, scaled or
    labelled otherwise. An attack then tells them apart although the model gives nothing away. This baseline shows
    it: gradient boosting on the records' principal components, their mean, spread and range, and their labels,
    fitted on half of each set and judged on the other half. If the lower end of its AUC is above 0.5, the sets differ
    by themselves, and what an attack finds up to this AUC is no evidence of a leak. Run it before every audit.

    Threat model: none; nothing of the audited model is used.

    Args:
        seed (int): Seed of the halves and of the classifier.
        most_records (int): Records of each set that are used at most, a random choice.

    References:
        Das, Zhang and Tramer 2024, "Blind baselines beat membership inference attacks for foundation models".

    Examples:
        >>> import numpy as np
        >>> from mindarmour.privacy.evaluation import BlindBaseline
        >>> rng = np.random.default_rng(0)
        >>> members = rng.normal(size=(200, 3)), rng.integers(0, 2, 200)
        >>> scaled = 2 * rng.normal(size=(200, 3)), rng.integers(0, 2, 200)
        >>> BlindBaseline()(members, scaled).ci("auc")[0] > 0.5
        True
    """

    def __init__(self, seed: int = 0, most_records: int = 20_000) -> None:
        self.seed = _validate.integer("seed", seed, low=0)
        self.most_records = _validate.integer("most_records", most_records, low=_FEWEST)

    def __call__(self, members: Any, non_members: Any) -> AttackResult:
        """Tell the two sets apart.

        Args:
            members (Dataset or tuple): As in `collect_signals`.
            non_members (Dataset or tuple): As in `collect_signals`.

        Returns:
            AttackResult on the halves that were not fitted on; its ids count members first, then non-members.

        Raises:
            TypeError: If the records are no numbers.
            ValueError: If a set has fewer than 20 records, or the records have different shapes.
        """
        sets = [read_records("members", members), read_records("non_members", non_members)]
        warn_of_shared_records("members", sets[0], "non_members", sets[1], "they pull every attack towards chance")
        inputs, labels = _joined(sets)
        count = len(sets[0][1])
        rng = np.random.default_rng(self.seed)
        groups = [rng.permutation(np.arange(start, stop))[:self.most_records]
                  for start, stop in ((0, count), (count, len(labels)))]
        fitted = np.concatenate([group[:len(group) // 2] for group in groups])
        judged = np.sort(np.concatenate([group[len(group) // 2:] for group in groups]))
        scores = self._scores(inputs, labels, fitted, judged, fitted < count)
        return AttackResult(scores, judged < count, judged, labels[judged], attack=type(self).__name__,
                            threat_model="none: nothing of the audited model is used", settings={"seed": self.seed})

    def _scores(self, inputs: np.ndarray, labels: np.ndarray, fitted: np.ndarray, judged: np.ndarray,
                is_member: np.ndarray) -> np.ndarray:
        from sklearn.decomposition import PCA
        from sklearn.ensemble import HistGradientBoostingClassifier
        from sklearn.preprocessing import StandardScaler
        scale = StandardScaler().fit(inputs[fitted])
        components = min(_COMPONENTS, len(fitted) - 1, inputs.shape[1])
        directions = PCA(components, random_state=self.seed).fit(scale.transform(inputs[fitted]))
        classes = np.unique(labels[fitted])

        def features(chosen: np.ndarray) -> np.ndarray:
            rows = inputs[chosen]
            summary = [rows.mean(axis=1), rows.std(axis=1), rows.min(axis=1), rows.max(axis=1)]
            return np.column_stack([*summary, directions.transform(scale.transform(rows)),
                                    labels[chosen][:, None] == classes])

        classifier = HistGradientBoostingClassifier(random_state=self.seed, class_weight="balanced",
                                                    early_stopping=False, max_depth=4)
        return classifier.fit(features(fitted), is_member).decision_function(features(judged))


def _joined(sets: list) -> tuple[np.ndarray, np.ndarray]:
    """Inputs of both sets as rows of float64 numbers [n, d], and their labels."""
    for name, (inputs, labels) in zip(("members", "non_members"), sets):
        if inputs.dtype.kind not in "biuf":
            raise TypeError(f"{name} must hold numbers, but hold {inputs.dtype}.")
        if not np.isfinite(inputs).all():
            raise ValueError(f"{name} must be finite, but hold NaN or infinite entries.")
        if len(labels) < _FEWEST:
            raise ValueError(f"{name} must hold at least {_FEWEST} records, half of them to fit on, but hold "
                             f"{len(labels)}.")
    shapes = [inputs.shape[1:] for inputs, _ in sets]
    if shapes[0] != shapes[1]:
        raise ValueError(f"members and non_members must have records of one shape, but have {shapes[0]} and "
                         f"{shapes[1]}.")
    rows = [inputs.reshape(len(inputs), -1).astype(np.float64) for inputs, _ in sets]
    return np.concatenate(rows), np.concatenate([labels for _, labels in sets])
