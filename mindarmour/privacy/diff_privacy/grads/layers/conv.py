"""Convolutions in one and two dimensions and their transposes: weight [out, in / group, kh, kw] and bias [out].

The gradient of a convolution's weight is a correlation of input and output gradient. For many units at once it is
one grouped weight gradient with the units as groups: as fast on a CPU as the plain weight gradient, and it needs no
unfolded patches. Where that is not to be had (Ascend groups only depthwise) or where every unit's weight gradient
is much larger than its patches, patches are unfolded by a convolution with a constant one-hot kernel.
"""
import math

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from mindarmour.privacy.diff_privacy.grads.layers.products import (
    FLOPS_PER_FLOAT,
    SumOverPositions,
    product_gradient,
)
from mindarmour.privacy.diff_privacy.grads.layers.registry import (
    LayerRule,
    OfChangedTaps,
    UnitGradient,
    register_layer,
)
from mindarmour.privacy.diff_privacy.grads.taps import InputAndOutput, OutputOnly
from mindarmour.privacy.diff_privacy.operators import reshape, when
from mindarmour.utils.mindspore_internals import WeightGradientOfConv2d

_transpose = ops.Transpose()
_expand = ops.ExpandDims()


def cheapest_form(positions, patch, outputs, group, device_target):
    """'grouped' (materialise by one grouped weight gradient) or 'patches' (unfold, then like a dense layer).

    Patches win where the weight is large and the image small: unfolding touches positions * patch floats and the
    Gram form positions^2, against three passes over patch * outputs.
    """
    if group > 1:
        return "grouped"
    if device_target != "CPU":
        return "patches"
    gram = 2 * positions ** 2 * (patch + outputs)
    gram += FLOPS_PER_FLOAT * positions * (3 * positions + 6 * patch + 3 * outputs)
    full = FLOPS_PER_FLOAT * 3 * patch * outputs
    return "patches" if gram < full else "grouped"


def _pad_mode(conv):
    return conv.pad_mode.lower()  # the operator of a transposed convolution says 'SAME', which Conv2D does not take


def _padding(conv):
    return tuple(conv.pad) if _pad_mode(conv) == "pad" else (0, 0, 0, 0)


class GroupedWeightGradient(UnitGradient):
    """Materialised weight gradients of all units by one grouped weight gradient.

    Args:
        units (int): Units.
        shape (tuple): Weight, [out, in / group, kh, kw].
        conv (Primitive): The layer's convolution, for its geometry.
        image (tuple): Shape of the image [rows, C, H, W].
        output (tuple): Shape of the convolution's output [rows, O, h, w].
    """

    def __init__(self, units, shape, conv, image, output):
        super().__init__(units, shape)
        self.filter_sizes = (units * shape[0], *shape[1:])
        self.per_unit = image[0] // units
        self.correlate = WeightGradientOfConv2d(
            self.filter_sizes[0], conv.kernel_size, _pad_mode(conv), _padding(conv), _padding(conv), mode=conv.mode,
            stride=conv.stride, dilation=conv.dilation, group=units * conv.group)

    def construct(self, image, gradient):
        image = _units_as_channels(image, self.units, self.per_unit)
        gradient = _units_as_channels(gradient, self.units, self.per_unit)
        return self.correlate(gradient, image, self.filter_sizes)


def _units_as_channels(x, units, per_unit):
    """[units * m, C, H, W] to [m, units * C, H, W]."""
    _, channels, height, width = x.shape
    if per_unit > 1:
        x = _transpose(reshape(x, (units, per_unit, channels, height, width)), (1, 0, 2, 3, 4))
    return reshape(x, (per_unit, units * channels, height, width))


