"""Samplers: who takes part in a step. The sampler owns the privacy claim.

A sampler turns data into a MindSpore dataset of physical batches of one fixed size with a mask column `is_real`;
`DPModel.train` reads from the dataset which claim it may make (see `claims`).

Every record that was drawn takes a random place of the physical batch. So a record that is missing moves no other
record into another unit of several examples, whatever the unit's size.

References:
    Chua et al. 2024, "How private are DP-SGD implementations?" and "Scalable DP-SGD": shuffling can be far worse
    than Poisson sampling, whose batches a fixed physical size serves by truncation at a harmless cap.
    Chua et al. 2025, "Balls-and-bins sampling for DP-SGD". Feldman, Shenfeld 2025, "Privacy amplification by random
    allocation".
"""
from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any, Callable, Optional

import numpy as np
from scipy.special import bdtrc

from mindarmour.privacy.accounting.events import (
    ADD_OR_REMOVE,
    BALLS_IN_BINS,
    FIXED_SIZE,
    POISSON,
    REPLACE_ONE,
    SHUFFLE,
    ZERO_OUT,
    Randomness,
    Sampling,
    SamplingKind,
)
from mindarmour.privacy.accounting.sampling import steps_of_epoch
from mindarmour.privacy.diff_privacy.parallel.ranks import current_ranks
from mindarmour.privacy.diff_privacy.sampling.assembly import HOLE
from mindarmour.privacy.diff_privacy.sampling.batches import (
    MASK_COLUMN,
    PaddedBatches,
    SamplerDataset,
    at_random_places,
)
from mindarmour.privacy.diff_privacy.sampling.draws import poisson_draw, subset_draw
from mindarmour.privacy.diff_privacy.sampling.records import records_of
from mindarmour.utils import _validate
from mindarmour.utils.secure_random import SecureStream, derive_key

# Probability that one step draws more than the physical batch holds: with it, even a million steps at epsilon 10
# add less than 1e-6 to delta, and the accountant adds what they do.
OVERFLOW_PROBABILITY = 1e-16
# Random allocation has no accountant for cut batches. At this probability an epoch adds (1 + exp(epsilon)) * 1e-30
# to delta: 5e-16 for a million epochs at epsilon 20, less than float64 can tell from the stated delta.
NEVER = 1e-30

Draws = Callable[[int], Iterator[np.ndarray]]


def physical_batch_size(num_examples: int, batch_size: float, probability: float = OVERFLOW_PROBABILITY) -> int:
    """Smallest size that a binomial batch of expected `batch_size` exceeds with at most `probability`."""
    rate = batch_size / num_examples
    low, high = math.ceil(batch_size), num_examples
    while low < high:
        middle = (low + high) // 2
        if bdtrc(middle, num_examples, rate) <= probability:
            high = middle
        else:
            low = middle + 1
    return low


def records_with_mask(data: Any, column_names: Optional[Sequence[str]] = None,
                      pad_to: Optional[Mapping[str, Any]] = None) -> Any:
    """`records_of` the data, which must leave room for the mask column."""
    records = records_of(data, column_names, pad_to)
    if MASK_COLUMN in records.names:
        raise ValueError(f"column_names must not hold {MASK_COLUMN!r}, the name of the mask that the sampler adds, "
                         f"but got {records.names}. Rename that column.")
    return records


