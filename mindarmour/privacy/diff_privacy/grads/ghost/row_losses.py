"""One loss per row out of one batched forward pass.

The loss of a row is what the loss function says about that row alone. A loss cell that averages over the batch
cannot be asked that directly; one of three ways is taken, in this order: leave the reduction out (where the cell is
known to be the same per row), map the loss function over rows, or, for a network that returns its own scalar loss,
scale the gradients afterwards.
"""
import mindspore as ms
from mindspore import nn, ops

from mindarmour.privacy.diff_privacy.grads.class_loss import BY_CLASS, ClassLoss, inherits_construct
from mindarmour.privacy.diff_privacy.grads.protocol import loss_reduction
from mindarmour.privacy.diff_privacy.operators import (
    add_up,
    average,
    cast,
    greater,
    larger,
    multiply,
    reshape,
    select,
    zeros_like,
)
from mindarmour.utils.mindspore_internals import copy_cell

# Their unreduced values are exactly what they return for the rows one by one. Mapping works too, but MindSpore unrolls
# the gradient of some mapped operators over the rows, and then compiles for minutes at a batch of hundreds.
_ROWWISE = (nn.SoftmaxCrossEntropyWithLogits, nn.MSELoss, nn.L1Loss, nn.BCEWithLogitsLoss, nn.BCELoss, nn.KLDivLoss)


class UnreducedLoss(nn.Cell):
    """Loss of each row from a loss cell of `_ROWWISE`."""

    def __init__(self, loss_fn):
        super().__init__(auto_prefix=False)
        # 'batchmean' divides by the rows, of which there is one
        self.sums = loss_reduction(loss_fn) == "sum" or getattr(loss_fn, "reduction", None) == "batchmean"
        self.loss_fn = copy_cell(loss_fn)
        self.loss_fn.__dict__.update(reduce=False, reduction="none")

    def construct(self, output, label):
        values = self.loss_fn(cast(output, ms.float32), label)
        values = reshape(values, (values.shape[0], -1))
        return add_up(values, 1) if self.sums else average(values, 1)


class _OneRow(nn.Cell):
    def __init__(self, loss_fn):
        super().__init__(auto_prefix=False)
        self.loss_fn = loss_fn

    def construct(self, output, label):
        return self.loss_fn(output, label).reshape(-1).mean()


class MappedLoss(nn.Cell):
    """Loss of each row by mapping any loss function over rows of one."""

    def __init__(self, loss_fn):
        super().__init__(auto_prefix=False)
        self.rows = ops.vmap(_OneRow(loss_fn), in_axes=0, out_axes=0)

    def construct(self, output, label):
        return self.rows(output.expand_dims(1), label.expand_dims(1))


class _WeightGradient(nn.Cell):
    """Pass `output` on; multiply the gradient of each of its rows by the row's weight."""

    def construct(self, output, weights):
        return output

    def bprop(self, output, weights, out, dout):
        shape = (weights.shape[0],) + (1,) * (dout.ndim - 1)
        return dout * cast(reshape(weights, shape), dout.dtype), zeros_like(weights)


class BatchLoss(nn.Cell):
    """Total loss where only the whole batch can be asked, for a loss that averages or sums over rows.

    Rows of weight 0 are shown to the loss as zeros; what they add to it is the same for each, and taken off again.
    """

    def __init__(self, loss_fn, rows):
        super().__init__(auto_prefix=False)
        self.loss_fn = loss_fn
        self.scale = 1.0 if loss_reduction(loss_fn) == "sum" else float(rows)
        self.weigh = _WeightGradient()

    def construct(self, weights, output, label):
        present = greater(weights, 0.0)
        output, label = self.weigh(_zero_rows(present, output), weights), _zero_rows(present, label)
        whole = self._mean(output, label) * self.scale
        absent = self._mean(zeros_like(output[:1]), zeros_like(label[:1]))
        real = add_up(cast(present, ms.float32), ())
        mean = (whole - (weights.shape[0] - real) * ops.stop_gradient(absent)) / larger(real, 1.0)
        return whole, ops.broadcast_to(reshape(mean, (1,)), weights.shape)

    def _mean(self, output, label):
        return average(cast(self.loss_fn(output, label), ms.float32), ())


def _zero_rows(present, column):
    shape = (column.shape[0],) + (1,) * (column.ndim - 1)
    return select(reshape(present, shape), column, zeros_like(column))


def per_row(loss_fn, output, label):
    """A cell (output, label) -> losses [B] that is this loss row by row, or None if there is no such way.

    Args:
        loss_fn (Cell): The loss.
        output (Tensor): Output of the network for a few rows, to try it with; call this eagerly.
        label (Tensor): Their labels.
    """
    if isinstance(loss_fn, ClassLoss):
        return loss_fn
    if inherits_construct(loss_fn, _ROWWISE):
        return UnreducedLoss(loss_fn)
    if inherits_construct(loss_fn, BY_CLASS):
        return ClassLoss(loss_fn)
    if not isinstance(output, ms.Tensor):
        return None
    mapped = MappedLoss(loss_fn)
    try:
        ops.grad(mapped)(output, label).asnumpy()
    except (RuntimeError, ValueError, TypeError, NotImplementedError, AttributeError):
        return None  # an operator without a vmap rule
    return mapped


class WeightedLoss(nn.Cell):
    """Weighted sum of the rows' losses, and the losses.

    Args:
        network (Cell): The network, tapped.
        loss_fn (Cell): The loss.
        row_loss (Cell, optional): What `per_row` gave.
        rows (int): Rows of the batch.
    """

    def __init__(self, network, loss_fn, row_loss, rows):
        super().__init__(auto_prefix=False)
        self.network = network
        self.by_row = row_loss is not None
        self.row_loss = row_loss or BatchLoss(loss_fn, rows)

    def construct(self, weights, *columns):
        output = self.network(*columns[:-1])
        if self.by_row:
            return _weighted(weights, cast(self.row_loss(output, columns[-1]), ms.float32))
        return self.row_loss(weights, output, columns[-1])


class OwnLoss(nn.Cell):
    """The same for a network that returns its loss.

    Args:
        network (Cell): The network, tapped.
        scale (float, optional): If it returns one number: what makes it the sum over rows (the number of rows if it
            averages, 1 if it sums). The rows' weights then have to be applied elsewhere.
    """

    def __init__(self, network, scale=None):
        super().__init__(auto_prefix=False)
        self.network = network
        self.scale = scale

    def construct(self, weights, *columns):
        losses = cast(self.network(*columns), ms.float32)
        if self.scale is not None:
            return reshape(losses, ()) * self.scale, ops.broadcast_to(reshape(losses, (1,)), weights.shape)
        return _weighted(weights, average(reshape(losses, (weights.shape[0], -1)), 1))


def _weighted(weights, losses):
    # a row of weight 0 is left out, not multiplied by 0: its loss may be NaN
    kept = select(greater(weights, 0.0), multiply(losses, weights), zeros_like(losses))
    return add_up(kept, ()), losses
