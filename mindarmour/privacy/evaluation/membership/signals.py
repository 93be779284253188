"""What an attacker sees of a model: logits and losses of audited records, from any framework."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

import numpy as np

from mindarmour.privacy.evaluation.membership.attack_result import as_bool_vector, same_length
from mindarmour.privacy.evaluation.membership.records import read_records
from mindarmour.utils.files import replacing


@dataclass(frozen=True)
class Signals:
    """Outputs of the audited model on records whose membership is known.

    Args:
        logits (numpy.ndarray): Logits or log probabilities [n, classes], finite.
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

    def __post_init__(self):
        logits = checked_logits("logits", self.logits, ndim=2)
        count, classes = logits.shape
        labels = checked_labels(self.labels, count, classes)
        ids = np.arange(count) if self.ids is None else np.asarray(self.ids)
        fields = {"logits": logits, "labels": labels, "is_member": as_bool_vector("is_member", self.is_member, count),
                  "ids": checked_ids(ids, count)}
        if self.views is not None:
            fields["views"] = checked_logits("views", self.views, ndim=3)
            if self.views.shape[::2] != logits.shape:
                raise ValueError(f"views must have shape [{count}, views, {classes}] to fit the logits, but got "
                                 f"{self.views.shape}.")
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    def __len__(self):
        return len(self.labels)

    @property
    def losses(self):
        """Cross-entropy loss of each record [n], computed from the logits without overflow."""
        return -log_probabilities(self.logits)[np.arange(len(self)), self.labels]

    @property
    def correct(self):
        """Was the record classified correctly [n], bool."""
        return self.logits.argmax(axis=1) == self.labels

    @property
    def queries(self):
        """Logits of the record itself and of its augmented copies [n, 1 + views, classes]."""
        plain = self.logits[:, None, :]
        return plain if self.views is None else np.concatenate([plain, self.views], axis=1)

    def save(self, path):
        """Write logits, labels, losses, ids, is_member and views to an `.npz` file, in one piece."""
        save_npz(path, {"logits": self.logits, "labels": self.labels, "losses": self.losses, "ids": self.ids,
                        "is_member": self.is_member, **({} if self.views is None else {"views": self.views})})

    @classmethod
    def load(cls, path):
        """Read an `.npz` file with logits, labels and is_member, and optionally ids and views."""
        with np.load(path, allow_pickle=False) as file:
            missing = {"logits", "labels", "is_member"} - set(file.files)
            if missing:
                raise ValueError(f"path must be an .npz file with logits, labels and is_member, but '{path}' lacks "
                                 f"{', '.join(sorted(missing))}.")
            return cls(**{name: file[name] for name in ("logits", "labels", "is_member", "ids", "views")
                          if name in file.files})


def collect_signals(model_or_cell, members, non_members, *, ids=None, augmentations=(), batch_size=256,
                    progress=True, path=None):
    """Run the audited model over members and non-members.

    The forward pass runs in batches of one fixed size (so graph mode compiles once) in the mode that
    `mindspore.set_context` chose; a MindSpore network is put into evaluation state and back.

    Args:
        model_or_cell (object): A `mindspore.train.Model` (a `DPModel` too), a `Cell`, a classifier with
            `predict_proba`, or a function from inputs [B, ...] to logits [B, classes].
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
        ValueError: If a set is empty, columns are missing, labels are one-hot, or outputs are not finite.

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
    inputs = np.concatenate([records[0] for _, records in parts])
    labels = np.concatenate([records[1] for _, records in parts])
    is_member = np.concatenate([np.full(len(records[1]), name == "members") for name, records in parts])
    if ids is not None:
        ids = np.concatenate([np.asarray(part, dtype=np.int64).reshape(-1) for part in ids])
        checked_ids(ids, len(labels))
    queries = predict_queries(model_or_cell, inputs, augmentations, batch_size=batch_size, progress=progress)
    signals = Signals(queries[:, 0], labels, is_member, ids, queries[:, 1:] if augmentations else None)
    if path is not None:
        signals.save(path)
    return signals


def log_probabilities(logits):
    """Log softmax over the last axis, in float64."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def logit_scaled_confidence(logits, labels):
    """phi = log p_y - log(1 - p_y), without cancellation (Carlini et al. 2022, section IV-C).

    Args:
        logits (numpy.ndarray): [n, classes] or [n, queries, classes].
        labels (numpy.ndarray): True classes [n].

    Returns:
        numpy.ndarray, [n] or [n, queries].
    """
    index = labels.reshape(-1, *(1,) * (logits.ndim - 1))
    true_class = np.take_along_axis(logits, index, axis=-1)[..., 0]
    others = np.array(logits, dtype=np.float64)
    np.put_along_axis(others, index, -np.inf, axis=-1)
    top = others.max(axis=-1)
    return true_class - (top + np.log(np.exp(others - top[..., None]).sum(axis=-1)))


def true_class_log_probability(logits, labels):
    """log p_y, [n] or [n, queries]."""
    index = labels.reshape(-1, *(1,) * (logits.ndim - 1))
    return np.take_along_axis(log_probabilities(logits), index, axis=-1)[..., 0]


def checked_logits(name, values, ndim):
    """Finite float64 logits of that number of axes, with two classes at least."""
    array = np.asarray(values)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{name} must be real numbers, but got dtype {array.dtype}.")
    if array.ndim != ndim or array.shape[0] == 0 or array.shape[-1] < 2:
        shape = "[records, classes]" if ndim == 2 else "[records, views, classes]"
        raise ValueError(f"{name} must have shape {shape} with a record and two classes at least, but got "
                         f"{array.shape}.")
    array = array.astype(np.float64)
    if not np.isfinite(array).all():
        bad = int((~np.isfinite(array)).reshape(len(array), -1).any(axis=1).sum())
        raise ValueError(f"{name} must be finite, but {bad} of {len(array)} records have NaN or infinite entries. "
                         f"Did training diverge?")
    return array


def checked_labels(labels, count, classes=None):
    """Whole-number labels [count] in range."""
    array = np.asarray(labels)
    if array.ndim == 2 and array.shape[0] == count and array.shape[1] > 1:
        raise ValueError(f"labels must be class numbers of shape ({count},), but got shape {array.shape}, which looks "
                         f"one-hot. Pass labels.argmax(axis=1), or drop the OneHot step of the data set.")
    if array.shape == (count, 1):
        array = array[:, 0]
    same_length("labels", array, count)
    if array.dtype.kind not in "iu":
        raise TypeError(f"labels must be whole numbers, but got dtype {array.dtype}.")
    if array.min() < 0 or (classes is not None and array.max() >= classes):
        top = "" if classes is None else f" to {classes - 1}"
        raise ValueError(f"labels must be class numbers from 0{top}, but they reach from {array.min()} to "
                         f"{array.max()}.")
    return array.astype(np.int64)


def checked_ids(ids, count):
    """Whole-number ids [count] without repetition."""
    same_length("ids", ids, count)
    if ids.dtype.kind not in "iu":
        raise TypeError(f"ids must be whole numbers, but got dtype {ids.dtype}.")
    if len(np.unique(ids)) < count:
        raise ValueError(f"ids must not repeat, but {count - len(np.unique(ids))} of {count} do: a record cannot be "
                         f"audited twice or be member and non-member at once.")
    return ids.astype(np.int64)


def save_npz(path, arrays):
    """Write arrays to one `.npz` file, through a temporary file in the same folder."""
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, **arrays)
