"""Records that a sampler draws from, whatever holds them: arrays, a source of rows, a MindSpore pipeline.

Two kinds serve all: arrays are indexed at once; everything else is a MindSpore pipeline that is told which records to
load, so that reading, decoding and augmentation run in MindSpore's own workers, once for each record that is drawn and
anew in each step, and the columns of a record stay together.
"""
from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Optional

import mindspore.dataset as ds
import numpy as np

from mindarmour.privacy.diff_privacy.sampling import pipelines
from mindarmour.privacy.diff_privacy.sampling.assembly import HOLE, Like, assembled, taken
from mindarmour.privacy.diff_privacy.sampling.rows import (
    Rows,
    dense_column,
    padding,
    row_source,
)
from mindarmour.utils import LogUtil
from mindarmour.utils.mindspore_internals import dataset_nodes as nodes

TAG = "Sampler"
DEFAULT_NAMES = ("image", "label")
# Rows that MindSpore stacks at a time: enough to make the call cheap, few enough to start soon.
_BLOCK = 128
# Record numbers handed to MindSpore at a time: memory stays flat, however long the epoch.
_AHEAD = 2 ** 20
# Records whose shapes are compared before training.
_COMPARED = 16
# What is read into memory because its records cannot be read by number.
_MOST_BYTES = 2 ** 32


class ArrayRecords:
    """Records in arrays [N, ...], in memory or mapped from a file.

    Args:
        names (Sequence[str]): Of the columns.
        columns (Sequence[numpy.ndarray]): Of equal length.
    """

    def __init__(self, names: Sequence[str], columns: Sequence[np.ndarray]) -> None:
        self.names = list(names)
        self._columns = list(columns)

    def __len__(self) -> int:
        return len(self._columns[0])

    def gather(self, draws: Iterable[np.ndarray], like: Like) -> Iterator[list[np.ndarray]]:
        """For each array of record numbers and holes, columns of these records, zeros at holes; `like` is theirs."""
        for places in draws:
            yield [taken(column, places) for column in self._columns]

    def rows(self, numbers: np.ndarray) -> list[list[np.ndarray]]:
        """Single records."""
        return [[np.asarray(column[number]) for column in self._columns] for number in numbers]

    def stored(self) -> ArrayRecords:
        """The records before any `map`."""
        return self

    def mapped(self, operations: Any, *arguments: Any, **options: Any) -> PipelineRecords:
        """The records after a `map` as MindSpore's."""
        source = ds.GeneratorDataset(Rows(self._columns), self.names, shuffle=False)
        return PipelineRecords(source, range(len(self))).mapped(operations, *arguments, **options)


class PipelineRecords:
    """Records of a MindSpore pipeline that can be read by their number.

    Args:
        dataset (Dataset): A chain of row-wise nodes over a random-access source, see `pipelines.reading`.
        numbers (range, numpy.ndarray): Which records of the source there are.
    """

    def __init__(self, dataset: Any, numbers: pipelines.Numbers) -> None:
        self.dataset = dataset
        self.names = list(dataset.get_col_names())
        self._numbers = numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def gather(self, draws: Iterable[np.ndarray], like: Like) -> Iterator[list[np.ndarray]]:
        """For each array of record numbers and holes, columns of these records, zeros at holes; see `columns_like`."""
        for some in self._portions(draws):
            places = np.concatenate(some)
            with contextlib.closing(self._blocks(self._chosen(places[places != HOLE]))) as blocks:
                yield from assembled(blocks, some, self.names, like)

    def rows(self, numbers: np.ndarray) -> list[list[np.ndarray]]:
        """Single records, whatever their shapes."""
        iterator = pipelines.reading(self.dataset, self._chosen(numbers)).create_tuple_iterator(
            num_epochs=1, output_numpy=True)
        try:
            return list(iterator)
        finally:
            iterator.stop()

    def stored(self) -> PipelineRecords:
        """The records before any `map`."""
        return PipelineRecords(pipelines.copied(pipelines.chain_of(self.dataset)[-1]), self._numbers)

    def mapped(self, operations: Any, *arguments: Any, **options: Any) -> PipelineRecords:
        """The records after a `map` as MindSpore's."""
        return PipelineRecords(pipelines.copied(self.dataset).map(operations, *arguments, **options), self._numbers)

    def _chosen(self, numbers: np.ndarray) -> np.ndarray:
        if isinstance(self._numbers, range):
            return self._numbers.start + np.asarray(numbers, np.int64)
        return self._numbers[numbers]

    def _portions(self, draws: Iterable[np.ndarray]) -> Iterator[list[np.ndarray]]:
        """Consecutive arrays, as many as MindSpore is handed at a time."""
        # MindRecord takes at most as many numbers as it has records
        most = min(_AHEAD, len(self)) if isinstance(pipelines.chain_of(self.dataset)[-1], ds.MindDataset) else _AHEAD
        portion, size = [], 0
        for places in draws:
            count = np.count_nonzero(places != HOLE)
            if portion and size + count > most:
                yield portion
                portion, size = [], 0
            portion.append(places)
            size += count
        if portion:
            yield portion

    def _blocks(self, numbers: np.ndarray) -> Iterator[list[np.ndarray]]:
        if not len(numbers):
            return
        rows = pipelines.reading(self.dataset, numbers).batch(_BLOCK)
        iterator = rows.create_tuple_iterator(num_epochs=1, output_numpy=True)
        try:
            yield from iterator
        finally:
            iterator.stop()


