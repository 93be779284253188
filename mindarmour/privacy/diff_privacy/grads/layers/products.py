"""The gradient sum_p b_p a_p^T of a matrix, per unit, in the cheapest exact form, and sums over positions."""
import math

import numpy as np
from mindspore import Tensor, ops

from mindarmour.privacy.diff_privacy.grads.layers.registry import (
    OfChangedTaps,
    UnitGradient,
    not_below_zero,
    square_norms,
)
from mindarmour.privacy.diff_privacy.grads.rounding import (
    SMALLEST_NORMAL,
    gamma,
    precision_in_force,
    squares_roundoff,
)
from mindarmour.privacy.diff_privacy.operators import (
    add_up,
    at,
    batched_product,
    constant,
    for_each,
    multiply,
    partial,
    reshape,
    square_root,
    zero_if_not_finite,
)

_product_of_transposed = ops.MatMul(transpose_a=True)
_batched_product_of_transposed = ops.BatchMatMul(transpose_a=True)

# A pass over one float of memory costs about as much time as this many operations of a matrix product on a CPU.
FLOPS_PER_FLOAT = 64

# Gram forms whose margin would shrink the gradients of ordinary units by more than this are not taken.
_LARGEST_MARGIN = 5e-3


def gram_roundoff(positions, inputs, outputs):
    """Error of the Gram form in units of (sum_p |a_p| |b_p|)^2: two products of vectors, then sums of P and P."""
    return 1.01 * gamma(inputs + outputs + 2 * positions + 8)


def cheapest_form(positions, inputs, outputs):
    """How to get the squared norm of sum_p b_p a_p^T over `positions` vectors a [inputs], b [outputs].

    'outer' for one position: |a|^2 |b|^2. 'gram' for few: sum_pq (a_p . a_q)(b_p . b_q), then one matrix product
    for the weighted sum. 'full': materialise the [outputs, inputs] gradient of every unit; it then costs three
    passes over that, and the weighted sum is nearly free.

    Norm and sum come from the same numbers in 'outer' and 'full'. In 'gram' they do not, and the norm cancels where
    the a_p lie far from the origin; a margin covers that, which reduced precision would make too large.

    References:
        Goodfellow 2015, "Efficient per-example gradient computations" (outer).
        Li et al. 2022, "Large language models can be strong differentially private learners", section 4 (gram).
        Bu et al. 2023, "Differentially private optimization on large model at small cost" (choice by layer).
    """
    if positions == 1:
        return "outer"
    gram = 2 * positions ** 2 * (inputs + outputs)
    gram += FLOPS_PER_FLOAT * positions * (3 * positions + 2 * (inputs + outputs))
    full = FLOPS_PER_FLOAT * 3 * inputs * outputs
    margin = positions * gram_roundoff(positions, inputs, outputs) / 2
    return "gram" if gram < full and margin < _LARGEST_MARGIN and not precision_in_force().is_reduced else "full"


def product_gradient(units, positions, inputs, outputs, shape, form=None):
    """The `UnitGradient` of a matrix from taps a [units * positions, inputs] and b [units * positions, outputs].

    Args:
        units (int): Units.
        positions (int): Positions per unit.
        inputs (int): Length of a.
        outputs (int): Length of b.
        shape (tuple): Shape of the Parameter, [outputs, inputs] or the like.
        form (str, optional): 'outer', 'gram' or 'full'; the cheapest if None.
    """
    form = form or cheapest_form(positions, inputs, outputs)
    kind = {"outer": OuterProduct, "gram": GramProduct, "full": FullProduct}[form]
    return kind(units, (positions, inputs, outputs), shape)


class FullProduct(UnitGradient):
    """Materialised: one batched matrix product."""

    def __init__(self, units, sizes, shape):
        super().__init__(units, shape)
        positions, inputs, outputs = sizes
        self.a_shape, self.b_shape = (units, positions, inputs), (units, positions, outputs)

    def construct(self, a, b):
        return _batched_product_of_transposed(reshape(b, self.b_shape), reshape(a, self.a_shape))


class _Factored(UnitGradient):
    """Keeps a and b instead of their product."""

    def __init__(self, units, sizes, shape):
        super().__init__(units, shape)
        positions, inputs, outputs = sizes
        self.a_shape, self.b_shape = (units, positions, inputs), (units, positions, outputs)
        self.a_flat, self.b_flat = (units * positions, inputs), (units * positions, outputs)
        self.unit_shape = (units, 1, 1)

    def hold(self, a, b):
        return reshape(a, self.a_shape), reshape(b, self.b_shape)

    def unit_rows(self, held):
        a, b = held
        return reshape(_batched_product_of_transposed(b, a), self.rows_shape)

    def total(self, held, factor):
        a, b = held
        a, b = zero_if_not_finite(a), zero_if_not_finite(b) * reshape(factor, self.unit_shape)
        return reshape(_product_of_transposed(reshape(b, self.b_flat), reshape(a, self.a_flat)), self.shape)


