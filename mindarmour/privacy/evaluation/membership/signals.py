"""What an attacker sees of a model: logits and losses of audited records, from any framework."""
from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Optional, Union

import numpy as np

from mindarmour.privacy.evaluation.checks import (
    as_bool_vector,
    checked_ids,
    checked_labels,
    checked_outputs,
    in_blocks,
    require_classes,
    warn_of_shared_records,
)
from mindarmour.privacy.evaluation.membership.records import read_records
from mindarmour.utils.files import replacing


@dataclass(frozen=True)
class Signals:
    """Outputs of the audited model on records whose membership is known.

    Args:
        logits (numpy.ndarray): Logits or log probabilities [n, classes], finite. Probabilities (rows that are
            non-negative and sum to 1) become their logarithms.
        labels (numpy.ndarray): True classes [n], whole numbers from 0 to classes - 1.
        is_member (numpy.ndarray): Was the record in the training set [n], bool or 0/1.
        ids (numpy.ndarray): Identities [n], whole numbers without repetition; default 0..n-1. Attacks with shadow
            models look the records up in the `ShadowModels` data set by these ids.
        views (numpy.ndarray): Logits of augmented copies of each record [n, views, classes], or None.

    Raises:
        ValueError: If shapes, labels or ids do not fit, or an entry is NaN or infinite.

    Examples:
        >>> import numpy as np
        >>> from mindarmour.privacy.evaluation import Signals
        >>> signals = Signals(np.array([[4.0, 0.0], [0.0, 0.5]]), np.array([0, 0]), np.array([True, False]))
        >>> signals.losses.round(3).tolist()
        [0.018, 0.974]
    """

    logits: np.ndarray
    labels: np.ndarray
    is_member: np.ndarray
    ids: Optional[np.ndarray] = None
    views: Optional[np.ndarray] = None

    def __post_init__(self) -> None:
        logits = checked_outputs("logits", self.logits, ndim=2)
        count, classes = logits.shape
        labels = checked_labels(self.labels, count, classes)
        ids = np.arange(count) if self.ids is None else self.ids
        fields = {"logits": logits, "labels": labels, "is_member": as_bool_vector("is_member", self.is_member, count),
                  "ids": checked_ids(ids, count)}
        if self.views is not None:
            fields["views"] = checked_outputs("views", self.views, ndim=3)
            if fields["views"].shape[::2] != logits.shape:
                raise ValueError(f"views must have shape [{count}, views, {classes}] to fit the logits, but got "
                                 f"{fields['views'].shape}.")
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def losses(self) -> np.ndarray:
        """Cross-entropy loss of each record [n], computed from the logits without overflow."""
        return -true_class_log_probability(self.logits, self.labels)

    @property
    def correct(self) -> np.ndarray:
        """Was the record classified correctly [n], bool."""
        return self.logits.argmax(axis=1) == self.labels

    @property
    def queries(self) -> np.ndarray:
        """Logits of the record itself and of its augmented copies [n, 1 + views, classes]."""
        plain = self.logits[:, None, :]
        return plain if self.views is None else np.concatenate([plain, self.views], axis=1)

    def save(self, path: Union[str, os.PathLike]) -> None:
        """Write logits, labels, losses, ids, is_member and views to an `.npz` file, in one piece."""
        save_npz(path, {"logits": self.logits, "labels": self.labels, "losses": self.losses, "ids": self.ids,
                        "is_member": self.is_member, **({} if self.views is None else {"views": self.views})})

    @classmethod
    def load(cls, path: Union[str, os.PathLike]) -> Signals:
        """Read an `.npz` file with logits, labels and is_member, and optionally ids and views."""
        with np.load(path, allow_pickle=False) as file:
            missing = {"logits", "labels", "is_member"} - set(file.files)
            if missing:
                raise ValueError(f"path must be an .npz file with logits, labels and is_member, but '{path}' lacks "
                                 f"{', '.join(sorted(missing))}.")
            return cls(**{name: file[name] for name in ("logits", "labels", "is_member", "ids", "views")
                          if name in file.files})


