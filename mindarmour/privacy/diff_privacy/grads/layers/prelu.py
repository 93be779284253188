"""PReLU: one slope for all channels, or one for each."""
import math

from mindspore import nn, ops

from mindarmour.privacy.diff_privacy.grads.layers.registry import LayerRule, UnitGradient, register_layer
from mindarmour.privacy.diff_privacy.operators import add_up, reshape


class SlopeGradient(UnitGradient):
    """Gradient of the slope: sum of min(x, 0) times the output gradient, per channel (axis 1) or over everything."""

    def __init__(self, units, shape, output):
        super().__init__(units, shape)
        channels = output[1] if shape[0] > 1 else 1
        rows = output[0] // units
        self.split = (units, rows, channels, math.prod(output[1:]) // channels)

    def construct(self, x, dy):
        return add_up(reshape(ops.minimum(x, 0.0) * dy, self.split), (1, 3))


@register_layer(nn.PReLU)
class PReLURule(LayerRule):
    """`nn.PReLU`."""

    parameter_names = ("w",)

    @classmethod
    def gradient(cls, name, cell, shapes, units):
        return SlopeGradient(units, cell.w.shape, shapes[-1])
