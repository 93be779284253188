"""Normalisation layers with a scale gamma and a shift beta. Their statistics belong to one example each."""
import math

import numpy as np
from mindspore import Tensor, nn, ops

from mindarmour.privacy.diff_privacy.grads.layers.products import SumOverPositions
from mindarmour.privacy.diff_privacy.grads.layers.registry import LayerRule, UnitGradient, register_layer
from mindarmour.privacy.diff_privacy.grads.taps import InputAndOutput, OutputOnly
from mindarmour.privacy.diff_privacy.operators import add_up, batched_product, multiply, reshape, when


def _read(cell, make):
    return InputAndOutput(cell, make) if cell.gamma.requires_grad else OutputOnly(cell, make)


class LayerScaleGradient(UnitGradient):
    """Gradient of gamma: sum over positions of the normalised input times the output gradient.

    The layer runs once more with gamma 1 and beta 0; dividing its output by gamma would fail at gamma 0.
    """

    def __init__(self, units, cell, output):
        super().__init__(units, cell.gamma.shape)
        size = math.prod(self.shape)
        self.one, self.zero = Tensor(np.ones(self.shape, np.float32)), Tensor(np.zeros(self.shape, np.float32))
        self.normalise = ops.LayerNorm(cell.begin_norm_axis, cell.begin_params_axis, cell.epsilon)
        self.split = (units, math.prod(output) // (units * size), size)

    def construct(self, x, dy):
        normalised, _, _ = self.normalise(when(x, dy), self.one, self.zero)
        return add_up(reshape(multiply(normalised, dy), self.split), 1)


@register_layer(nn.LayerNorm)
class LayerNormRule(LayerRule):
    """`nn.LayerNorm`."""

    parameter_names = ("gamma", "beta")

    @classmethod
    def refusal(cls, cell):
        if cell.begin_norm_axis == 0:
            return "with begin_norm_axis 0 it normalises over the batch."
        return None

    @classmethod
    def tapped(cls, cell, make):
        return _read(cell, make)

    @classmethod
    def gradient(cls, name, cell, shapes, units):
        if name == "gamma":
            return LayerScaleGradient(units, cell, shapes[-1])
        size = math.prod(cell.beta.shape)
        return SumOverPositions(units, cell.beta.shape, (math.prod(shapes[-1]) // size, size))


class GroupScaleGradient(UnitGradient):
    """Gradient of gamma of a group normalisation, like `LayerScaleGradient`."""

    def __init__(self, units, cell, output):
        super().__init__(units, cell.gamma.shape)
        self.one, self.zero = Tensor(np.ones(self.shape, np.float32)), Tensor(np.zeros(self.shape, np.float32))
        self.groups, self.eps = cell.num_groups, cell.eps
        self.planes = (output[0] * output[1], 1, math.prod(output[2:]))
        self.split = (units, output[0] // units, output[1])

    def construct(self, x, dy):
        normalised = ops.group_norm(when(x, dy), self.groups, self.one, self.zero, self.eps)
        # dot products, which need no room for the products themselves
        similar = batched_product(reshape(normalised, self.planes), reshape(dy, self.planes))
        return add_up(reshape(similar, self.split), 1)


@register_layer(nn.GroupNorm)
class GroupNormRule(LayerRule):
    """`nn.GroupNorm`."""

    parameter_names = ("gamma", "beta")

    @classmethod
    def tapped(cls, cell, make):
        return _read(cell, make)

    @classmethod
    def gradient(cls, name, cell, shapes, units):
        if name == "gamma":
            return GroupScaleGradient(units, cell, shapes[-1])
        return SumOverPositions(units, cell.beta.shape, shapes[-1], axis=1)
