"""What every evaluator checks about outputs, labels and records, in one place and before anything is trained.

Each function returns the checked value. A refusal says how to convert what came.
"""
from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, Optional

import numpy as np

from mindarmour.privacy.errors import PrivacyWarning

# probabilities in bfloat16 sum to 1 within about this much
_SUM_TOLERANCE = 0.01
# entries of one block of rows in float64: 32 MiB, whatever the number of records
_BLOCK = 2 ** 22
_SCORE_INSTEAD = "give one score per record to AttackResult"


def numeric_vector(name: str, values: Any) -> np.ndarray:
    """`values` as a float64 vector with at least one entry."""
    array = _widened(np.asarray(values))
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name} must be numbers, but got dtype {array.dtype}.")
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"{name} must be a vector with at least one entry, but got shape {array.shape}.")
    return array.astype(np.float64)


def same_length(name: str, array: np.ndarray, length: int) -> np.ndarray:
    """`array`, refused unless it has one entry per record."""
    if array.shape != (length,):
        raise ValueError(f"{name} must have one entry per record, shape ({length},), but got {array.shape}.")
    return array


def as_bool_vector(name: str, values: Any, length: int) -> np.ndarray:
    """`values` (bool or 0/1) as a bool vector of that length."""
    array = same_length(name, np.asarray(values), length)
    if array.dtype != bool and not np.isin(array, (0, 1)).all():
        raise ValueError(f"{name} must hold only True and False or 1 and 0, but got {np.unique(array)[:5].tolist()}.")
    return array.astype(bool)


def checked_ids(ids: Any, count: int) -> np.ndarray:
    """Whole-number ids [count] without repetition."""
    ids = same_length("ids", np.asarray(ids), count)
    if ids.dtype.kind not in "iu":
        raise TypeError(f"ids must be whole numbers, but got dtype {ids.dtype}.")
    if len(np.unique(ids)) < count:
        raise ValueError(f"ids must not repeat, but {count - len(np.unique(ids))} of {count} do: a record cannot be "
                         f"audited twice or be member and non-member at once.")
    return ids.astype(np.int64)


def checked_labels(labels: Any, count: int, classes: Optional[int] = None, name: str = "labels") -> np.ndarray:
    """Class numbers int64 [count] in range; shape (count, 1) and bool are served.

    Args:
        labels (numpy.ndarray): What the user gave.
        count (int): Number of records.
        classes (int): Number of classes; None where no output is known yet.
        name (str): Of the argument, for errors.

    Raises:
        TypeError: If the labels are no whole numbers.
        ValueError: If there is another number of them, one-hot rows, several labels a record, or a class out of range.
    """
    array = np.asarray(labels)
    if array.shape == (count, 1):
        array = array[:, 0]
    if array.ndim > 1:
        raise ValueError(f"{name} must be class numbers, one per record, but have shape {array.shape}, "
                         f"{_advice(array)}")
    same_length(name, array, count)
    if array.dtype.kind == "b":
        array = array.astype(np.int64)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name} must be whole numbers, but got dtype {array.dtype}{_whole_floats(array)}")
    if count and (array.min() < 0 or (classes is not None and array.max() >= classes)):
        top = "" if classes is None else f" to {classes - 1}"
        raise ValueError(f"{name} must be classes from 0{top}, but they reach from {array.min()} to {array.max()}. "
                         f"Number the classes as the columns of the outputs.")
    return array.astype(np.int64)


def _advice(labels: np.ndarray) -> str:
    """How to convert labels with several numbers per record."""
    if labels.ndim == 2 and labels.dtype.kind in "biuf" and np.isin(labels, (0, 1)).all():
        if (labels.sum(axis=1) == 1).all():
            return "which looks one-hot. Pass labels.argmax(axis=1), or drop the OneHot step of the data set."
        return ("several labels for each record (multi-label). Audit one label at a time: labels[:, k], with the "
                f"outputs [0, z_k] of its logit z_k; or {_SCORE_INSTEAD}, such as minus the sum of the losses.")
    if labels.ndim == 2 and labels.dtype.kind == "f":
        return "a probability for each class. Pass the class numbers of the records."
    return (f"a class for each token or position. Attack the sequence: {_SCORE_INSTEAD}, such as minus the sum of its "
            f"tokens' losses.")


def _whole_floats(labels: np.ndarray) -> str:
    if labels.dtype.kind == "f" and np.isfinite(labels).all() and (labels == np.round(labels)).all():
        return ". Pass labels.astype(int)."
    return f". For anything but classification, {_SCORE_INSTEAD}, such as minus the loss."


