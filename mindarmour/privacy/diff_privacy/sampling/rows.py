"""Single rows: sources of them, their columns, and how rows of different shapes become one array."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Optional, Union

import numpy as np

Shape = Union[int, "tuple[int, ...]"]


class Rows:
    """Columns [N, ...] read as a source of rows."""

    def __init__(self, columns: Sequence[np.ndarray]) -> None:
        self._columns = list(columns)

    def __len__(self) -> int:
        return len(self._columns[0])

    def __getitem__(self, number: int) -> tuple[np.ndarray, ...]:
        return tuple(np.asarray(column[number]) for column in self._columns)


class _CheckedRows:
    """A user's source of rows: one call a record, whose columns come in one order as arrays."""

    def __init__(self, source: Any, names: Sequence[str]) -> None:
        self._source = source
        self._names = list(names)

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, number: int) -> tuple[np.ndarray, ...]:
        row = self._source[int(number)]
        if isinstance(row, Mapping):
            missing = [name for name in self._names if name not in row]
            if missing:
                raise ValueError(f"Every record must have the columns {self._names}, but one lacks {missing}.")
            return tuple(np.asarray(row[name]) for name in self._names)
        row = row if isinstance(row, (tuple, list)) else (row,)
        if len(row) != len(self._names):
            raise ValueError(f"Every record must have the columns {self._names}, but one has {len(row)} columns.")
        return tuple(np.asarray(value) for value in row)


class _ArrowRows:
    """An Arrow table read as a source of rows."""

    def __init__(self, table: Any) -> None:
        self._table = table

    def __len__(self) -> int:
        return self._table.num_rows

    def __getitem__(self, number: int) -> dict[str, Any]:
        return {name: self._table.column(name)[int(number)].as_py() for name in self._table.column_names}


def row_source(data: Any, column_names: Optional[Sequence[str]],
               default_names: Sequence[str]) -> tuple[_CheckedRows, list[str]]:
    """A user's source of rows and the names of its columns.

    Raises:
        TypeError: It has no `__len__` or no `__getitem__`.
        ValueError: It is empty, or the number of columns does not fit the names.
    """
    if hasattr(data, "num_rows") and hasattr(data, "column") and hasattr(data, "column_names"):
        data = _ArrowRows(data)
    if not (hasattr(data, "__getitem__") and hasattr(data, "__len__")) or isinstance(data, (str, bytes)):
        stream = (" Convert a stream once: convert_to_mindrecord(mindspore.dataset.GeneratorDataset(stream, names), "
                  "path), and sample from MindDataset(path)." if hasattr(data, "__iter__") else "")
        raise TypeError(f"data must be a tuple of arrays, a MindSpore dataset or a random-access source with "
                        f"__len__ and __getitem__, but got {type(data).__name__}.{stream}")
    if len(data) == 0:
        raise ValueError(f"data must hold records, but {type(data).__name__} is empty.")
    first = data[0]
    if isinstance(first, Mapping):
        own = list(first)
        return _CheckedRows(data, own), own
    count = len(first) if isinstance(first, (tuple, list)) else 1
    names = list(column_names or default_names)
    if len(names) != count:
        raise ValueError(f"column_names must name the {count} columns of data, but got {names}.")
    return _CheckedRows(data, names), names


def dense_column(name: str, value: Any, shape: Optional[Shape]) -> np.ndarray:
    """A column as an array [N, ...]; ragged rows are padded to `shape`.

    Raises:
        ValueError: Rows of different shapes without a `shape`, nested columns, a column without rows.
    """
    try:
        column = np.asarray(value)
    except ValueError:  # NumPy's for rows of different shapes
        column = np.empty(len(value), object)
        column[:] = list(value)
    if column.ndim == 0:
        raise ValueError(f"Column {name!r} must be an array with one row for each record, but has shape ().")
    if column.dtype == object and len(column) and isinstance(column[0], str):
        column = column.astype(str)
    if column.dtype == object or shape is not None:
        column = _stacked(name, column, shape)
    if column.dtype.kind not in "biufcSU":
        raise ValueError(f"Column {name!r} must hold numbers or strings, but holds {column.dtype}.")
    return column


def _stacked(name: str, rows: Sequence[Any], shape: Optional[Shape]) -> np.ndarray:
    rows = [np.asarray(row) for row in rows]
    shapes = sorted({row.shape for row in rows}, key=len)
    if shape is None:
        if any(row.dtype == object or isinstance(row, Mapping) for row in rows):
            raise ValueError(f"Column {name!r} must be an array with one row for each record, but its rows are nested. "
                             f"Give every column by itself, as in (ids, features, label), and name it in column_names.")
        if len(shapes) > 1:
            raise ValueError(f"Rows of column {name!r} must have one shape, because a batch is one array, but they "
                             f"differ: {shapes[0]} and {shapes[-1]} are two of {len(shapes)} shapes. Pass "
                             f"pad_to={{{name!r}: shape}} to dataset(...).")
        return np.stack(rows)
    pad = padding(name, shape)
    return np.stack([pad(row) for row in rows])


class padding:
    """Pads a row at its end, with zeros or empty strings, to a fixed shape; depends on that row alone."""

    def __init__(self, name: str, shape: Shape) -> None:
        self._name = name
        self._shape = (shape,) if isinstance(shape, int) else tuple(shape)

    def __call__(self, row: np.ndarray) -> np.ndarray:
        row = np.asarray(row)
        if row.ndim != len(self._shape) or any(have > most for have, most in zip(row.shape, self._shape)):
            raise ValueError(f"Rows of column {self._name!r} must fit into pad_to = {self._shape}, but one has shape "
                             f"{row.shape}. Raise pad_to, or shorten the rows.")
        padded = np.zeros(self._shape, row.dtype)
        padded[tuple(slice(length) for length in row.shape)] = row
        return padded
