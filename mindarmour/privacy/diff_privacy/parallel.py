"""Data parallelism: sum over ranks, place the noise on ranks, refuse ranks that disagree.

One process is one rank of a world of one: nothing is summed and no communication library is touched.

References:
    Dwork, Kenthapadi, McSherry, Mironov, Naor 2006, "Our data, ourselves: privacy via distributed noise
    generation": shares of Gaussian noise whose variances add up.
"""
import contextlib
import hashlib
import math
import signal
import threading
from dataclasses import dataclass

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from mindarmour.utils import _validate

EVERY_RANK = "every_rank"
RANK0 = "rank0"
SLICES = "slices"
PLACEMENTS = (EVERY_RANK, RANK0, SLICES)
# Elements summed by one AllReduce: large enough to be limited by bandwidth, small beside the gradients of a model
# for which the copy would matter.
_BUCKET = 2 ** 24
_DIGEST_WORDS = 4
_TEXT_WORDS = 64
_PART_FACTS = {
    "rule": ("groups", "shares", "stability"),
    "noise_mech": ("initial_noise_multiplier", "decay_policy", "noise_decay_rate", "seed"),
    "clip_mech": ("decay_policy", "learning_rate", "target_unclipped_quantile", "fraction_stddev", "seed"),
}
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

    def __post_init__(self):
        _validate.integer("world", self.world, low=1)
        _validate.integer("rank", self.rank, low=0, high=self.world - 1)
        _validate.choice("noise_placement", self.noise_placement, PLACEMENTS)

    @property
    def noise_share(self):
        """Factor on this rank's standard normals: over the ranks, the variances of each element add up to 1."""
        return 1 / math.sqrt(self.world) if self.noise_placement == EVERY_RANK else 1.0

    def normals(self, source, step, shapes):
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

    def rank_sum(self, shapes):
        """A cell that sums tensors of these shapes over the ranks; None in a world of one."""
        return None if self.world == 1 else RankSum(shapes)

    def step_sum(self, shapes):
        """The cell that joins what the ranks computed in one training step; None in a world of one."""
        return None if self.world == 1 else StepSum(shapes)

    @contextlib.contextmanager
    def explain_lost(self, what):
        """Say which part of the training failed, and what to do, when another rank did not take part in it."""
        try:
            yield
        except RuntimeError as error:
            if self.world == 1 or _EXPLAINED in str(error) or not any(word in str(error) for word in _COLLECTIVES):
                raise
            raise RuntimeError(f"{_EXPLAINED}, so the ranks cannot {what}. Look for the "
                               f"first error in the other ranks' logs, then restart all ranks from the last "
                               f"checkpoint: its ledger holds the privacy spent up to it.") from error


def current_ranks(noise_placement=EVERY_RANK):
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


def refuse_several_ranks(what):
    """Raise ValueError if several ranks train together: `what` would noise each rank's update for itself."""
    if current_ranks().world > 1:
        raise ValueError(f"{what} serves one process: under data parallelism the ranks' weights would drift apart. Use "
                         f"DPModel, or clipped_gradient_fn with an optimizer from DPOptimizerClassFactory.")


def is_main_rank():
    """Whether this process is the one that prints and writes files: rank 0, or the only one."""
    return ms.get_auto_parallel_context("parallel_mode") == "stand_alone" or current_ranks().rank == 0


class RankSum(nn.Cell):
    """Sum of float32 tensors over the ranks, in buckets that follow each other in the same order on every rank.

    Args:
        shapes (Sequence[tuple]): Shapes of the tensors, the same on all ranks.
        bucket_size (int): Elements summed by one AllReduce, unless a single tensor has more.

    Inputs:
        tensors (tuple[Tensor]): Float32 tensors of these shapes.

    Outputs:
        tuple[Tensor], the sums; bit-equal on all ranks.

    Supported Platforms:
        ``Ascend`` ``GPU`` ``CPU``
    """

    def __init__(self, shapes, bucket_size=_BUCKET):
        super().__init__(auto_prefix=False)
        self.all_reduce = ops.AllReduce(ops.ReduceOp.SUM)
        self.shapes = tuple(tuple(shape) for shape in shapes)
        self.buckets = buckets_of([math.prod(shape) for shape in self.shapes], bucket_size)

    def construct(self, tensors):
        before = tensors[0]
        sums = ()
        for bucket in self.buckets:
            flat = ()
            for i, _, _ in bucket:
                flat += (tensors[i].reshape(-1),)
            # depend keeps the order: two sums in flight could meet in different orders on different ranks
            before = self.all_reduce(ops.depend(ops.concat(flat), before))
            for i, start, stop in bucket:
                sums += (before[start:stop].reshape(self.shapes[i]),)
        return sums