def checked_outputs(name: str, values: Any, ndim: int) -> np.ndarray:
    """Finite logits in floating point, with two classes at least; probabilities become their logarithms.

    Rows that are non-negative and sum to 1 are probabilities (a network that ends in Softmax): taking them for
    logits would halve the leak that LiRA and RMIA see.

    Args:
        name (str): Of the argument, for errors.
        values (numpy.ndarray): Logits, log probabilities or probabilities, classes last.
        ndim (int): Number of axes.

    Returns:
        numpy.ndarray, float32 if it came in that or less, else float64.

    Raises:
        TypeError: If `values` are no real numbers.
        ValueError: If the shape is wrong, an entry is not finite, or the rows are some other numbers in [0, 1].
    """
    array = _widened(np.asarray(values))
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{name} must be real numbers, but got dtype {array.dtype}.")
    if array.ndim != ndim or array.shape[0] == 0 or array.shape[-1] < 2:
        shape = "[records, classes]" if ndim == 2 else "[records, views, classes]"
        raise ValueError(f"{name} must have shape {shape} with a record and two classes at least, but got "
                         f"{array.shape}.{_shape_advice(array)}")
    # the precision they came in: a million records of a hundred classes would double in float64
    array = array.astype(np.float32 if array.dtype in (np.float16, np.float32) else np.float64, copy=False)
    finite = np.isfinite(array)
    if not finite.all():
        bad = int((~finite).reshape(len(array), -1).any(axis=1).sum())
        raise ValueError(f"{name} must be finite, but {bad} of {len(array)} records have NaN or infinite entries. "
                         f"Did training diverge? Where only the largest outputs are known, or some are masked, fill "
                         f"in the others: log of an equal share of the probability that is left.")
    return _as_logits(name, array)


def _as_logits(name: str, array: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(array, np.finfo(array.dtype).tiny)) if are_probabilities(name, array) else array


def are_probabilities(name: str, array: np.ndarray) -> bool:
    """Are these outputs, classes last, probabilities? False for logits.

    Raises:
        ValueError: If they are some other numbers in [0, 1].
    """
    if array.min() < 0 or array.max() > 1 + _SUM_TOLERANCE or array.max() == 0:
        return False
    sums = array.sum(axis=-1)
    if np.abs(sums - 1).max() <= _SUM_TOLERANCE:
        return True
    raise ValueError(
        f"{name} must be logits, or probabilities that sum to 1, but all lie in [0, 1] and their rows sum to "
        f"{sums.min():.3g} to {sums.max():.3g}. The top k probabilities alone: share out what is left, "
        f"p[p == 0] = (1 - p.sum()) / (number of zeros), row by row. One sigmoid for each label: audit one label at "
        f"a time, np.stack([1 - s, s], axis=-1). If they are logits: subtract 1 from all, which changes nothing.")


def _shape_advice(array: np.ndarray) -> str:
    if array.ndim == 1 and array.dtype.kind in "iu":
        return " Predicted classes alone: give np.eye(number of classes)[predicted], which serves label-only attacks."
    if array.ndim == 1 or array.shape[-1] == 1:
        return (" Two classes from one sigmoid s of shape (n, 1): give np.concatenate([1 - s, s], axis=1); from one "
                f"logit z: np.concatenate([0 * z, z], axis=1). For anything but classification, {_SCORE_INSTEAD}.")
    if array.ndim > 2:
        return f" For sequences, {_SCORE_INSTEAD}, such as minus the sum of the tokens' losses."
    return ""


def one_row_each(outputs: Any, count: int) -> np.ndarray:
    """Outputs of a model for `count` records as an array [count, classes]."""
    array = _widened(np.asarray(outputs))
    if array.ndim != 2 or len(array) != count:
        raise ValueError(f"model_or_cell must return one row of logits per record, shape ({count}, classes), but got "
                         f"{array.shape}.{_shape_advice(array) if array.ndim else ''}")
    if array.shape[1] == 1:
        raise ValueError(f"model_or_cell must return two classes at least, but got {array.shape}."
                         f"{_shape_advice(array)}")
    return array


def _widened(array: np.ndarray) -> np.ndarray:
    # bfloat16 is no number type of NumPy's own
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array


def require_classes(name: str, outputs: np.ndarray, classes: int) -> np.ndarray:
    """Outputs with a column for each class that occurs."""
    if outputs.shape[-1] < classes:
        raise ValueError(f"{name} must have one column for each of the {classes} classes of the labels, but have "
                         f"{outputs.shape[-1]}. A classifier that was fitted without a class leaves its column out: "
                         f"give the classifier itself, which says so in classes_, or put the column back. Classes "
                         f"count from 0.")
    return outputs


def warn_of_shared_records(first_name: str, first: tuple, second_name: str, second: tuple, effect: str) -> None:
    """Warn if records of one set (inputs, labels) stand in the other too: they are in and out at once."""
    known = set(_row_hashes(*first))
    shared = sum(row in known for row in _row_hashes(*second))
    if shared:
        warnings.warn(f"{shared} of the {len(second[1])} records of {second_name} are equal to a record of "
                      f"{first_name}: {effect}. Remove them from one side.", PrivacyWarning, stacklevel=3)


def _row_hashes(inputs: np.ndarray, labels: np.ndarray) -> list[int]:
    """A 64-bit hash of each record; numbers in the precision that networks see."""
    if inputs.dtype.kind in "fiub":
        inputs = inputs.astype(np.float32, copy=False)
    return [hash((row.tobytes(), int(label))) for row, label in zip(np.ascontiguousarray(inputs), labels)]


def in_blocks(function: Callable[..., np.ndarray], outputs: np.ndarray, *columns: np.ndarray) -> np.ndarray:
    """`function` of outputs in float64 and columns, block of rows by block: the peak does not grow with the records.

    Args:
        function (Callable): (outputs [b, ...], *columns [b]) -> array [b, ...].
        outputs (numpy.ndarray): [n, ...].
        columns (numpy.ndarray): More arrays with n rows.
    """
    rows = max(1, _BLOCK // max(1, outputs[:1].size))
    slices = [slice(start, start + rows) for start in range(0, len(outputs), rows)]
    parts = [function(outputs[part].astype(np.float64), *(column[part] for column in columns)) for part in slices]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