def columns_like(records: Any) -> list[tuple[tuple[int, ...], np.dtype]]:
    """Shape and type of a row of each column, compared over a few records.

    Raises:
        ValueError: Rows of one column differ in shape.
    """
    rows = records.rows(np.unique(np.linspace(0, len(records) - 1, _COMPARED).astype(np.int64)))
    for name, *values in zip(records.names, *rows):
        shapes = sorted({value.shape for value in values})
        if len(shapes) > 1:
            raise ValueError(f"Rows of column {name!r} must have one shape, because a batch is one array, but some "
                             f"have shape {shapes[0]} and some {shapes[-1]}. Pass pad_to={{{name!r}: shape}} to "
                             f"dataset(...), or bring them to one shape with .map(...) before the sampler.")
    return [(value.shape, value.dtype) for value in rows[0]]


def records_of(data: Any, column_names: Optional[Sequence[str]] = None,
               pad_to: Optional[Mapping[str, Any]] = None) -> Any:
    """Records of whatever users have.

    Args:
        data (Any): A tuple, list or dict of arrays [N, ...] (also memory maps and ragged lists); a MindSpore data set
            with one example a row; an object with `__len__` and `__getitem__` that returns one example (a tuple, a
            dict or one array); a Hugging Face data set; an Arrow table or a data frame.
        column_names (Sequence[str], optional): Names of the columns, in order; a choice and order of them where the
            data have names themselves. None keeps those, or is ('image', 'label') for two columns without names.
        pad_to (Mapping[str, int or tuple], optional): For columns with rows of different shapes, the shape that every
            row is padded to with zeros (or empty strings).

    Returns:
        ArrayRecords or PipelineRecords.

    Raises:
        TypeError: Data of a kind that cannot be read.
        ValueError: Columns of different lengths, rows of different shapes, a pipeline that batches or repeats.
    """
    pad_to = dict(pad_to or {})
    if hasattr(data, "gather") and hasattr(data, "mapped") and column_names is None and not pad_to:
        return data  # records already
    if isinstance(data, ds.Dataset):
        return _of_pipeline(data, column_names, pad_to)
    columns = _columns_in(data)
    if columns is not None:
        return _of_columns(columns, column_names, pad_to)
    rows, names = row_source(data, column_names, DEFAULT_NAMES)
    return _of_pipeline(ds.GeneratorDataset(rows, names, shuffle=False), column_names, pad_to)


def _columns_in(data: Any) -> Optional[dict[Any, Any]]:
    """{name or position: column} if `data` is made of columns; None if it is made of rows."""
    if isinstance(data, Mapping):
        return dict(data)
    if type(data).__module__.split(".")[0] == "pandas":
        return {name: data[name].to_numpy() for name in data.columns}
    if isinstance(data, np.ndarray):
        return {0: data}
    if not isinstance(data, (tuple, list)):
        return None
    rows = data and isinstance(data, list) and all(isinstance(row, (tuple, Mapping)) for row in data)
    return None if rows else dict(enumerate(data))