class StepSum(nn.Cell):
    """Joins the ranks' parts of one training step, in one sum: noised gradients and four numbers.

    Args:
        shapes (Sequence[tuple]): Shapes of the gradients.

    Inputs:
        noised (tuple[Tensor]): This rank's clipped sums with its share of the noise.
        fraction (Tensor): Its part of the fraction of unclipped units, float32 [].
        loss (Tensor): Mean loss of its rows, float32 [].
        bad (Tensor): Its dropped units, float32 [].
        rows (Tensor): Its real rows, float32 [].

    Outputs:
        tuple, (sums, fraction, loss, bad) of all ranks together.
    """

    def __init__(self, shapes):
        super().__init__(auto_prefix=False)
        self.sum = RankSum([*shapes, (4,)])

    def construct(self, noised, fraction, loss, bad, rows):
        sums = self.sum(noised + (ops.stack((fraction, loss * rows, bad, rows)),))
        numbers = sums[-1]
        return sums[:-1], numbers[0], numbers[1] / ops.maximum(numbers[3], 1.0), numbers[2]


def buckets_of(sizes, bucket_size):
    """Consecutive tensors that share a bucket: per bucket, (index, start, stop) of each inside it."""
    buckets, current, filled = [], [], 0
    for i, size in enumerate(sizes):
        if current and filled + size > bucket_size:
            buckets.append(tuple(current))
            current, filled = [], 0
        current.append((i, filled, filled + size))
        filled += size
    return (*buckets, tuple(current))


def broadcast_parameters(ranks, parameters):
    """Give every rank rank 0's values of the float and int32 Parameters (others are left to the agreement)."""
    if ranks.world == 1:
        return
    broadcast = ops.Broadcast(0)
    for parameter in parameters:
        if parameter.dtype in (ms.float32, ms.float16, ms.int32) and parameter.size:
            parameter.set_data(broadcast((parameter.value(),))[0].reshape(parameter.shape))


@contextlib.contextmanager
def outlive_sigterm(ranks):
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


def digest_of(array):
    """Short fingerprint of an array's bytes."""
    return hashlib.blake2b(np.ascontiguousarray(array).tobytes(), digest_size=8).hexdigest()


def plan_facts(plan):
    """What a plan says, for `require_agreement`."""
    facts = {"world": plan.ranks.world, "noise_placement": plan.ranks.noise_placement, "norm_bound": plan.norm_bound,
             "micro_batches": plan.micro_batches, "physical_batch_size": plan.physical_batch_size,
             "engine": plan.engine, "sampling": plan.sampling}
    for name, names in _PART_FACTS.items():
        part = getattr(plan, name)
        facts[name] = None if part is None else type(part).__name__
        facts.update({f"{item} of {name}": getattr(part, item, None) for item in names})
    return facts


def parameter_facts(parameters):
    """Fingerprint of each Parameter, for `require_agreement`."""
    facts = {}
    for parameter in parameters:
        value = parameter.astype(ms.float32) if parameter.dtype == ms.bfloat16 else parameter
        facts[f"Parameter '{parameter.name}'"] = digest_of(value.asnumpy())
    return facts


def require_agreement(ranks, facts):
    """Compare facts of all ranks; a collective call that every rank must make.

    Args:
        ranks (Ranks): Of this job.
        facts (dict): Name to value; values are compared as text. Same names on all ranks.

    Raises:
        ValueError: Ranks differ. Every rank raises, with the first difference and both values.
        RuntimeError: A rank did not take part.
    """
    if ranks.world == 1:
        return
    everything = "\n".join(f"{name}: {value}" for name, value in facts.items())
    heads = _gathered(ranks, np.append(_digest(everything), np.int32(len(facts))))
    if (heads == heads[0]).all():
        return
    if (heads[:, -1] != heads[0, -1]).any():
        raise ValueError(f"All ranks must run the same program, but compare {heads[:, -1].tolist()} facts about "
                         f"their network and plan: their networks differ.")
    digests = np.concatenate([_digest(f"{name}: {value}") for name, value in facts.items()])
    table = _gathered(ranks, digests).reshape(ranks.world, -1, _DIGEST_WORDS)
    place = int(np.flatnonzero((table != table[0]).any(axis=(0, 2)))[0])
    other = int(np.flatnonzero((table[:, place] != table[0, place]).any(axis=1))[0])
    name, value = list(facts.items())[place]
    texts = _gathered(ranks, _words(str(value)))
    raise ValueError(f"All ranks must start with the same {name}, but rank 0 has {_text(texts[0])} and rank {other} "
                     f"has {_text(texts[other])}. Start all ranks with the same arguments, data and weights (load "
                     f"the same checkpoint, or set parameter_broadcast=True in set_auto_parallel_context).")


def _gathered(ranks, words):
    """int32 [n] of every rank, as [world, n]."""
    with ranks.explain_lost("compare their plans and weights"):
        return ops.AllGather()(Tensor(words)).asnumpy().reshape(ranks.world, -1)


def _digest(text):
    return np.frombuffer(hashlib.blake2b(text.encode(), digest_size=4 * _DIGEST_WORDS).digest(), np.int32)


def _words(text):
    return np.frombuffer(text.encode()[:4 * _TEXT_WORDS].ljust(4 * _TEXT_WORDS, b"\0"), np.int32)


def _text(words):
    return words.tobytes().rstrip(b"\0").decode(errors="replace")