class PatchGradient(OfChangedTaps):
    """Patches unfolded by a one-hot convolution, then the product form of a dense layer; in any dimensions.

    Args: as of `GroupedWeightGradient`, but for
        unfold (Primitive): A convolution of the layer's geometry from one channel to one per place of the kernel.
    """

    def __init__(self, units, shape, unfold, image, output):
        rows, channels = image[:2]
        taps, positions = math.prod(shape[2:]), math.prod(output[2:])
        super().__init__(product_gradient(units, rows // units * positions, channels * taps, output[1], shape))
        self.kernel = Tensor(np.eye(taps, dtype=np.float32).reshape(taps, 1, *shape[2:]))
        self.unfold = unfold
        self.planes = (rows * channels, 1, *image[2:])
        self.patches, self.columns = (rows, channels * taps, positions), (rows, output[1], positions)

    def hold(self, image, gradient):
        patches = reshape(self.unfold(reshape(when(image, gradient), self.planes), self.kernel), self.patches)
        gradient = reshape(gradient, self.columns)
        return self.gradient.hold(_transpose(patches, (0, 2, 1)), _transpose(gradient, (0, 2, 1)))


class _Planar(OfChangedTaps):
    """Adds the axis that a 1-D convolution runs with: [N, C, L] taps to [N, C, 1, L]."""

    def hold(self, a, b):
        return self.gradient.hold(_expand(a, 2), _expand(b, 2))


class _Reversed(OfChangedTaps):
    """For a transposed convolution: its output is the image, its input the convolution's output."""

    def hold(self, a, b):
        return self.gradient.hold(b, a)


def weight_gradient(units, shape, conv, image, output, form=None):
    """The `UnitGradient` of a convolution's weight in the cheapest form. Arguments as of `GroupedWeightGradient`."""
    positions = output[0] // units * math.prod(output[2:])
    form = form or cheapest_form(positions, math.prod(shape[1:]), shape[0], conv.group,
                                 ms.get_context("device_target"))
    if form == "grouped":
        return GroupedWeightGradient(units, tuple(shape), conv, image, output)
    unfold = ops.Conv2D(math.prod(shape[2:]), conv.kernel_size, conv.mode, _pad_mode(conv), _padding(conv), conv.stride,
                        conv.dilation)
    return PatchGradient(units, tuple(shape), unfold, image, output)


@register_layer(nn.Conv2d)
class Conv2dRule(LayerRule):
    """`nn.Conv2d` with any stride, padding, dilation and group."""

    @classmethod
    def tapped(cls, cell, make):
        return InputAndOutput(cell, make) if cell.weight.requires_grad else OutputOnly(cell, make)

    @classmethod
    def gradient(cls, name, cell, shapes, units):
        if name == "bias":
            return SumOverPositions(units, cell.bias.shape, shapes[-1], axis=1)
        return cls.weight_gradient(cell, shapes, units)

    @classmethod
    def weight_gradient(cls, cell, shapes, units):
        """The weight's `UnitGradient`."""
        return weight_gradient(units, cell.weight.shape, cell.conv2d, *shapes)


@register_layer(nn.Conv1d)
class Conv1dRule(Conv2dRule):
    """`nn.Conv1d`, which MindSpore runs as a 2-D convolution of height 1."""

    @classmethod
    def weight_gradient(cls, cell, shapes, units):
        image, output = ((*shape[:2], 1, shape[2]) for shape in shapes)
        return _Planar(weight_gradient(units, cell.weight.shape, cell.conv2d, image, output))


@register_layer(nn.Conv2dTranspose)
class Conv2dTransposeRule(Conv2dRule):
    """`nn.Conv2dTranspose`, weight [in, out / group, kh, kw]."""

    @classmethod
    def refusal(cls, cell):
        if cell.output_padding not in (0, (0, 0)):
            return "a transposed convolution with output_padding is read after the padding."
        return None

    @classmethod
    def weight_gradient(cls, cell, shapes, units):
        image, output = reversed(shapes)
        return _Reversed(weight_gradient(units, cell.weight.shape, cell.conv2d_transpose, image, output))
