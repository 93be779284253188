"""Physical batches put together from the rows of records: each row is copied once, straight to its place."""
from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

# A place of a batch at which no record stands.
HOLE = -1

Like = Sequence["tuple[tuple[int, ...], np.dtype]"]


def taken(column: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Rows of a column [N, ...] at the numbers in `places`, zeros (or empty strings) at holes."""
    batch = np.asarray(column[np.maximum(places, 0)])
    batch[places == HOLE] = np.zeros((), batch.dtype)
    return batch


def assembled(blocks: Iterator[Sequence[np.ndarray]], draws: Iterable[np.ndarray], names: Sequence[str],
              like: Like) -> Iterator[list[np.ndarray]]:
    """Batches of rows that arrive in blocks.

    Args:
        blocks (iterator): Columns [any, ...] of consecutive rows: those of the first batch, in the order of its places,
            then those of the second.
        draws (iterable): The places of each batch.
        names (sequence of str): Of the columns.
        like (sequence): Shape and type of a row of each column.

    Raises:
        ValueError: A row of another shape, or of a type that the column's cannot hold.
    """
    block, used = [np.empty(0) for _ in names], 0
    for places in draws:
        slots, pieces = np.flatnonzero(places != HOLE), []
        while len(slots):
            if used == len(block[0]):
                block, used = next(blocks), 0
                _check(block, names, like)
            count = min(len(slots), len(block[0]) - used)
            pieces.append((slots[:count], [column[used:used + count] for column in block]))
            slots, used = slots[count:], used + count
        yield [_filled(places, [(where, columns[i]) for where, columns in pieces], shape, dtype)
               for i, (shape, dtype) in enumerate(like)]


def _filled(places: np.ndarray, pieces: list[tuple[np.ndarray, np.ndarray]], shape: tuple[int, ...],
            dtype: np.dtype) -> np.ndarray:
    if dtype.kind in "US":  # as wide as the longest string of the batch
        dtype = np.result_type(dtype, *(rows.dtype for _, rows in pieces))
    batch = np.empty((len(places), *shape), dtype)
    batch[places == HOLE] = np.zeros((), dtype)
    for where, rows in pieces:
        batch[where] = rows
    return batch


def _check(block: Sequence[np.ndarray], names: Sequence[str], like: Like) -> None:
    for name, rows, (shape, dtype) in zip(names, block, like):
        fits = rows.dtype.kind == dtype.kind if dtype.kind in "US" else np.can_cast(rows.dtype, dtype)
        if rows.shape[1:] != shape or not fits:
            raise ValueError(f"Rows of column {name!r} must have one shape and type, because a batch is one array, but "
                             f"the first have shape {shape} of {dtype}, and others shape {rows.shape[1:]} of "
                             f"{rows.dtype}. Bring them to one form with .map(...) before the sampler, or pass pad_to.")
