"""Three-dimensional convolutions: weight [out, in, kd, kh, kw] and bias [out]."""
import math

import numpy as np
from mindspore import Tensor, nn, ops

from mindarmour.privacy.diff_privacy.grads.layers.products import SumOverPositions, product_gradient
from mindarmour.privacy.diff_privacy.grads.layers.registry import LayerRule, OfChangedTaps, register_layer
from mindarmour.privacy.diff_privacy.grads.taps import InputAndOutput, OutputOnly
from mindarmour.privacy.diff_privacy.primitives import reshape, when

_transpose = ops.Transpose()


class VolumePatchGradient(OfChangedTaps):
    """Patches unfolded by a one-hot convolution, then the product form of a dense layer."""

    def __init__(self, units, shape, conv, volume, output):
        rows, channels = volume[:2]
        taps, positions = math.prod(shape[2:]), math.prod(output[2:])
        super().__init__(product_gradient(units, rows // units * positions, channels * taps, output[1], shape))
        self.kernel = Tensor(np.eye(taps, dtype=np.float32).reshape(taps, 1, *shape[2:]))
        pad = conv.pad if conv.pad_mode.lower() == "pad" else 0
        self.unfold = ops.Conv3D(taps, conv.kernel_size, 1, conv.pad_mode, pad, conv.stride[2:], conv.dilation[2:])
        self.volumes = (rows * channels, 1, *volume[2:])
        self.patches, self.columns = (rows, channels * taps, positions), (rows, output[1], positions)

    def hold(self, volume, gradient):
        patches = reshape(self.unfold(reshape(when(volume, gradient), self.volumes), self.kernel), self.patches)
        gradient = reshape(gradient, self.columns)
        return self.gradient.hold(_transpose(patches, (0, 2, 1)), _transpose(gradient, (0, 2, 1)))


@register_layer(nn.Conv3d)
class Conv3dRule(LayerRule):
    """`nn.Conv3d` without groups."""

    @classmethod
    def refusal(cls, cell):
        return "a 3-D convolution with groups has no rule." if cell.group > 1 else None

    @classmethod
    def tapped(cls, cell, make):
        return InputAndOutput(cell, make) if cell.weight.requires_grad else OutputOnly(cell, make)

    @classmethod
    def gradient(cls, name, cell, shapes, units):
        if name == "bias":
            return SumOverPositions(units, cell.bias.shape, shapes[-1], axis=1)
        return VolumePatchGradient(units, cell.weight.shape, cell.conv3d, *shapes)
