"""Samplers for correlated noise: records that come again at known distances.

Order and groups are drawn once for a sampler and a number of records, and stay what they are. Another sampler draws
others, so its data sets begin a new stream of noise.
"""
from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from typing import Callable, Optional

import numpy as np

from mindarmour.privacy.accounting.events import (
    ADD_OR_REMOVE,
    CYCLIC_POISSON,
    FIXED_ORDER,
    ZERO_OUT,
    Sampling,
)
from mindarmour.privacy.accounting.sampling import steps_of_epoch
from mindarmour.privacy.diff_privacy.sampling.batches import at_random_places
from mindarmour.privacy.diff_privacy.sampling.draws import poisson_draw
from mindarmour.privacy.diff_privacy.sampling.samplers import NEVER, Sampler, physical_batch_size
from mindarmour.utils import _validate
from mindarmour.utils.secure_random import SecureStream, derive_key


class _DrawsOnce(Sampler):
    """Keeps what is drawn once for a rank and a number of records."""

    def __init__(self, batch_size: int, seed: int, steps_per_epoch: Optional[int] = None) -> None:
        super().__init__(batch_size, seed, steps_per_epoch)
        self._drawn: dict[tuple[int, int], np.ndarray] = {}
        self._rank = 0

    def _stream(self, start: int, rank: int) -> SecureStream:
        self._rank = rank
        return super()._stream(start, rank)

    def _once(self, purpose: str, shard: int, draw: Callable[[SecureStream], np.ndarray]) -> np.ndarray:
        key = (self._rank, shard)
        if key not in self._drawn:
            secret = None if self.seed == 0 else derive_key(f"{self.kind} {purpose}", self.seed, 0, self._rank)
            self._drawn[key] = draw(SecureStream(secret))
        return self._drawn[key]


class FixedOrder(_DrawsOnce):
    """Shuffles the examples once and cuts the order into batches, the same in every epoch; the last one is padded.

    Args:
        batch_size (int): Batch size, over all ranks.
        seed (int): 0 draws from operating-system entropy; another seed is reproducible.

    Guarantee:
        Every example takes part exactly once an epoch, exactly an epoch apart, under zero-out and without any
        amplification. With independent noise it costs what `ShufflePartition` costs; with correlated noise less, as
        two participations are never close.

    Examples:
        >>> import numpy as np
        >>> from mindarmour.privacy.diff_privacy import FixedOrder
        >>> images, labels = np.zeros((1050, 1, 32, 32), np.float32), np.zeros(1050, np.int32)
        >>> FixedOrder(batch_size=100).dataset((images, labels)).get_dataset_size()
        11
    """

    kind = FIXED_ORDER

    def __init__(self, batch_size: int, seed: int = 0) -> None:
        super().__init__(batch_size, seed)

    def _claim(self, count: int, world: int) -> tuple[Sampling, int, int]:
        size = self._rows_of_rank(world)
        steps = steps_of_epoch(FIXED_ORDER, math.ceil(count / world), size, padded=True)
        sampling = Sampling(FIXED_ORDER, count, self.batch_size, ZERO_OUT, steps_per_epoch=steps, shards=world)
        return sampling, size, steps

    def _epoch(self, shard: int, sampling: Sampling, size: int, steps: int,
               stream: SecureStream) -> Iterator[np.ndarray]:
        order = self._once("order", shard, lambda once: once.permutation(shard))
        for step in range(steps):
            yield at_random_places(order[step * size:(step + 1) * size], size, stream)


class CyclicPoissonSampler(_DrawsOnce):
    """Groups of examples take turns; in its turn, each example of a group joins with probability bands * B / N.

    Args:
        batch_size (int): Expected batch size B, over all ranks; the fixed public divisor of the sum.
        bands (int): Groups, at least as many as the strategy of the noise has bands, at most N / B. Each example draws
            its group once. 1 is Poisson sampling.
        steps_per_epoch (int, optional): A multiple of `bands`. Default: N / B, rounded down to one.
        seed (int): 0 draws from operating-system entropy, as the privacy claim needs; another seed is reproducible.

    Guarantee:
        Under add-or-remove, a run of n steps with noise of at most so many bands costs ceil(n / bands) steps of
        Poisson sampling at the higher rate. An epoch that was broken off in the middle of a turn begins a new stream.
        A batch that does not fit into the physical batch is cut at random; that has probability at most 1e-30 a step,
        and adds (1 + exp(epsilon)) times that to delta.

    References:
        Choquette-Choo et al. 2023, "(Amplified) banded matrix factorization", theorem 4.

    Examples:
        >>> import numpy as np
        >>> from mindarmour.privacy.diff_privacy import CyclicPoissonSampler
        >>> images, labels = np.zeros((1000, 1, 32, 32), np.float32), np.zeros(1000, np.int32)
        >>> CyclicPoissonSampler(batch_size=100, bands=4).dataset((images, labels)).get_dataset_size()
        8
    """

    kind = CYCLIC_POISSON

    def __init__(self, batch_size: int, bands: int, steps_per_epoch: Optional[int] = None, seed: int = 0) -> None:
        super().__init__(batch_size, seed, steps_per_epoch)
        self.bands = _validate.integer("bands", bands, low=1)

    def _claim(self, count: int, world: int) -> tuple[Sampling, int, int]:
        _validate.integer("bands", self.bands, low=1, high=count // self.batch_size)
        shard = math.ceil(count / world)
        steps = self.steps_per_epoch or max(1, self._steps(count) // self.bands) * self.bands
        sampling = Sampling(CYCLIC_POISSON, count, self.batch_size, ADD_OR_REMOVE, steps_per_epoch=steps, shards=world,
                            groups=self.bands)
        return sampling, physical_batch_size(shard, self.batch_size / count * shard, NEVER), steps

    def _epoch(self, shard: int, sampling: Sampling, size: int, steps: int,
               stream: SecureStream) -> Iterator[np.ndarray]:
        drawn = self._once("groups", shard, lambda once: once.integers(self.bands, shard))
        groups = [np.flatnonzero(drawn == group) for group in range(self.bands)]
        rate = Fraction(self.bands * self.batch_size, sampling.num_examples)
        for step in range(steps):
            group = groups[step % self.bands]
            taken = group[poisson_draw(len(group), rate, stream)] if len(group) else group
            yield at_random_places(taken, size, stream)
