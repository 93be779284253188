"""Data parallelism: sum over ranks, place the noise on ranks, refuse ranks that disagree.

One process is one rank of a world of one: nothing is summed and no communication library is touched.

References:
    Dwork, Kenthapadi, McSherry, Mironov, Naor 2006, "Our data, ourselves: privacy via distributed noise
    generation": shares of Gaussian noise whose variances add up.
"""
from __future__ import annotations

import contextlib
import math
import signal
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Optional

import mindspore as ms
import numpy as np

from mindarmour.privacy.diff_privacy.parallel.sums import RankSum, StepSum
from mindarmour.utils import _validate

EVERY_RANK = "every_rank"
RANK0 = "rank0"
SLICES = "slices"
PLACEMENTS = (EVERY_RANK, RANK0, SLICES)
_EXPLAINED = "Another rank has stopped or is too late"
_COLLECTIVES = ("AllReduce", "AllGather", "Broadcast", "ollective", "HCCL", "Hccl", "SIGTERM")


@dataclass(frozen=True)
class Ranks:
    """Which of how many processes this one is, and which share of the noise it draws.

    Args:
        rank (int): This process, from 0.
        world (int): Number of processes.
        noise_placement (str): 'every_rank': each rank adds independent noise of variance 1/world to everything
            before the sum. 'rank0': rank 0 alone adds all of it. 'slices': each rank adds all of the noise of one
            slice of the parameters, so that drawing costs 1/world.

    Guarantee:
        Each way the sum over ranks carries independent Gaussian noise of exactly the stated multiplier, which is
        all that leaves the job. Only with 'every_rank' does no rank know the noise: one that subtracts its own
        share still faces (world - 1) / world of the variance. Under 'rank0' rank 0 knows all of it, under 'slices'
        each rank that of its slice.
    """

    rank: int = 0
    world: int = 1
    noise_placement: str = EVERY_RANK

    def __post_init__(self) -> None:
        _validate.integer("world", self.world, low=1)
        _validate.integer("rank", self.rank, low=0, high=self.world - 1)
        _validate.choice("noise_placement", self.noise_placement, PLACEMENTS)

    @property
    def noise_share(self) -> float:
        """Factor on this rank's standard normals: over the ranks, the variances of each element add up to 1."""
        return 1 / math.sqrt(self.world) if self.noise_placement == EVERY_RANK else 1.0

    def normals(self, source: Any, step: int, shapes: Sequence) -> list[np.ndarray]:
        """This rank's standard normals of a step, before `noise_share`; zeros where it adds no noise."""
        source = source.of_rank(self.rank)
        if self.noise_placement == EVERY_RANK:
            return source.normals(step, shapes)
        sizes = [math.prod(shape) for shape in shapes]
        places = self._places(sizes)
        drawn = source.normals(step, [(stop - start,) for start, stop in places])
        arrays = [np.zeros(size, np.float32) for size in sizes]
        for array, (start, stop), values in zip(arrays, places, drawn):
            array[start:stop] = values
        return [array.reshape(shape) for array, shape in zip(arrays, shapes)]

    def _places(self, sizes):
        """Per tensor, the range that this rank adds noise to: together, over the ranks, each element once."""
        if self.noise_placement == RANK0:
            return [(0, size if self.rank == 0 else 0) for size in sizes]
        start, stop = (sum(sizes) * rank // self.world for rank in (self.rank, self.rank + 1))
        firsts = [sum(sizes[:i]) for i in range(len(sizes))]
        return [(min(max(start - first, 0), size), min(max(stop - first, 0), size))
                for first, size in zip(firsts, sizes)]

    def rank_sum(self, shapes: Sequence) -> Optional[RankSum]:
        """A cell that sums tensors of these shapes over the ranks; None in a world of one."""
        return None if self.world == 1 else RankSum(shapes)

    def step_sum(self, shapes: Sequence) -> Optional[StepSum]:
        """The cell that joins what the ranks computed in one training step; None in a world of one."""
        return None if self.world == 1 else StepSum(shapes)

    @contextlib.contextmanager
    def explain_lost(self, what: str) -> Iterator[None]:
        """Say which part of the training failed, and what to do, when another rank did not take part in it."""
        try:
            yield
        except RuntimeError as error:
            if self.world == 1 or _EXPLAINED in str(error) or not any(word in str(error) for word in _COLLECTIVES):
                raise
            raise RuntimeError(f"{_EXPLAINED}, so the ranks cannot {what}. Look for the "
                               f"first error in the other ranks' logs, then restart all ranks from the last "
                               f"checkpoint: its ledger holds the privacy spent up to it.") from error


def current_ranks(noise_placement: str = EVERY_RANK) -> Ranks:
    """The ranks of the running job, from MindSpore's parallel mode.

    Raises:
        ValueError: The parallel mode splits the model: only 'stand_alone' and 'data_parallel' are served.
    """
    mode = ms.get_auto_parallel_context("parallel_mode")
    if mode == "stand_alone":
        return Ranks(noise_placement=noise_placement)
    if mode != "data_parallel":
        raise ValueError(f"parallel_mode must be 'stand_alone' or 'data_parallel' for training with differential "
                         f"privacy, but is '{mode}': a split model would clip parts of a gradient separately.")
    from mindspore.communication import get_group_size, get_rank
    return Ranks(get_rank(), get_group_size(), noise_placement)


def refuse_several_ranks(what: str) -> None:
    """Raise ValueError if several ranks train together: `what` would noise each rank's update for itself."""
    if current_ranks().world > 1:
        raise ValueError(f"{what} serves one process: under data parallelism the ranks' weights would drift apart. Use "
                         f"DPModel, or clipped_gradient_fn with an optimizer from DPOptimizerClassFactory.")


def is_main_rank() -> bool:
    """Whether this process is the one that prints and writes files: rank 0, or the only one."""
    return ms.get_auto_parallel_context("parallel_mode") == "stand_alone" or current_ranks().rank == 0










@contextlib.contextmanager
def outlive_sigterm(ranks: Ranks) -> Iterator[None]:
    """Turn the SIGTERM that MindSpore sends to a rank whose peer has died into an error that says so.

    A second SIGTERM ends the process as usual. Does nothing in a world of one or outside of the main thread.
    """
    if ranks.world == 1 or threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.getsignal(signal.SIGTERM)

    def stop(number, frame):
        signal.signal(signal.SIGTERM, previous)
        raise RuntimeError("SIGTERM: this rank was told to stop")

    signal.signal(signal.SIGTERM, stop)
    try:
        with ranks.explain_lost("go on training"):
            yield
    finally:
        signal.signal(signal.SIGTERM, previous)
















