"""What all gradient engines share: units, row weights, and the loss of one row.

An engine is called as `engine(norm_bound, is_real, *columns)` with the bound float32 [], the mask float32 [B] and
the batch's columns (inputs, then the label if there is a loss function), and returns

    totals  tuple of float32 Tensors in the order of `network.trainable_params()`: the clipped SUM over units,
            neither averaged nor noised
    norms   float32 [units], gradient norms before clipping (0 for a unit without real rows)
    loss    float32 [], mean loss of the real rows
    bad     float32 [], number of units whose gradient was NaN or infinite; they contribute exactly zero

The B rows of a batch form `units` consecutive groups of B // units rows. A unit's gradient is the mean (for a loss
with reduction 'sum': the sum) of the loss gradients of its real rows. A row with mask 0 leaves a hole: the other
rows keep their places, so one record's absence never moves another record into a different unit.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

import mindspore as ms
from mindspore import Parameter, Tensor, nn
from mindspore.common.initializer import initializer

from mindarmour.privacy.diff_privacy.grads.class_loss import class_weights_kept
from mindarmour.privacy.diff_privacy.operators import add_up, add_up_keeping_axes, larger, reshape, select, zeros_like

ENGINES = ("auto", "ghost", "vmap", "loop")


def loss_reduction(loss_fn: Optional[nn.Cell]) -> str:
    """'mean', 'sum' or 'none', as the loss cell says; 'mean' where it does not."""
    reduction = getattr(loss_fn, "reduction", None)
    if reduction in ("mean", "sum", "none"):
        return reduction
    if isinstance(loss_fn, nn.LossBase):
        return ("mean" if loss_fn.average else "sum") if loss_fn.reduce else "none"
    return "mean"


class RowLoss(nn.Cell):
    """Loss of rows: the network with its loss function, reduced to one number by mean.

    Called with one row ([1, ...] columns), this is that row's loss whatever the reduction of `loss_fn`. Class weights
    stay in it, though MindSpore's mean of one label divides them out (`class_loss.class_weights_kept`).
    """

    def __init__(self, network: nn.Cell, loss_fn: Optional[nn.Cell]) -> None:
        super().__init__(auto_prefix=False)
        self.network = network
        self.loss_fn = class_weights_kept(loss_fn)
        self.has_loss_fn = loss_fn is not None

    def construct(self, *columns):
        if self.has_loss_fn:
            loss = self.loss_fn(self.network(*columns[:-1]), columns[-1])
        else:
            loss = self.network(*columns)
        return loss.astype(ms.float32).reshape(-1).mean()


class UnitWeights(nn.Cell):
    """Weight of each row inside its unit: 1 / real rows of the unit, or 1 for a loss that sums; 0 for a hole.

    Inputs:
        is_real (Tensor): float32 [B].

    Outputs:
        Tensor, float32 [units, B // units].
    """

    def __init__(self, units: int, reduction: str) -> None:
        super().__init__()
        self.split = (units, -1)
        self.sums = reduction == "sum"

    def construct(self, is_real):
        rows = reshape(is_real, self.split)
        if self.sums:
            return rows
        return rows / larger(add_up_keeping_axes(rows, 1), 1.0)


def real_mean(values, is_real):
    """Mean of float32 [B] over the real rows; NaN in a masked row does no harm. 0 for an empty batch."""
    kept = select(is_real > 0, values, zeros_like(values))
    return add_up(kept, ()) / larger(add_up(is_real, ()), 1.0)


def zeros_like_parameters(parameters: Sequence[Parameter]) -> tuple[Tensor, ...]:
    """Float32 zeros of the parameters' shapes."""
    return tuple(initializer("zeros", p.shape, ms.float32).init_data() for p in parameters)
