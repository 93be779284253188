"""Canaries as further records of a data set: the sampler draws them like any record, a coin masks some of them out.

An excluded canary stays a record: number of records, rate, steps and everybody else's draws do not depend on the
coins, so that a coin moves between exactly the neighbours that the claim speaks of.
"""
from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from mindarmour.privacy.accounting.events import BALLS_IN_BINS, POISSON, SHUFFLE
from mindarmour.privacy.diff_privacy.sampling.assembly import HOLE, Like
from mindarmour.privacy.diff_privacy.sampling.batches import PaddedBatches, SamplerDataset

_KINDS = (POISSON, BALLS_IN_BINS, SHUFFLE)
CANARY_COLUMN = "canary"


class CanaryRecords:
    """Records with canaries after them: copies of records, told apart by a first column of canary numbers.

    Args:
        records (ArrayRecords or PipelineRecords): The user's records, which get the canary number 0.
        count (int): Canaries, numbered from 1.
    """

    def __init__(self, records: Any, count: int) -> None:
        self._records, self._count = records, count
        self.names = [CANARY_COLUMN, *records.names]

    def __len__(self) -> int:
        return len(self._records) + self._count

    def gather(self, draws: Iterable[np.ndarray], like: Like) -> Iterator[list[np.ndarray]]:
        """See `ArrayRecords.gather`."""
        numbers, copied = itertools.tee(np.asarray(places, np.int64) for places in draws)
        count = len(self._records)
        originals = self._records.gather((np.where(places == HOLE, HOLE, places % count) for places in copied),
                                         like[1:])
        with contextlib.closing(originals):
            for places, columns in zip(numbers, originals):
                yield [self._canary(places), *columns]

    def rows(self, numbers: np.ndarray) -> list[list[np.ndarray]]:
        """See `ArrayRecords.rows`."""
        numbers = np.asarray(numbers, np.int64)
        rows = self._records.rows(numbers % len(self._records))
        return [[np.asarray(canary), *row] for canary, row in zip(self._canary(numbers), rows)]

    def stored(self) -> CanaryRecords:
        """The records and canaries before any `map`."""
        return CanaryRecords(self._records.stored(), self._count)

    def mapped(self, operations: Any, *arguments: Any, **options: Any) -> CanaryRecords:
        """See `ArrayRecords.mapped`."""
        return CanaryRecords(self._records.mapped(operations, *arguments, **options), self._count)

    def _canary(self, numbers: np.ndarray) -> np.ndarray:
        return np.maximum(numbers - len(self._records) + 1, 0).astype(np.int32)


class CoinBatches(PaddedBatches):
    """Batches whose mask leaves out the canaries that the coins left out; their rows stay where they are.

    Args:
        batches (PaddedBatches): Of all records, canaries last.
        is_in (numpy.ndarray): The coins [m], bool.
    """

    def __init__(self, batches: PaddedBatches, is_in: np.ndarray) -> None:
        super().__init__(batches.records, batches._draws, len(batches), batches.sampling)
        self._coins = np.asarray(is_in, bool)
        self._is_in = np.append(np.ones(len(batches.records) - len(is_in), bool), self._coins)

    def over(self, records: Any) -> CoinBatches:
        """See `PaddedBatches.over`."""
        return CoinBatches(super().over(records), self._coins)

    def _batch(self, places: np.ndarray, columns: list[np.ndarray]) -> Iterator[np.ndarray]:
        *rows, mask = super()._batch(places, columns)
        yield from rows
        yield mask * self._is_in[np.where(places == HOLE, 0, places)]


def with_coins(dataset: SamplerDataset, is_in: np.ndarray) -> SamplerDataset:
    """The sampler's data set with the coins in its mask.

    Raises:
        ValueError: A sampler under whose relation a hole is not the neighbour.
    """
    sampling = dataset.claim
    if sampling.kind not in _KINDS or sampling.shards > 1 or sampling.rows > 1:
        raise ValueError(f"sampler must be PoissonSampler, BallsInBinsSampler or ShufflePartition on one rank, whose "
                         f"neighbour is a hole at the canary's place, but the data set has {sampling}.")
    return SamplerDataset(CoinBatches(dataset.source, is_in))
