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
from mindspore.ops.operations._grad_ops import Conv2DBackpropFilter

from mindarmour.privacy.diff_privacy.grads.layers.dense import FLOPS_PER_FLOAT, ProductGradient
from mindarmour.privacy.diff_privacy.grads.layers.registry import (
    LayerRule,
    register_layer,
    square_norms,
    weighted_sum,
)
from mindarmour.privacy.diff_privacy.grads.taps import OutputOnly


def cheapest_form(positions, patch, outputs, group, device_target="CPU"):
    """'grouped' (materialise by a grouped weight gradient), 'patches' (unfold, then as a dense layer with
    `positions`) or, on Ascend, 'patches' always.

    Patches win when the weight is large and the image small: unfolding touches positions * patch floats and the
    Gram form positions^2, against three passes over patch * outputs.
    """
    if group > 1:
        return "grouped"
    if device_target != "CPU":
        return "patches"
    gram = 2 * positions ** 2 * (patch + outputs) + FLOPS_PER_FLOAT * positions * (4 * patch + 2 * outputs)
    full = FLOPS_PER_FLOAT * 3 * patch * outputs
    return "patches" if gram < full else "grouped"


class GroupedWeightGradient(nn.Cell):
    """Materialised weight gradients of all units by one grouped weight gradient.

    Args:
        conv (Primitive): The layer's Conv2D primitive, for its geometry.
        weight_shape (tuple): [out, in / group, kh, kw].
        units (int): Units.
    """

    def __init__(self, conv, weight_shape, units):
        super().__init__(auto_prefix=False)
        self.units = units
        self.filter_sizes = (units * weight_shape[0], *weight_shape[1:])
        pads = conv.pad if conv.pad_mode == "pad" else 0
        self.gradient = Conv2DBackpropFilter(
            self.filter_sizes[0], conv.kernel_size, conv.pad_mode, pads, mode=conv.mode, stride=conv.stride,
            dilation=conv.dilation, group=units * conv.group)

    def construct(self, x, dy):
        """x [rows, C, H, W], dy [rows, O, h, w] to [units, O * C / group * kh * kw]."""
        return self.gradient(self._units_as_channels(dy), self._units_as_channels(x),
                             self.filter_sizes).reshape(self.units, -1)

    def _units_as_channels(self, x):
        rows, channels, height, width = x.shape
        per_unit = rows // self.units
        if per_unit > 1:
            x = x.reshape(self.units, per_unit, channels, height, width).transpose(1, 0, 2, 3, 4)
        return x.reshape(per_unit, self.units * channels, height, width)


class Patches(nn.Cell):
    """Unfold x [rows, C, H, W] to [rows, positions, C * kh * kw], as the convolution `conv` sees it."""

    def __init__(self, conv, channels):
        super().__init__(auto_prefix=False)
        height, width = conv.kernel_size
        self.channels = channels
        self.patch = channels * height * width
        kernel = np.eye(height * width, dtype=np.float32).reshape(-1, 1, height, width)
        self.kernel = Tensor(kernel)
        self.unfold = ops.Conv2D(height * width, conv.kernel_size, conv.mode, conv.pad_mode,
                                 conv.pad if conv.pad_mode == "pad" else 0, conv.stride, conv.dilation)

    def construct(self, x):
        rows, _, height, width = x.shape
        unfolded = self.unfold(x.reshape(rows * self.channels, 1, height, width), self.kernel)
        return unfolded.reshape(rows, self.patch, -1).transpose(0, 2, 1)


class _ImageRule(LayerRule):
    """What the convolutions share: form by shape, bias from sums over positions.

    Subclasses say which tap plays the image and which the output gradient of the underlying convolution.
    """

    def __init__(self, cell, shapes, units, form=None):
        super().__init__(cell, shapes, units)
        self.has_weight = cell.weight.requires_grad
        self.has_bias = cell.bias is not None and cell.bias.requires_grad
        self.out_channels = shapes[-1][1]
        if self.has_weight:
            self._choose(cell, shapes, form)

    def _choose(self, cell, shapes, form):
        conv = self.primitive(cell)
        outputs, patch = cell.weight.shape[0], math.prod(cell.weight.shape[1:])
        small = self.ordered(*shapes)[1]
        positions = small[0] // self.units * math.prod(small[2:])
        target = ms.get_context("device_target")
        self.form = form or cheapest_form(positions, patch, outputs, conv.group, target)
        if self.form == "grouped":
            self.weights = GroupedWeightGradient(conv, cell.weight.shape, self.units)
        else:
            self.patches = Patches(conv, cell.weight.shape[1])
            self.weights = ProductGradient(self.units, positions, patch, outputs)

    @staticmethod
    def primitive(cell):
        """The Conv2D-like primitive that holds the geometry."""
        return cell.conv2d

    @staticmethod
    def ordered(a, b):
        """(image, gradient at the convolution's output) out of (input, output gradient) of the layer."""
        return a, b

    @classmethod
    def tapped(cls, cell, make):
        return super().tapped(cell, make) if cell.weight.requires_grad else OutputOnly(cell, make)

    def hold(self, *taps):
        held = ()
        if self.has_weight:
            held += (self._hold_weight(*self.ordered(*taps)),)
        if self.has_bias:
            held += (taps[-1].reshape(self.units, -1, self.out_channels,
                                      math.prod(taps[-1].shape[2:])).sum(axis=(1, 3)),)
        return held

    def _hold_weight(self, image, gradient):
        image, gradient = _as_2d(image), _as_2d(gradient)
        if self.form == "grouped":
            return (self.weights(image, gradient),)
        channels = gradient.shape[1]
        rows = gradient.reshape(gradient.shape[0], channels, -1).transpose(0, 2, 1)
        patches = self.patches(image)
        return self.weights.hold(patches.reshape(self.units, -1, patches.shape[-1]),
                                 rows.reshape(self.units, -1, channels))

    def squares(self, held):
        results = ()
        if self.has_weight:
            results += (square_norms(held[0][0]) if self.form == "grouped" else self.weights.squares(held[0]),)
        if self.has_bias:
            results += (square_norms(held[-1]),)
        return results

    def totals(self, held, factors, finite):
        results = ()
        if self.has_weight:
            if self.form == "grouped":
                total = weighted_sum(held[0][0], factors[0], finite)
            else:
                total = self.weights.total(held[0], factors[0], finite)
            results += (total.reshape(self.shapes_of_served[0]),)
        if self.has_bias:
            results += (weighted_sum(held[-1], factors[-1], finite),)
        return results


def _as_2d(x):
    """[N, C, L] to [N, C, 1, L]; images stay."""
    return x.expand_dims(2) if x.ndim == 3 else x


@register_layer(nn.Conv1d, nn.Conv2d)
class ConvRule(_ImageRule):
    """`nn.Conv1d` and `nn.Conv2d` with any stride, padding, dilation and group."""


@register_layer(nn.Conv2dTranspose)
class ConvTransposeRule(_ImageRule):
    """`nn.Conv2dTranspose`: the convolution whose image is this layer's output, and whose output is its input."""

    @classmethod
    def refusal(cls, cell):
        if cell.output_padding not in (0, (0, 0)):
            return "a transposed convolution with output_padding is read after the padding."
        return None

    @staticmethod
    def primitive(cell):
        return cell.conv2d_transpose

    @staticmethod
    def ordered(a, b):
        return b, a

    @classmethod
    def tapped(cls, cell, make):
        return LayerRule.tapped.__func__(cls, cell, make)