class Sampler:
    """What the samplers share; each states its claim and draws its epochs.

    Under data parallelism every rank samples its own shard, each world-th record.
    """

    kind: SamplingKind  # stated by each

    def __init__(self, batch_size: int, seed: int, steps_per_epoch: Optional[int] = None) -> None:
        self.batch_size = _validate.integer("batch_size", batch_size, low=1)
        self.seed = _validate.integer("seed", seed, low=0)
        if steps_per_epoch is not None:
            _validate.integer("steps_per_epoch", steps_per_epoch, low=1)
        self.steps_per_epoch = steps_per_epoch

    def dataset(self, data: Any, column_names: Optional[Sequence[str]] = None,
                pad_to: Optional[Mapping[str, Any]] = None) -> SamplerDataset:
        """A dataset of padded batches over `data`, with the mask as last column.

        Under data parallelism hand the whole data to every rank, in the same order.

        Args:
            data (Any): Arrays, a source of rows, or a MindSpore data set with one example a row, whose own workers
                then load, decode and augment the records that are drawn. See `records_of`.
            column_names (Sequence[str], optional): See `records_of`.
            pad_to (Mapping[str, int or tuple], optional): For columns whose rows differ in shape, the shape that every
                row is padded to. See `records_of`.

        Returns:
            SamplerDataset.

        Raises:
            TypeError: Data of a kind that cannot be read.
            ValueError: Data that cannot be sampled from, each with the line to change.
        """
        records = records_with_mask(data, column_names, pad_to)
        sampling, steps, draws = self.draws_of(len(records))
        return SamplerDataset(PaddedBatches(records, draws, steps, sampling))

    def draws_of(self, count: int) -> tuple[Sampling, int, Draws]:
        """(claim, steps of an epoch, draws as `PaddedBatches` takes them) for so many records."""
        _validate.integer("batch_size", self.batch_size, low=1, high=count)
        ranks = current_ranks()
        sampling, size, steps = self._claim(count, ranks.world)
        sampling = replace(sampling, noise_source=Randomness.SECURE if self.seed == 0 else Randomness.SEEDED)
        shard = len(range(ranks.rank, count, ranks.world))

        def draws(start: int) -> Iterator[np.ndarray]:
            for places in self._epoch(shard, sampling, size, steps, self._stream(start, ranks.rank)):
                yield np.where(places == HOLE, HOLE, places * ranks.world + ranks.rank)

        return sampling, steps, draws

    def _claim(self, count: int, world: int) -> tuple[Sampling, int, int]:
        """(Sampling, rows of a rank's physical batch, steps of an epoch)."""
        raise NotImplementedError

    def _epoch(self, shard: int, sampling: Sampling, size: int, steps: int,
               stream: SecureStream) -> Iterator[np.ndarray]:
        """Batches of one epoch from a shard of so many records, see `PaddedBatches`."""
        raise NotImplementedError

    def _stream(self, start: int, rank: int) -> SecureStream:
        """Randomness of the epoch that starts at a step."""
        return SecureStream(None if self.seed == 0 else derive_key(self.kind, self.seed, start, rank))

    def _steps(self, count: int) -> int:
        return self.steps_per_epoch or steps_of_epoch(self.kind, count, self.batch_size)

    def _rows_of_rank(self, world: int) -> int:
        if self.batch_size % world:
            raise ValueError(f"batch_size must be a multiple of the {world} ranks, but got {self.batch_size}.")
        return self.batch_size // world


class PoissonSampler(Sampler):
    """Each example joins each batch independently with probability batch_size / N.

    Args:
        batch_size (int): Expected batch size, over all ranks; the fixed public divisor of the sum.
        steps_per_epoch (int, optional): Default: N / batch_size, rounded.
        max_batch_size (int, optional): Physical batch size. Default: large enough that a step draws more with
            probability at most 1e-16. A larger draw is cut down to it at random; the accountant adds what that
            costs. Under data parallelism the ranks share it evenly.
        seed (int): 0 draws from operating-system entropy, as the privacy claim needs; another seed is reproducible.

    Guarantee:
        Poisson sampling under add-or-remove. Under data parallelism each rank draws, independently and at the same
        rate, from every world-th record: together that is Poisson sampling from all records.

    Examples:
        >>> import numpy as np
        >>> from mindarmour.privacy.diff_privacy import PoissonSampler
        >>> images, labels = np.zeros((1000, 1, 32, 32), np.float32), np.zeros(1000, np.int32)
        >>> dataset = PoissonSampler(batch_size=100).dataset((images, labels), ["image", "label"])
        >>> dataset.get_dataset_size(), dataset.get_col_names()
        (10, ['image', 'label', 'is_real'])
    """

    kind = POISSON

    def __init__(self, batch_size: int, steps_per_epoch: Optional[int] = None, max_batch_size: Optional[int] = None,
                 seed: int = 0) -> None:
        super().__init__(batch_size, seed, steps_per_epoch)
        if max_batch_size is not None:
            _validate.integer("max_batch_size", max_batch_size, low=self.batch_size)
        self.max_batch_size = max_batch_size

    def _claim(self, count: int, world: int) -> tuple[Sampling, int, int]:
        shard = math.ceil(count / world)
        if self.max_batch_size is not None:
            size = min(math.ceil(self.max_batch_size / world), shard)
        else:
            size = physical_batch_size(shard, self.batch_size / count * shard)
        sampling = Sampling(POISSON, count, self.batch_size, ADD_OR_REMOVE,
                            max_batch_size=size if size < shard else None, shards=world)
        return sampling, size, self._steps(count)

    def _epoch(self, shard: int, sampling: Sampling, size: int, steps: int,
               stream: SecureStream) -> Iterator[np.ndarray]:
        rate = Fraction(self.batch_size, sampling.num_examples)
        for _ in range(steps):
            yield at_random_places(poisson_draw(shard, rate, stream), size, stream)