def collect_signals(model_or_cell: Any, members: Any, non_members: Any, *, ids: Optional[tuple] = None,
                    augmentations: Sequence[Callable] = (), batch_size: int = 256, progress: bool = True,
                    path: Union[None, str, os.PathLike] = None) -> Signals:
    """Run the audited model over members and non-members.

    The forward pass runs in batches of one fixed size (so graph mode compiles once) in the mode that
    `mindspore.set_context` chose; a MindSpore network is put into evaluation state and back.

    Args:
        model_or_cell (object): A `mindspore.train.Model` (a `DPModel` too), a `Cell`, a classifier with
            `predict_proba`, or a function from inputs [B, ...] to logits [B, classes]. Logits, or probabilities.
        members (Dataset or tuple): Records of the training set: a MindSpore data set with the columns image and
            label (or two columns), batched or not, or the arrays (inputs [n, ...], labels [n]). None for none.
        non_members (Dataset or tuple): Records the model never saw. None for none.
        ids (tuple): (member ids, non-member ids). Default: members 0, 1, ..., then non-members.
        augmentations (Sequence[Callable]): Functions from a batch of inputs to the augmented batch; each gives one
            entry of `Signals.views`.
        batch_size (int): Records per forward pass.
        progress (bool): Show a progress bar.
        path (str): Also save the signals there.

    Returns:
        Signals, members first.

    Raises:
        TypeError: If `model_or_cell` or a data set is of an unknown kind.
        ValueError: If a set is empty, columns are missing, labels are no class numbers, or outputs are not finite
            logits or probabilities of these classes.

    Warns:
        PrivacyWarning: If a member stands among the non-members too.

    Examples:
        >>> import numpy as np
        >>> from mindarmour.privacy.evaluation import collect_signals
        >>> inputs, labels = np.eye(3, dtype=np.float32), np.arange(3)
        >>> collect_signals(lambda x: 5 * x, (inputs, labels), (-inputs, labels), progress=False).correct.tolist()
        [True, True, True, False, False, False]
    """
    from mindarmour.privacy.evaluation.forward import predict_queries
    parts = [(name, read_records(name, data)) for name, data in (("members", members), ("non_members", non_members))
             if data is not None]
    if not parts:
        raise ValueError("members and non_members must not both be None: give at least one set of records.")
    if len(parts) == 2:
        warn_of_shared_records(*parts[0], *parts[1], "they pull every attack towards chance")
    inputs = np.concatenate([records[0] for _, records in parts])
    labels = np.concatenate([records[1] for _, records in parts])
    is_member = np.concatenate([np.full(len(records[1]), name == "members") for name, records in parts])
    if ids is not None:
        ids = np.concatenate([np.asarray(part, dtype=np.int64).reshape(-1) for part in ids])
        checked_ids(ids, len(labels))
    classes = int(labels.max()) + 1
    queries = predict_queries(model_or_cell, inputs, augmentations, batch_size=batch_size, progress=progress,
                              classes=classes)
    require_classes("outputs of model_or_cell", queries, classes)
    signals = Signals(queries[:, 0], labels, is_member, ids, queries[:, 1:] if augmentations else None)
    if path is not None:
        signals.save(path)
    return signals


def log_probabilities(logits: np.ndarray) -> np.ndarray:
    """Log softmax over the last axis, in float64."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def log_sum_without(logits: np.ndarray, index: np.ndarray) -> np.ndarray:
    """log of the sum of exp over all classes but one: [..., classes] and index [..., 1] to [...]."""
    others = np.array(logits, dtype=np.float64)
    np.put_along_axis(others, index, -np.inf, axis=-1)
    top = others.max(axis=-1)
    others -= top[..., None]
    return top + np.log(np.exp(others, out=others).sum(axis=-1))


def logit_scaled_confidence(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """phi = log p_y - log(1 - p_y), without cancellation (Carlini et al. 2022, section IV-C).

    Args:
        logits (numpy.ndarray): [n, classes] or [n, queries, classes].
        labels (numpy.ndarray): True classes [n].

    Returns:
        numpy.ndarray, float64 [n] or [n, queries].
    """
    return in_blocks(_log_odds, logits, labels)


def _log_odds(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    index = np.broadcast_to(labels.reshape(-1, *(1,) * (logits.ndim - 1)), (*logits.shape[:-1], 1))
    return np.take_along_axis(logits, index, axis=-1)[..., 0] - log_sum_without(logits, index)


def true_class_log_probability(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """log p_y, [n] or [n, queries]; sure predictions keep their order, because 1 - p_y is never rounded to 0."""
    return -np.logaddexp(0, -logit_scaled_confidence(logits, labels))


def save_npz(path: Union[str, os.PathLike], arrays: dict[str, np.ndarray]) -> None:
    """Write arrays to one `.npz` file, through a temporary file in the same folder."""
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, **arrays)
