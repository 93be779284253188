"""Per-row gradients by `vmap`: exact for every network MindSpore can batch, at the price of B copies of them."""
from __future__ import annotations

from typing import Optional

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from mindarmour.privacy.diff_privacy.grads.layers.registry import square_norms
from mindarmour.privacy.diff_privacy.grads.protocol import RowLoss, UnitWeights, loss_reduction, real_mean
from mindarmour.privacy.diff_privacy.grads.rounding import shrink, squares_roundoff
from mindarmour.privacy.diff_privacy.operators import add_up
from mindarmour.utils.mindspore_internals import copy_cell


def _mappable(loss_fn):
    """The loss, with weights of one where it has none and MindSpore's vmap rule wants Tensors."""
    if type(loss_fn) is not nn.BCEWithLogitsLoss:
        return loss_fn
    one = Tensor(np.ones(1, np.float32))
    copied = copy_cell(loss_fn)
    for name in ("weight", "pos_weight"):
        if getattr(copied, name) is None:
            copied.__dict__[name] = one
    return copied


class VmapEngine(nn.Cell):
    """Clipped sum from materialised per-row gradients. See `grads.protocol` for inputs and outputs.

    Memory holds B gradients at once. The graph has the same size for every number of units.

    Args:
        network (Cell): The network; its `trainable_params()` are differentiated.
        loss_fn (Cell, optional): Loss; None if the network returns its loss.
        rule (Cell): Clipping rule.
        units (int): Units per batch.
    """

    compiled = True

    def __init__(self, network: nn.Cell, loss_fn: Optional[nn.Cell], rule: nn.Cell, units: int) -> None:
        super().__init__(auto_prefix=False)
        self.rule = rule
        self.units = units
        self.weights = UnitWeights(units, loss_reduction(loss_fn))
        self.sizes = tuple(parameter.size for parameter in network.trainable_params())
        self.shrink = shrink(squares_roundoff(size) for size in self.sizes)
        gradient = ops.value_and_grad(RowLoss(network, _mappable(loss_fn)), None, tuple(network.trainable_params()))
        self.row_gradients = ops.vmap(gradient, in_axes=0, out_axes=0)

    def construct(self, norm_bound, is_real, *columns):
        rows = ()
        for column in columns:
            rows += (column.expand_dims(1),)
        losses, gradients = self.row_gradients(*rows)
        weights = self.weights(is_real)
        unit_gradients, squares = (), ()
        for g, size in zip(gradients, self.sizes):
            unit = self._unit_gradient(g.astype(ms.float32), weights)
            unit_gradients += (unit,)
            squares += (square_norms(unit, self.units, size),)
        factors, norms = self.rule(squares, norm_bound * self.shrink)
        finite = ops.isfinite(norms)
        totals = ()
        for g, unit, factor in zip(gradients, unit_gradients, factors):
            kept = ops.select(ops.broadcast_to(finite.expand_dims(1), unit.shape), unit, ops.zeros_like(unit))
            totals += (ops.matmul(factor, kept).reshape(g.shape[1:]),)
        bad = add_up(1.0 - finite.astype(ms.float32), ())
        return totals, norms, real_mean(losses, is_real), bad

    def _unit_gradient(self, rows, weights):
        """[B, ...] row gradients to [units, size] unit gradients; rows of weight 0 count as zero even if NaN."""
        rows = rows.reshape(self.units, weights.shape[1], -1)
        weight = ops.broadcast_to(weights.expand_dims(2), rows.shape)
        return add_up(ops.select(weight > 0, rows * weight, ops.zeros_like(rows)), 1)