class BallsInBinsSampler(Sampler):
    """Each example draws the one step of the epoch that it joins, anew in every epoch.

    Args:
        batch_size (int): Expected batch size, over all ranks; the fixed public divisor of the sum. An epoch takes
            N / batch_size steps, rounded.
        seed (int): 0 draws from operating-system entropy, as the privacy claim needs; another seed is reproducible.

    Guarantee:
        Random allocation under add-or-remove: every example is used exactly once an epoch, at about the price of
        Poisson sampling. An epoch is charged when it starts, however much of it runs. A batch that does not fit into
        the physical batch is cut at random; that has probability at most 1e-30 per example and epoch, and adds
        (1 + exp(epsilon)) times that to delta.

    Examples:
        >>> import numpy as np
        >>> from mindarmour.privacy.diff_privacy import BallsInBinsSampler
        >>> images, labels = np.zeros((1000, 1, 32, 32), np.float32), np.zeros(1000, np.int32)
        >>> BallsInBinsSampler(batch_size=100).dataset((images, labels)).get_dataset_size()
        10
    """

    kind = BALLS_IN_BINS

    def __init__(self, batch_size: int, seed: int = 0) -> None:
        super().__init__(batch_size, seed)

    def _claim(self, count: int, world: int) -> tuple[Sampling, int, int]:
        steps, shard = self._steps(count), math.ceil(count / world)
        sampling = Sampling(BALLS_IN_BINS, count, self.batch_size, ADD_OR_REMOVE, steps_per_epoch=steps, shards=world)
        return sampling, physical_batch_size(shard, shard / steps, NEVER), steps

    def _epoch(self, shard: int, sampling: Sampling, size: int, steps: int,
               stream: SecureStream) -> Iterator[np.ndarray]:
        bins = stream.integers(steps, shard)
        order = np.argsort(bins, kind="stable")
        for records in np.split(order, np.searchsorted(bins[order], np.arange(1, steps))):
            yield at_random_places(records, size, stream)


class FixedSizeSampler(Sampler):
    """Each batch holds exactly `batch_size` examples, drawn without replacement and anew in every step.

    Args:
        batch_size (int): Batch size, over all ranks.
        steps_per_epoch (int, optional): Default: N / batch_size, rounded.
        seed (int): 0 draws from operating-system entropy, as the privacy claim needs; another seed is reproducible.

    Guarantee:
        Sampling without replacement under replace-one, where a clipped sum moves by twice the bound: several times
        the epsilon of Poisson sampling at equal noise. The number of examples is public. Under data parallelism each
        rank draws its part from its own shard, at the same rate for every record.

    Raises:
        ValueError: From `dataset`, if the ranks cannot share batch and examples evenly.

    Examples:
        >>> import numpy as np
        >>> from mindarmour.privacy.diff_privacy import FixedSizeSampler
        >>> images, labels = np.zeros((1000, 1, 32, 32), np.float32), np.zeros(1000, np.int32)
        >>> FixedSizeSampler(batch_size=100).dataset((images, labels)).get_dataset_size()
        10
    """

    kind = FIXED_SIZE

    def __init__(self, batch_size: int, steps_per_epoch: Optional[int] = None, seed: int = 0) -> None:
        super().__init__(batch_size, seed, steps_per_epoch)

    def _claim(self, count: int, world: int) -> tuple[Sampling, int, int]:
        if count % world:
            raise ValueError(f"data must have a multiple of {world} records, one share for each rank, but got "
                             f"{count}. Leave some out, or use PoissonSampler.")
        sampling = Sampling(FIXED_SIZE, count, self.batch_size, REPLACE_ONE, shards=world)
        return sampling, self._rows_of_rank(world), self._steps(count)

    def _epoch(self, shard: int, sampling: Sampling, size: int, steps: int,
               stream: SecureStream) -> Iterator[np.ndarray]:
        for _ in range(steps):
            yield subset_draw(shard, size, stream)


class ShufflePartition(Sampler):
    """Shuffles the examples anew in every epoch and cuts the order into batches; the last one is padded.

    Args:
        batch_size (int): Batch size, over all ranks.
        seed (int): 0 draws from operating-system entropy; another seed is reproducible.

    Guarantee:
        Every example takes part exactly once an epoch, under zero-out and without any amplification: an epoch costs
        one Gaussian mechanism. The figure of Poisson sampling does not hold here. It is what
        `dataset.shuffle(..).batch(..)` does, with every example used and with randomness that a seed of MindSpore
        does not replay.

    Examples:
        >>> import numpy as np
        >>> from mindarmour.privacy.diff_privacy import ShufflePartition
        >>> images, labels = np.zeros((1050, 1, 32, 32), np.float32), np.zeros(1050, np.int32)
        >>> ShufflePartition(batch_size=100).dataset((images, labels)).get_dataset_size()
        11
    """

    kind = SHUFFLE

    def __init__(self, batch_size: int, seed: int = 0) -> None:
        super().__init__(batch_size, seed)

    def _claim(self, count: int, world: int) -> tuple[Sampling, int, int]:
        size = self._rows_of_rank(world)
        steps = steps_of_epoch(SHUFFLE, math.ceil(count / world), size, padded=True)
        sampling = Sampling(SHUFFLE, count, self.batch_size, ZERO_OUT, steps_per_epoch=steps, shards=world)
        return sampling, size, steps

    def _epoch(self, shard: int, sampling: Sampling, size: int, steps: int,
               stream: SecureStream) -> Iterator[np.ndarray]:
        order = stream.permutation(shard)
        for step in range(steps):
            yield at_random_places(order[step * size:(step + 1) * size], size, stream)
