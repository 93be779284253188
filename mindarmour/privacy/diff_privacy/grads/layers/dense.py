"""Fully connected layers: weight [out, in] and bias [out]."""
import math

from mindspore import mint, nn

from mindarmour.privacy.diff_privacy.grads.layers.products import SumOverPositions, product_gradient
from mindarmour.privacy.diff_privacy.grads.layers.registry import LayerRule, register_layer
from mindarmour.privacy.diff_privacy.grads.taps import OutputOnly, TappedCell
from mindarmour.utils.mindspore_internals import copy_cell


class _WithoutActivation(TappedCell):
    """A Dense cell read before its built-in activation."""

    def __init__(self, cell, make):
        inner = copy_cell(cell)
        inner.__dict__["activation_flag"] = False
        super().__init__(inner)
        self.read = LinearRule.tapped(inner, make)
        self.after = cell.activation

    def construct(self, x):
        return self.after(self.read(x))


@register_layer(mint.nn.Linear)
class LinearRule(LayerRule):
    """`mint.nn.Linear` on inputs of any rank: axes between the batch and the features are positions."""

    @classmethod
    def tapped(cls, cell, make):
        """A frozen weight does not need the input."""
        return super().tapped(cell, make) if cell.weight.requires_grad else OutputOnly(cell, make)

    @classmethod
    def gradient(cls, name, cell, shapes, units):
        if name == "bias":
            return SumOverPositions(units, cell.bias.shape, shapes[-1])
        outputs, inputs = cell.weight.shape
        positions = math.prod(shapes[-1]) // (units * outputs)
        return product_gradient(units, positions, inputs, outputs, cell.weight.shape)


@register_layer(nn.Dense)
class DenseRule(LinearRule):
    """`nn.Dense`, with its activation or without."""

    @classmethod
    def tapped(cls, cell, make):
        if cell.activation_flag:
            return _WithoutActivation(cell, make)
        return super().tapped(cell, make)
