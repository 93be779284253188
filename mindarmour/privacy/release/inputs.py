"""Numbers as they come from users, as float64 in which two neighbours stay as close as they were."""
from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np

from mindarmour.privacy.release.rounding import WHOLE_FLOATS


def as_floats(name: str, values: Any) -> np.ndarray:
    """The values as float64.

    Whole numbers beyond 2**53 are cut there: rounding them to float64 would move two neighbours apart, cutting never
    does.

    Args:
        name (str): What the error calls them.
        values (array_like): Real numbers of any shape.

    Raises:
        TypeError: Text, complex numbers, or a type that float64 cannot hold without moving neighbours apart.
    """
    try:
        array = np.asarray(values)
    except ValueError:
        raise TypeError(f"{name} must be numbers in the shape of an array, but the rows have different lengths.") \
            from None
    if array.dtype == object and all(isinstance(item, int) for item in array.flat):
        array = np.clip(array, -WHOLE_FLOATS, WHOLE_FLOATS).astype(np.int64)
    if array.dtype.kind in "iu" and array.dtype.itemsize == 8:
        array = np.minimum(array, WHOLE_FLOATS)
        array = array if array.dtype.kind == "u" else np.maximum(array, -WHOLE_FLOATS)
    elif array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
        raise TypeError(f"{name} must be real numbers of at most 64 bits, but got {array.dtype}. Convert them first.")
    return array.astype(np.float64)


def finite(name: str, values: Any) -> np.ndarray:
    """As `as_floats`; NaN and infinity are refused, because no sensitivity holds for them."""
    array = as_floats(name, values)
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite, but hold NaN or infinity.")
    return array


def finite_records(name: str, records: np.ndarray) -> np.ndarray:
    """Records [N, ...], those with a NaN or an infinity replaced by zeros.

    A refusal would tell the receiver that such a record exists; a warning stays with whoever holds the records.
    """
    real = np.isfinite(records.reshape(len(records), math.prod(records.shape[1:]))).all(axis=1)
    if not real.all():
        warnings.warn(f"{np.count_nonzero(~real)} of the {len(real)} records in {name} hold NaN or infinity and count "
                      "as zeros.", UserWarning, stacklevel=3)
    return np.where(real.reshape(-1, *[1] * (records.ndim - 1)), records, 0.0)


def clipped_records(records: np.ndarray, norm: float, order: int) -> np.ndarray:
    """Finite records [N, ...] scaled down, where needed, to at most the given norm of the given order.

    The norm is taken of the record divided by its largest entry, so that no square overflows or vanishes, and the
    factor is smaller by a bound of all rounding.
    """
    if records.ndim == 0:
        raise ValueError("values must be records [N, ...] when clip_norm is given, but got a single number.")
    flat = records.reshape(len(records), math.prod(records.shape[1:]))
    peak = np.abs(flat).max(axis=1, initial=0.0)
    scaled = flat / np.where(peak > 0, peak, 1.0)[:, None]
    length = np.maximum(np.linalg.norm(scaled, ord=order, axis=1), 1.0)
    room = norm * (1 - (flat.shape[1] + 8) * 2.0 ** -52)
    with np.errstate(over="ignore"):  # an infinite norm is outside
        inside = length * peak <= room
    return np.where(inside[:, None], flat, scaled * (room / length)[:, None]).reshape(records.shape)
