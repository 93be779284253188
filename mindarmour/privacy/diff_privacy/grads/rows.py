"""Rows to try a network on: real ones, different from each other, or poisoned with what no arithmetic hides."""
from __future__ import annotations

import itertools
import math
from typing import Optional

import numpy as np
from mindspore import Tensor

# Row by row these pass every operator in a way of their own: a ReLU turns NaN into 0 and keeps infinity, a maximum
# over other rows hides -infinity, a minimum hides infinity, and none of them hides NaN from a sum.
_POISON = np.array([np.nan, np.inf, -np.inf], np.float32)


def few_rows(columns: tuple, rows: int) -> tuple:
    """The first rows of a batch, repeated if it has fewer."""
    return tuple(Tensor(column.asnumpy()[np.arange(rows) % column.shape[0]]) for column in columns)


def real_places(is_real: Optional[Tensor], rows: int) -> np.ndarray:
    """Places of the real rows; all where there is no mask."""
    return np.arange(rows) if is_real is None else np.flatnonzero(is_real.asnumpy() > 0)


def holes_filled(columns: tuple, places: np.ndarray) -> tuple:
    """The batch with a real row in the place of every hole; real rows stay where they are.

    What is found on it does not depend on where the holes fall.
    """
    rows = columns[0].shape[0]
    if len(places) == rows:
        return tuple(columns)
    chosen = places[np.arange(rows) % len(places)]
    chosen[places] = places
    return tuple(_like(column, column.asnumpy()[chosen]) for column in columns)


def different_rows(columns: tuple, rows: int, start: int = 0) -> tuple:
    """`rows` rows that differ from each other, from the `start`-th different row of the batch on.

    Where the batch has fewer, the missing ones are rows whose own values have moved on by one place.
    """
    arrays = [column.asnumpy() for column in columns]
    seen: dict = {}
    for i in range(len(arrays[0])):
        seen.setdefault(b"".join(array[i].tobytes() for array in arrays), i)
    places = np.array((list(seen.values())[start:] or list(seen.values()))[:rows])
    chosen = places[np.arange(rows) % len(places)]
    turns = np.arange(rows) // len(places)
    return tuple(_like(column, np.stack([_turned(array[i], turn) for i, turn in zip(chosen, turns)]))
                 for column, array in zip(columns, arrays))


def separating_sets(rows: int) -> np.ndarray:
    """Sets of rows, bool [sets, rows]: for every two rows i and k, some set has i and not k.

    Each row is in another half of the sets, and no half contains another. The fewest sets possible.

    References:
        Sperner 1928, "Ein Satz über Untermengen einer endlichen Menge".
    """
    if rows < 2:
        return np.zeros((0, rows), bool)
    sets = next(n for n in itertools.count(1) if math.comb(n, n // 2) >= rows)
    member = np.zeros((sets, rows), bool)
    for row, code in zip(range(rows), itertools.combinations(range(sets), sets // 2)):
        member[list(code), row] = True
    return member


def poisoned(columns: tuple, poison: np.ndarray, turn: int) -> tuple:
    """The batch with other values in the rows `poison`: no numbers where there are floats, other ones elsewhere.

    Integers become, by turns, those of the next row in reverse order, all zero or the least, and the largest: numbers
    that the column holds, or zero, so that they stay indices.
    """
    return tuple(_like(column, _poisoned(column.asnumpy(), poison, turn)) for column in columns)


def lonely_sets(rows: int) -> np.ndarray:
    """Sets of all rows but one (the first, a middle one, the last), bool [sets, rows]: what several rows share shows
    only without them all.

    A minimum that two rows attain, for one, stays where either is poisoned.
    """
    return ~np.eye(rows, dtype=bool)[np.unique([0, rows // 2, rows - 1]) if rows > 1 else []]


def poison_like(shape: tuple, turn: int) -> np.ndarray:
    """NaN, infinity and -infinity by turns, float32, of a shape that broadcasts over `shape` along its last axis."""
    return np.resize(np.roll(_POISON, turn), shape[-1] if shape else 1)


def _poisoned(array, poison, turn):
    changed = array.copy()
    if array.dtype.kind == "f":
        changed[poison] = np.resize(np.roll(_POISON, turn), array.shape[1:]).astype(array.dtype)
    elif array.dtype.kind == "b":
        changed[poison] = ~array[poison]
    elif turn % 3 == 0:
        following = np.roll(array, -1, axis=0)
        changed[poison] = following[poison][..., ::-1] if array.ndim > 1 else following[poison]
    else:
        least = min(0, array.min()) if array.min() < 0 else 0
        changed[poison] = least if turn % 3 == 1 else array.max()
    return changed


def _turned(row, turn):
    return np.roll(row.reshape(-1), turn).reshape(row.shape)


def _like(column, array):
    return Tensor(array, column.dtype)
