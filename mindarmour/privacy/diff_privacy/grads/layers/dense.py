"""Fully connected layers: weight [out, in] and bias [out]."""
import math

from mindspore import nn, ops

from mindarmour.privacy.diff_privacy.grads.layers.registry import (
    LayerRule,
    keep_finite,
    register_layer,
    square_norms,
    weighted_sum,
)
from mindarmour.privacy.diff_privacy.grads.taps import OutputOnly, TappedCell, shell

# A pass over a float of memory costs about as much time as this many multiply-adds of a matrix product on a CPU.
FLOPS_PER_FLOAT = 64


def cheapest_form(positions, inputs, outputs):
    """How to get the squared norm of sum_p b_p a_p^T over `positions` vectors a [inputs], b [outputs].

    'outer' for one position: |a|^2 |b|^2. 'gram' for few: sum_pq (a_p . a_q)(b_p . b_q), then one matrix product
    for the weighted sum. 'full': materialise the [outputs, inputs] gradient of every unit; it then costs three
    passes over that, and the weighted sum is nearly free.

    References:
        Goodfellow 2015, "Efficient per-example gradient computations" (outer).
        Li et al. 2022, "Large language models can be strong differentially private learners", section 4 (gram).
        Bu et al. 2023, "Differentially private optimization on large model at small cost" (choice by layer).
    """
    if positions == 1:
        return "outer"
    gram = 2 * positions ** 2 * (inputs + outputs) + FLOPS_PER_FLOAT * (3 * positions ** 2 + positions * outputs)
    full = FLOPS_PER_FLOAT * 3 * inputs * outputs
    return "gram" if gram < full else "full"


class ProductGradient(nn.Cell):
    """The gradient sum_p b_p a_p^T of a weight [out, in], per unit, in the cheapest exact form.

    Args:
        units (int): Units.
        positions (int): Positions per unit.
        inputs (int): Length of a.
        outputs (int): Length of b.
        form (str, optional): 'outer', 'gram' or 'full'; the cheapest if None.
    """

    def __init__(self, units, positions, inputs, outputs, form=None):
        super().__init__(auto_prefix=False)
        self.form = form or cheapest_form(positions, inputs, outputs)
        self.sizes = (units, positions, inputs, outputs)
        self.gram = ops.BatchMatMul(transpose_b=True)
        self.full = ops.BatchMatMul(transpose_a=True)
        self.sum = ops.MatMul(transpose_a=True)

    def hold(self, a, b):
        """From a [units, positions, in] and b [units, positions, out] to what the other methods need."""
        if self.form == "full":
            return (self.full(b, a),)
        return a, b

    def squares(self, held):
        """Squared norms, float32 [units]."""
        units = self.sizes[0]
        if self.form == "full":
            return square_norms(held[0].reshape(units, -1))
        a, b = held
        if self.form == "outer":
            return square_norms(a.reshape(units, -1)) * square_norms(b.reshape(units, -1))
        similarity = self.gram(a, a).reshape(units, 1, -1)
        return self.gram(similarity, self.gram(b, b).reshape(units, 1, -1)).reshape(-1)

    def total(self, held, factor, finite):
        """Sum over units of factor times gradient, float32 [out, in]."""
        _, _, inputs, outputs = self.sizes
        if self.form == "full":
            return weighted_sum(held[0], factor, finite).reshape(outputs, inputs)
        a, b = held
        scaled = keep_finite(b * factor.reshape(-1, 1, 1), finite).reshape(-1, outputs)
        return self.sum(scaled, keep_finite(a, finite).reshape(-1, inputs))


class _WithoutActivation(TappedCell):
    """A Dense cell read before its built-in activation."""

    def __init__(self, cell, make, read_input):
        super().__init__(shell(cell))
        self.inner.__dict__["activation_flag"] = False
        self.after = cell.activation
        self.read_input = read_input
        if read_input:
            self.input_tap = make.value()
        self.output_tap = make.gradient()

    def construct(self, x):
        if self.read_input:
            x = self.input_tap(x)
        return self.after(self.output_tap(self.inner(x)))


@register_layer(nn.Dense)
class DenseRule(LayerRule):
    """`nn.Dense` on inputs of any rank: axes between the batch and the features are positions."""

    def __init__(self, cell, shapes, units, form=None):
        super().__init__(cell, shapes, units)
        self.has_weight = cell.weight.requires_grad
        self.has_bias = cell.bias is not None and cell.bias.requires_grad
        self.outputs, self.inputs = cell.weight.shape
        positions = math.prod(shapes[-1]) // (units * self.outputs)
        self.product = ProductGradient(units, positions, self.inputs, self.outputs, form)

    @classmethod
    def tapped(cls, cell, make):
        if getattr(cell, "activation_flag", False):
            return _WithoutActivation(cell, make, cell.weight.requires_grad)
        if not cell.weight.requires_grad:
            return OutputOnly(cell, make)
        return super().tapped(cell, make)

    def hold(self, *taps):
        b = taps[-1].reshape(self.units, -1, self.outputs)
        held = ()
        if self.has_weight:
            held += (self.product.hold(taps[0].reshape(self.units, -1, self.inputs), b),)
        if self.has_bias:
            held += (b.sum(axis=1),)
        return held

    def squares(self, held):
        results = ()
        if self.has_weight:
            results += (self.product.squares(held[0]),)
        if self.has_bias:
            results += (square_norms(held[-1]),)
        return results

    def totals(self, held, factors, finite):
        results = ()
        if self.has_weight:
            results += (self.product.total(held[0], factors[0], finite),)
        if self.has_bias:
            results += (weighted_sum(held[-1], factors[-1], finite),)
        return results