class OuterProduct(_Factored):
    """One position: |a b^T|^2 = |a|^2 |b|^2, each a little larger, for what squares too small for float32 lose."""

    def __init__(self, units, sizes, shape):
        super().__init__(units, sizes, shape)
        self.lost = tuple(constant(size * SMALLEST_NORMAL) for size in sizes[1:])

    @property
    def understatement(self):
        inputs, outputs = self.a_flat[1], self.b_flat[1]
        return squares_roundoff(inputs) + squares_roundoff(outputs) + gamma(3)

    def squares(self, held):
        a, b = held
        inputs, outputs = self.a_flat[1], self.b_flat[1]
        return multiply(square_norms(a, self.units, inputs) + self.lost[0],
                        square_norms(b, self.units, outputs) + self.lost[1])


class GramProduct(_Factored):
    """Few positions: |sum_p b_p a_p^T|^2 = S = sum_pq (a_p . a_q)(b_p . b_q), computed as S + gamma M^2.

    M = sum_p |a_p| |b_p|. By Cauchy and Schwarz the terms of S have magnitudes that add up to at most M^2, so that
    rounding takes no more than gamma M^2 from S, however far it cancels.
    """

    def __init__(self, units, sizes, shape):
        super().__init__(units, sizes, shape)
        positions, inputs, outputs = sizes
        self.rows, self.norm_shape = (units * positions, 1, positions), (units, positions)
        self.diagonal = Tensor(np.eye(positions, dtype=np.float32))
        margin = gram_roundoff(positions, inputs, outputs)
        self.gamma = constant(margin)
        # what small squares lose is less than gamma times these
        self.lost = tuple(constant(size * SMALLEST_NORMAL / margin) for size in (inputs, outputs))

    @property
    def understatement(self):
        return gamma(8)

    def squares(self, held):
        a, b = held
        similar_a, similar_b = batched_product(a, a), batched_product(b, b)
        by_position = batched_product(reshape(similar_a, self.rows), reshape(similar_b, self.rows))
        square = add_up(reshape(by_position, self.norm_shape), 1)
        lengths = multiply(self._lengths(similar_a, self.lost[0]), self._lengths(similar_b, self.lost[1]))
        whole = add_up(lengths, 1)
        return not_below_zero(square) + multiply(multiply(whole, whole), self.gamma)

    def _lengths(self, similar, lost):
        return square_root(add_up(multiply(similar, self.diagonal), 2) + lost)


class SumOverPositions(UnitGradient):
    """Gradient of a bias: the output gradient summed over all but the feature axis.

    Args:
        units (int): Units.
        shape (tuple): Shape of the Parameter.
        output (tuple): Shape of the layer's output, batch axis first.
        axis (int): Its feature axis.
    """

    def __init__(self, units, shape, output, axis=-1):
        super().__init__(units, shape)
        axis = axis % len(output)
        before = output[0] // units * math.prod(output[1:axis])
        self.split = (units, before, output[axis], math.prod(output[axis + 1:]))
        self.one_position = self.split[1] == self.split[3] == 1

    def construct(self, *taps):
        return taps[-1] if self.one_position else add_up(reshape(taps[-1], self.split), (1, 3))


class NoGradient(UnitGradient):
    """Gradient of a Parameter whose layer the network does not call: zero."""

    def __init__(self, units, shape):
        super().__init__(units, shape)
        self.zero_square, self.zero = Tensor(np.zeros(units, np.float32)), Tensor(np.zeros(shape, np.float32))

    def hold(self):
        return ()

    @property
    def understatement(self):
        return 0.0

    def squares(self, held):
        return self.zero_square

    def total(self, held, factor):
        return self.zero


class Transposed(OfChangedTaps):
    """A gradient whose taps do not all have the batch on their first axis."""

    def __init__(self, gradient, axes):
        super().__init__(gradient)
        self.axes = axes

    def hold(self, *taps):
        return self.gradient.hold(*for_each(_batch_first, taps, self.axes))


def _batch_first(tap, axis):
    return tap.swapaxes(0, axis)


class OnTaps(OfChangedTaps):
    """A gradient that reads some of its layer's taps."""

    def __init__(self, gradient, reads):
        super().__init__(gradient)
        self.reads = reads

    def hold(self, *taps):
        return self.gradient.hold(*for_each(partial(at, taps), self.reads))