def _of_columns(columns: dict[Any, Any], column_names: Optional[Sequence[str]],
                pad_to: dict[str, Any]) -> ArrayRecords:
    own = [key for key in columns if isinstance(key, str)]
    if not columns:
        raise ValueError("data must hold at least one column, but is empty.")
    if own and column_names is not None and set(column_names) <= set(own):
        columns = {name: columns[name] for name in column_names}
    names = names_for(len(columns), column_names, own if len(own) == len(columns) else None)
    _refuse_nested(dict(zip(names, columns.values())))
    arrays = [dense_column(name, value, pad_to.get(name)) for name, value in zip(names, columns.values())]
    _refuse_unknown(pad_to, names)
    if any(len(array) != len(arrays[0]) for array in arrays):
        raise ValueError(f"data must be arrays with the same number of rows, but got shapes "
                         f"{dict(zip(names, (array.shape for array in arrays)))}.")
    return ArrayRecords(names, arrays)


def _refuse_nested(columns: dict[str, Any]) -> None:
    counts = {name: len(value) if hasattr(value, "__len__") else 0 for name, value in columns.items()}
    for name, value in columns.items():
        arrays = isinstance(value, (tuple, list)) and all(getattr(part, "ndim", 0) for part in value)
        if arrays and counts[name] != max(counts.values()):
            raise ValueError(f"Column {name!r} must be one array, but holds {len(value)} of them. Give every column by "
                             f"itself, as in (ids, features, label), and name each in column_names.")


def names_for(count: int, column_names: Optional[Sequence[str]], own: Optional[Sequence[str]]) -> list[str]:
    """The names of `count` columns: as given, else their own, else image and label."""
    if isinstance(column_names, str):
        column_names = [column_names]
    names = list(column_names or own or DEFAULT_NAMES)
    if len(names) != count:
        raise ValueError(f"column_names must name the {count} columns of data, but got {names}. Pass, for example, "
                         f"column_names={[f'input_{i}' for i in range(max(count - 1, 0))] + ['label']}.")
    if len(set(names)) < len(names):
        raise ValueError(f"column_names must be different, but got {names}.")
    return names


def _refuse_unknown(pad_to: dict[str, Any], names: Sequence[str]) -> None:
    unknown = set(pad_to) - set(names)
    if unknown:
        raise ValueError(f"pad_to must name columns of the data, {list(names)}, but names {sorted(unknown)}.")


def _of_pipeline(dataset: Any, column_names: Optional[Sequence[str]], pad_to: dict[str, Any]) -> PipelineRecords:
    dataset, numbers = _random_access(dataset)
    own = list(dataset.get_col_names())
    if column_names is not None and set(column_names) <= set(own):
        names = names_for(len(column_names), column_names, None)
        dataset = dataset.project(names)
    else:
        names = names_for(len(own), column_names, own)
        dataset = dataset.rename(own, names) if names != own else dataset
    _refuse_unknown(pad_to, names)
    for name, shape in pad_to.items():
        dataset = dataset.map(padding(name, shape), [name]).project(names)
    return PipelineRecords(dataset, numbers)


def _random_access(dataset: Any) -> tuple[Any, pipelines.Numbers]:
    """The pipeline as row-wise nodes over a random-access source, and the records that it has."""
    chain = pipelines.chain_of(dataset)
    if chain is None:
        raise ValueError("data must be one pipeline without zip or concat, which may hold a record more than once. Put "
                         "the arrays or files together before the source.")
    for node in chain[:-1]:
        _check_row_node(node, chain[-1])
    base = max((place for place, node in enumerate(chain[:-1]) if isinstance(node, _IN_ORDER)), default=-1)
    if base < 0 and pipelines.has_random_access(chain[-1]):
        return _without_shuffles(chain, chain[-1]), pipelines.record_numbers(chain[-1])
    pipelines.refuse_repeats(chain[-1])
    start = base if base >= 0 else len(chain) - 1
    held = _in_memory(chain[start])
    if any(isinstance(node, nodes.MapDataset) for node in chain[start:]):
        LogUtil.get_instance().warn(TAG, "map() before skip, take or filter was applied once, while the records were "
                                         "read: random augmentation there is not drawn anew. Move it after them.")
    return _without_shuffles(chain[:start + 1], held), range(held.source_len)


