"""One loss per row out of one batched forward pass.

The loss of a row is what the loss function says about that row alone. A loss cell that averages over the batch
cannot be asked that directly; one of three ways is taken, in this order: leave the reduction out (where the cell is
known to be the same per row), map the loss function over rows, or, for a network that returns its own scalar loss,
scale the gradients afterwards.
"""
import mindspore as ms
from mindspore import nn, ops

from mindarmour.privacy.diff_privacy.grads.engine import loss_reduction
from mindarmour.privacy.diff_privacy.grads.taps import shell

# their unreduced values are exactly what they return for the rows one by one
_ROWWISE = (nn.SoftmaxCrossEntropyWithLogits, nn.MSELoss, nn.L1Loss)


class UnreducedLoss(nn.Cell):
    """Loss of each row from a loss cell of `_ROWWISE`."""

    def __init__(self, loss_fn):
        super().__init__(auto_prefix=False)
        self.sums = loss_reduction(loss_fn) == "sum"
        self.loss_fn = shell(loss_fn)
        self.loss_fn.__dict__.update(reduce=False, reduction="none")

    def construct(self, output, label):
        values = self.loss_fn(output, label)
        values = values.reshape(values.shape[0], -1)
        return values.sum(axis=1) if self.sums else values.mean(axis=1)


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


def per_row(loss_fn):
    """The loss function as a cell that returns one loss per row."""
    return UnreducedLoss(loss_fn) if type(loss_fn) in _ROWWISE else MappedLoss(loss_fn)


class WeightedLoss(nn.Cell):
    """Weighted sum of the rows' losses, and the losses.

    Args:
        network (Cell): The network, tapped.
        loss_fn (Cell, optional): Loss; None if the network returns its loss.
        scale (float, optional): For a network that returns one scalar loss: what makes it the sum over rows
            (the number of rows if it averages, 1 if it sums). Row weights then have to be applied elsewhere.
    """

    def __init__(self, network, loss_fn, scale=None):
        super().__init__(auto_prefix=False)
        self.network = network
        self.has_loss_fn = loss_fn is not None
        self.loss_fn = per_row(loss_fn) if self.has_loss_fn else None
        self.scale = scale

    def construct(self, weights, *columns):
        if self.has_loss_fn:
            losses = self.loss_fn(self.network(*columns[:-1]), columns[-1]).astype(ms.float32)
        else:
            losses = self.network(*columns).astype(ms.float32)
            if self.scale is not None:
                return losses.reshape(()) * self.scale, ops.broadcast_to(losses.reshape(1), weights.shape)
            losses = losses.reshape(weights.shape[0], -1).mean(axis=1)
        # a row of weight 0 is left out, not multiplied by 0: its loss may be NaN
        kept = ops.select(weights > 0, losses * weights, ops.zeros_like(losses))
        return kept.sum(), losses
