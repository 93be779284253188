"""A fixed factor on the loss, for mixed precision: set before the backward pass, undone before anything is clipped."""
from typing import Optional

from mindspore import nn

from mindarmour.privacy.diff_privacy.grads.class_loss import class_weights_kept
from mindarmour.privacy.diff_privacy.operators import for_each, multiply, partial
from mindarmour.utils import LogUtil

LOGGER = LogUtil.get_instance()
TAG = "DPModel"
# Largest loss scale kept where the manager would move it: moving it would react to single examples.
_HELD_LOSS_SCALE = 1024.0


class Clip(nn.Cell):
    """The engine at the current bound. A loss scale is undone here: clipping at C s of s g is s times clipping g."""

    def __init__(self, engine, norm_bound, loss_scale):
        super().__init__(auto_prefix=False)
        self.engine = engine
        self.norm_bound = norm_bound
        self.loss_scale = float(loss_scale)

    def construct(self, is_real, *columns):
        totals, norms, loss, bad = self.engine(self.norm_bound * self.loss_scale, is_real, *columns)
        if self.loss_scale != 1.0:
            totals = for_each(partial(multiply, 1.0 / self.loss_scale), totals)
            norms = norms / self.loss_scale
            loss = loss / self.loss_scale
        return totals, norms, loss, bad


class _ScaledLoss(nn.Cell):
    """A loss times a constant, with the reduction of the loss."""

    def __init__(self, loss, reduction, scale):
        super().__init__(auto_prefix=False)
        self.loss = loss
        self.reduction = reduction
        self.scale = scale

    def construct(self, *arguments):
        return self.loss(*arguments) * self.scale


def scaled(network: nn.Cell, loss_fn: Optional[nn.Cell], reduction: str,
           loss_scale: float) -> tuple[nn.Cell, Optional[nn.Cell]]:
    """(network, loss_fn) with the loss multiplied by `loss_scale`."""
    if loss_scale == 1.0:
        return network, loss_fn
    if loss_fn is None:
        return _ScaledLoss(network, reduction, loss_scale), None
    return network, _ScaledLoss(class_weights_kept(loss_fn), reduction, loss_scale)


def fixed_loss_scale(manager: Optional[object]) -> float:
    """The factor on the loss. A moving scale is held: moving it would depend on single examples, unprotected."""
    if manager is None:
        return 1.0
    scale = float(manager.get_loss_scale())
    if manager.get_update_cell() is None:
        return scale
    held = min(scale, _HELD_LOSS_SCALE)
    LOGGER.warn(TAG, "The loss scale is held at %g: adapting it would react to single examples without noise.",
                held)
    return held
