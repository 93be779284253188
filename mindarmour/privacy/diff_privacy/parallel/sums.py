"""Sums over ranks, in the same order on every rank."""
from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import mindspore as ms
from mindspore import Parameter, nn, ops

# Elements summed by one AllReduce: large enough to be limited by bandwidth, small beside the gradients of a model
# for which the copy would matter.
_BUCKET = 2 ** 24


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

    def __init__(self, shapes: Sequence, bucket_size: int = _BUCKET) -> None:
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

    def __init__(self, shapes: Sequence) -> None:
        super().__init__(auto_prefix=False)
        self.sum = RankSum([*shapes, (4,)])

    def construct(self, noised, fraction, loss, bad, rows):
        sums = self.sum(noised + (ops.stack((fraction, loss * rows, bad, rows)),))
        numbers = sums[-1]
        return sums[:-1], numbers[0], numbers[1] / ops.maximum(numbers[3], 1.0), numbers[2]


def buckets_of(sizes: Sequence[int], bucket_size: int) -> tuple[tuple[tuple[int, int, int], ...], ...]:
    """Consecutive tensors that share a bucket: per bucket, (index, start, stop) of each inside it."""
    buckets, current, filled = [], [], 0
    for i, size in enumerate(sizes):
        if current and filled + size > bucket_size:
            buckets.append(tuple(current))
            current, filled = [], 0
        current.append((i, filled, filled + size))
        filled += size
    return (*buckets, tuple(current))


def broadcast_parameters(ranks: Any, parameters: Iterable[Parameter]) -> None:
    """Give every rank rank 0's values of the float and int32 Parameters (others are left to the agreement)."""
    if ranks.world == 1:
        return
    broadcast = ops.Broadcast(0)
    for parameter in parameters:
        if parameter.dtype in (ms.float32, ms.float16, ms.int32) and parameter.size:
            parameter.set_data(broadcast((parameter.value(),))[0].reshape(parameter.shape))
