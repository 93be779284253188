"""Embedding tables [vocabulary, size], read by integer indices."""
import math

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from mindarmour.privacy.diff_privacy.grads.layers.products import FLOPS_PER_FLOAT, FullProduct
from mindarmour.privacy.diff_privacy.grads.layers.registry import (
    LayerRule,
    UnitGradient,
    not_below_zero,
    register_layer,
)
from mindarmour.privacy.diff_privacy.grads.rounding import SMALLEST_NORMAL, gamma, precision_in_force
from mindarmour.privacy.diff_privacy.grads.taps import TappedCell
from mindarmour.privacy.diff_privacy.operators import (
    add_up,
    batched_product,
    constant,
    multiply,
    reshape,
    square_root,
    zero_if_not_finite,
)

_cast = ops.Cast()
_equal = ops.Equal()
_scatter = ops.UnsortedSegmentSum()
_one_hot = ops.OneHot()
_EXACT_INTEGERS = 2 ** 24  # float32 holds every integer up to here


def cheapest_form(positions, vocabulary, size):
    """'full' (materialise a table per unit, for small tables) or 'pairs' (compare all pairs of positions)."""
    pairs = 2 * positions ** 2 * size + FLOPS_PER_FLOAT * positions * (4 * positions + 2 * size)
    full = 2 * positions * vocabulary * size + FLOPS_PER_FLOAT * vocabulary * (positions + 3 * size)
    return "full" if full < pairs else "pairs"


class PairsGradient(UnitGradient):
    """|gradient|^2 = sum over pairs of positions with equal indices of b_p . b_q; the sum is one scatter.

    Each b_p . b_q gets gamma |b_p| |b_q| on top, which is more than rounding can take from it.
    """

    def __init__(self, units, shape, positions):
        super().__init__(units, shape)
        self.vocabulary = shape[0]
        self.b_shape, self.rows, self.flat = (units, positions, shape[1]), (units * positions, shape[1]), (-1,)
        self.down, self.across = (units, positions, 1), (units, 1, positions)
        self.pair_rows, self.norm_shape = (units * positions, 1, positions), (units, positions)
        self.unit_shape, self.diagonal = (units, 1, 1), Tensor(np.eye(positions, dtype=np.float32))
        precision = precision_in_force()
        margin = 1.01 * gamma(shape[1] + 2 * positions + 8)
        if precision.is_reduced:
            margin += 6.0 * precision.matmul
        self.gamma, self.lost = constant(margin), constant(shape[1] * SMALLEST_NORMAL / margin)
        self.table = TableGradient(units, shape, positions)

    @property
    def understatement(self):
        return gamma(8)

    def hold(self, dy, indices):
        return indices, reshape(dy, self.b_shape)

    def unit_rows(self, held):
        indices, b = held
        return self.table.hold(b, indices)

    def squares(self, held):
        indices, b = held
        equal = _cast(_equal(reshape(indices, self.down), reshape(indices, self.across)), ms.float32)
        similar = batched_product(b, b)
        lengths = square_root(add_up(multiply(similar, self.diagonal), 2) + self.lost)
        margin = multiply(reshape(lengths, self.down), reshape(multiply(lengths, self.gamma), self.across))
        by_position = batched_product(reshape(equal, self.pair_rows), reshape(similar + margin, self.pair_rows))
        return not_below_zero(add_up(reshape(by_position, self.norm_shape), 1))

    def total(self, held, factor):
        indices, b = held
        b = zero_if_not_finite(b) * reshape(factor, self.unit_shape)
        return _scatter(reshape(b, self.rows), _cast(reshape(indices, self.flat), ms.int32), self.vocabulary)


class TableGradient(UnitGradient):
    """Materialised tables: one-hot indices times output gradients."""

    def __init__(self, units, shape, positions):
        super().__init__(units, shape)
        self.vocabulary = shape[0]
        self.on, self.off = Tensor(np.float32(1)), Tensor(np.float32(0))
        self.product = FullProduct(units, (positions, shape[1], shape[0]), shape)
        self.flat = (-1,)

    def construct(self, dy, indices):
        indices = _cast(reshape(indices, self.flat), ms.int32)
        return self.product.construct(dy, _one_hot(indices, self.vocabulary, self.on, self.off))


def table_gradient(units, shape, positions, form=None):
    """The `UnitGradient` of a table in its cheapest form, or in `form`: 'pairs' or 'full'."""
    kind = {"pairs": PairsGradient, "full": TableGradient}[form or cheapest_form(positions, *shape)]
    return kind(units, tuple(shape), positions)


class _TappedEmbedding(TappedCell):
    def __init__(self, inner, make):
        super().__init__(inner)
        self.output_tap = make.gradient()
        self.index_tap = make.indices()

    def construct(self, indices):
        return self.index_tap(self.output_tap(self.inner(indices)), indices)


@register_layer(nn.Embedding)
class EmbeddingRule(LayerRule):
    """`nn.Embedding`."""

    parameter_names = ("embedding_table",)

    @classmethod
    def refusal(cls, cell):
        if cell.vocab_size >= _EXACT_INTEGERS:
            return f"its vocabulary of {cell.vocab_size} does not fit into the integers that float32 holds exactly."
        return None

    @classmethod
    def tapped(cls, cell, make):
        return _TappedEmbedding(cell, make)

    @classmethod
    def gradient(cls, name, cell, shapes, units):
        return table_gradient(units, cell.embedding_table.shape, math.prod(shapes[-1]) // units)
