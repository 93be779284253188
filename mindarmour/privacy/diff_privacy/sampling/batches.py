"""Padded batches: fixed shapes, a mask column, real rows at random places, and the claim that belongs to them."""
from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Iterator
from typing import Any, Callable

import mindspore.dataset as ds
import numpy as np

from mindarmour.privacy.accounting.events import FULL, ZERO_OUT, Sampling
from mindarmour.privacy.diff_privacy.sampling.assembly import HOLE
from mindarmour.privacy.diff_privacy.sampling.records import columns_like
from mindarmour.utils.secure_random import SecureStream

MASK_COLUMN = "is_real"


class PaddedBatches:
    """Iterable of physical batches: drawn rows, holes of zeros, and the mask that tells them apart.

    Args:
        records (ArrayRecords or PipelineRecords): What is drawn from.
        draws (Callable): Called with the step that an epoch starts at, returns the epoch's batches: arrays of record
            numbers, all of one size, with `HOLE` where no record stands.
        steps (int): Steps per epoch.
        sampling (Sampling): The claim.
    """

    def __init__(self, records: Any, draws: Callable[[int], Iterable[np.ndarray]], steps: int,
                 sampling: Sampling) -> None:
        self.records = records
        self.sampling = sampling
        self._draws = draws
        self._steps = steps
        self._position = 0
        self._rows = columns_like(records)

    def __len__(self) -> int:
        return self._steps

    def __iter__(self) -> Iterator[tuple[np.ndarray, ...]]:
        start, self._position = self._position, self._position + self._steps
        draws, wanted = itertools.tee(self._draws(start))
        with contextlib.closing(self.records.gather(wanted, self._rows)) as batches:
            for places, columns in zip(draws, batches):
                yield tuple(self._batch(places, columns))

    def continue_at(self, step: int) -> None:
        """Draw as after `step` steps of training: what a seeded sampler drew for these is not drawn again."""
        self._position = max(self._position, step)

    def over(self, records: Any) -> PaddedBatches:
        """The same draws from other records of the same number."""
        return PaddedBatches(records, self._draws, self._steps, self.sampling)

    def each_record_once(self) -> PaddedBatches:
        """Batches of the same size that show all records in their order, the last one padded; for metrics only.

        Nothing is drawn, so they claim no more than that every record may be in every step.
        """
        size = len(next(iter(self._draws(self._position))))
        count = len(self.records)

        def in_order(_: int) -> Iterator[np.ndarray]:
            for start in range(0, count, size):
                places = np.arange(start, start + size)
                yield np.where(places < count, places, HOLE)

        sampling = Sampling(FULL, size, size, ZERO_OUT, reason="its records come in their order, for metrics")
        return PaddedBatches(self.records, in_order, -(-count // size), sampling)

    def rows_by_name(self) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
        """Shape and type of a row of each column."""
        return dict(zip(self.records.names, self._rows))

    def _batch(self, places: np.ndarray, columns: list[np.ndarray]) -> Iterator[np.ndarray]:
        yield from columns
        yield (places != HOLE).astype(np.float32)


class SamplerDataset(ds.GeneratorDataset):
    """What a sampler returns: a MindSpore data set of physical batches that carries the sampler's claim.

    The claim is this node's and no other's. `map` goes to the records, in front of the sampler; `project` and
    `rename` keep the claim while the mask stays; after anything else `claim_of` refuses the data set.

    Args:
        batches (PaddedBatches): Where the batches come from.
    """

    def __init__(self, batches: Any) -> None:
        super().__init__(batches, [*batches.records.names, MASK_COLUMN], shuffle=False)

    @property
    def claim(self) -> Sampling:
        """The claim that holds for these batches."""
        return self.source.sampling

    def map(self, operations: Any, input_columns: Any = None, output_columns: Any = None, *arguments: Any,
            **options: Any) -> SamplerDataset:
        """Apply operations to each record that is drawn, as `Dataset.map` does to a row.

        Args:
            operations (Callable or list): Transforms of MindSpore get one record, as before batching. A Python
                callable gets one record as a batch of one, columns of shape [1, ...], and so serves whole batches as
                well. Either way no operation sees two records.
            input_columns (str or list[str], optional): As in `Dataset.map`; never the mask.
            output_columns (str or list[str], optional): As in `Dataset.map`; never the mask.
            *arguments: Further arguments of `Dataset.map`.
            **options: Further arguments of `Dataset.map`.

        Raises:
            ValueError: The mask column is among the columns.
        """
        for name, columns in (("input_columns", input_columns), ("output_columns", output_columns)):
            if MASK_COLUMN in ([columns] if isinstance(columns, str) else columns or []):
                raise ValueError(f"{name} must not hold {MASK_COLUMN!r}: the mask tells which rows are records, and "
                                 f"the guarantee rests on it.")
        operations = operations if isinstance(operations, (list, tuple)) else [operations]
        records = self.source.records.mapped([_of_one_record(op) for op in operations], input_columns, output_columns,
                                             *arguments, **options)
        return SamplerDataset(self.source.over(records))


def _of_one_record(operation: Any) -> Any:
    """Transforms of MindSpore as they are; a callable of the user's as one of a single record."""
    return operation if type(operation).__module__.startswith("mindspore.dataset") else _BatchOfOne(operation)


class _BatchOfOne:
    """A callable that is given batches of one row."""

    def __init__(self, operation: Callable[..., Any]) -> None:
        if not callable(operation):
            raise TypeError(f"operations must be callable, but got {type(operation).__name__}.")
        self._operation = operation

    def __call__(self, *columns: np.ndarray) -> Any:
        result = self._operation(*(np.asarray(column)[np.newaxis] for column in columns))
        if not isinstance(result, tuple):
            return self._single(result)
        return tuple(self._single(value) for value in result)

    @staticmethod
    def _single(value: Any) -> np.ndarray:
        value = np.asarray(value)
        if value.ndim == 0 or len(value) != 1:
            raise ValueError(f"An operation of map() must return as many rows as it was given, 1, but returned an "
                             f"array of shape {value.shape}.")
        return value[0]


def at_random_places(records: np.ndarray, size: int, stream: SecureStream) -> np.ndarray:
    """Array of `size` places with the records at random ones and holes elsewhere; surplus records are cut at random.

    A missing record leaves a hole (or, where some were cut, one other record in its place) and moves no other.
    """
    order = stream.permutation(max(len(records), size))[:len(records)]
    places = np.full(size, HOLE)
    places[order[order < size]] = records[order < size]
    return places
