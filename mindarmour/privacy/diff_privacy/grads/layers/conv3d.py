"""Three-dimensional convolutions: weight [out, in, kd, kh, kw] and bias [out]."""
import math

from mindspore import nn, ops

from mindarmour.privacy.diff_privacy.grads.layers.conv import PatchGradient
from mindarmour.privacy.diff_privacy.grads.layers.products import SumOverPositions
from mindarmour.privacy.diff_privacy.grads.layers.registry import LayerRule, register_layer
from mindarmour.privacy.diff_privacy.grads.taps import InputAndOutput, OutputOnly


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
        conv, shape = cell.conv3d, cell.weight.shape
        pad = conv.pad if conv.pad_mode.lower() == "pad" else 0
        unfold = ops.Conv3D(math.prod(shape[2:]), conv.kernel_size, 1, conv.pad_mode, pad, conv.stride[2:],
                            conv.dilation[2:])
        return PatchGradient(units, shape, unfold, *shapes)