_IN_ORDER = (nodes.SkipDataset, nodes.TakeDataset, nodes.FilterDataset)


def _check_row_node(node: Any, source: Any) -> None:
    name = pipelines.name_of(source)
    if getattr(node, "count", None) == 1 and isinstance(node, nodes.RepeatDataset):
        return
    if isinstance(node, nodes.RepeatDataset):
        raise ValueError(f"data must hold each record once, but the data set repeats those of {name}. Leave "
                         f".repeat({node.count}) out: the sampler draws anew in every epoch.")
    if not isinstance(node, (*pipelines.EACH_ROW, *pipelines.SOME_ROWS)):
        raise ValueError(f"data must have one example a row, but the data set applies {pipelines.name_of(node)} to "
                         f"{name} with columns {source.get_col_names()}, after which a row is something else. Leave it "
                         f"out: the sampler batches.")


def _without_shuffles(chain: list[Any], source: Any) -> Any:
    """The row-wise nodes of a chain over another source; the order of records is the sampler's."""
    dataset = pipelines.copied(source)
    for node in reversed(chain[:-1]):
        if isinstance(node, pipelines.EACH_ROW):
            dataset = pipelines.onto(node, dataset)
    return dataset


def _in_memory(dataset: Any) -> Any:
    """What cannot be read by number, read once."""
    names, rows, size = list(dataset.get_col_names()), [], 0
    for row in dataset.create_tuple_iterator(num_epochs=1, output_numpy=True):
        size += sum(column.nbytes for column in row)
        if size > _MOST_BYTES:
            raise ValueError(f"{pipelines.name_of(dataset)} cannot be read by record number, and its records need more "
                             f"than {_MOST_BYTES >> 30} GiB of memory. Convert it once, with "
                             f"mindarmour.privacy.diff_privacy.convert_to_mindrecord(dataset, path), and sample from "
                             f"mindspore.dataset.MindDataset(path).")
        rows.append(tuple(row))
    if not rows:
        raise ValueError(f"data must hold records, but {pipelines.name_of(dataset)} has none.")
    return ds.GeneratorDataset(rows, names, shuffle=False)


def one_example_rows(data: Any, column_names: Optional[Sequence[str]] = None
                     ) -> tuple[list[str], Iterator[list[np.ndarray]]]:
    """Names of the columns, and one pass over the examples of whatever users have, streams included; see `records_of`.

    Raises:
        ValueError: A pipeline that batches or repeats, columns of different lengths.
    """
    if not isinstance(data, ds.Dataset):
        data, names = _as_row_dataset(data, column_names)
        return names, _one_pass(data)
    chain = pipelines.chain_of(data)
    if chain is None:
        raise ValueError("data must be one pipeline without zip or concat, which may hold a record more than once.")
    for node in chain[:-1]:
        _check_row_node(node, chain[-1])
    pipelines.refuse_repeats(chain[-1])
    own = list(data.get_col_names())
    if column_names is not None and set(column_names) <= set(own):
        return list(column_names), _one_pass(data.project(list(column_names)))
    return names_for(len(own), column_names, own), _one_pass(data)


def _as_row_dataset(data: Any, column_names: Optional[Sequence[str]]) -> tuple[Any, list[str]]:
    columns = _columns_in(data)
    if columns is None:
        rows, names = row_source(data, column_names, DEFAULT_NAMES)
        return ds.GeneratorDataset(rows, names, shuffle=False), names
    own = [key for key in columns if isinstance(key, str)]
    names = names_for(len(columns), column_names, own if len(own) == len(columns) else None)
    lengths = {name: len(column) for name, column in zip(names, columns.values())}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"data must be columns with the same number of rows, but they have {lengths}.")
    return ds.GeneratorDataset(Rows(list(columns.values())), names, shuffle=False), names


def _one_pass(dataset: Any) -> Iterator[list[np.ndarray]]:
    iterator = dataset.create_tuple_iterator(num_epochs=1, output_numpy=True)
    try:
        yield from iterator
    finally:
        iterator.stop()
