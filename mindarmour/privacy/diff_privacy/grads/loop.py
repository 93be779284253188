"""The plain loop over rows and units: slow, obvious, and the oracle that every other engine must equal.

One compiled gradient of one row serves the whole batch, so the graph does not grow with the number of units.
"""
from __future__ import annotations

from typing import Optional

import mindspore as ms
from mindspore import Tensor, nn, ops

from mindarmour.privacy.diff_privacy.grads.layers.registry import square_norms
from mindarmour.privacy.diff_privacy.grads.protocol import RowLoss, UnitWeights, loss_reduction, zeros_like_parameters
from mindarmour.privacy.diff_privacy.grads.rounding import shrink, squares_roundoff


class _RowGradient(nn.Cell):
    """Loss and gradient of one row."""

    def __init__(self, network, loss_fn):
        super().__init__(auto_prefix=False)
        self.loss = RowLoss(network, loss_fn)
        self.gradient = ops.value_and_grad(self.loss, None, tuple(network.trainable_params()))

    def construct(self, *columns):
        return self.gradient(*columns)


class _ClipAndAdd(nn.Cell):
    """Clip one unit's gradient and add it to the running totals."""

    def __init__(self, rule, parameters):
        super().__init__()
        self.rule = rule
        self.sizes = tuple(parameter.size for parameter in parameters)
        self.shrink = shrink(squares_roundoff(size) for size in self.sizes)

    def construct(self, norm_bound, totals, gradient):
        squares = ()
        for g, size in zip(gradient, self.sizes):
            squares += (square_norms(g, 1, size),)
        factors, norms = self.rule(squares, norm_bound * self.shrink)
        finite = ops.isfinite(norms[0])
        added = ()
        for total, g, factor in zip(totals, gradient, factors):
            added += (total + ops.select(finite, g * factor[0], ops.zeros_like(g)),)
        return added, norms[0]


class LoopEngine(nn.Cell):
    """Clipped sum by a Python loop over rows. See `grads.protocol` for inputs and outputs.

    Args:
        network (Cell): The network; its `trainable_params()` are differentiated.
        loss_fn (Cell, optional): Loss; None if the network returns its loss.
        rule (Cell): Clipping rule.
        units (int): Units per batch.
    """

    compiled = False  # a host loop: the train step calls it between compiled parts

    def __init__(self, network: nn.Cell, loss_fn: Optional[nn.Cell], rule: nn.Cell, units: int) -> None:
        super().__init__(auto_prefix=False)
        self.parameters = tuple(network.trainable_params())
        self.row_gradient = _RowGradient(network, loss_fn)
        self.clip_and_add = _ClipAndAdd(rule, self.parameters)
        self.shrink = self.clip_and_add.shrink
        self.weights = UnitWeights(units, loss_reduction(loss_fn))

    def __call__(self, norm_bound, is_real, *columns):
        weights = self.weights(is_real).asnumpy()
        totals = zeros_like_parameters(self.parameters)
        norms, losses, bad = [], [], 0
        row = 0
        for unit in weights:
            gradient = zeros_like_parameters(self.parameters)
            for weight in unit:
                if weight > 0:
                    loss, row_gradient = self.row_gradient(*(column[row:row + 1] for column in columns))
                    losses.append(float(loss))
                    gradient = tuple(g + float(weight) * r.astype(ms.float32) for g, r in zip(gradient, row_gradient))
                row += 1
            totals, norm = self.clip_and_add(norm_bound, ms.mutable(totals), ms.mutable(gradient))
            norms.append(norm)
            bad += int(not ops.isfinite(norm))
        return totals, ops.stack(norms), Tensor(sum(losses) / max(len(losses), 1), ms.float32), Tensor(bad, ms.float32)
