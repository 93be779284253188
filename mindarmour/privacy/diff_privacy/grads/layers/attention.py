"""`nn.MultiheadAttention`, alone and inside MindSpore's transformer encoder and decoder.

The layer multiplies with its Parameters inside one function, where no tap fits. The copy therefore computes the same
attention with taps around its four projections, and batch first inside, which spares two transpositions.
"""
import math

import mindspore as ms
from mindspore import nn, ops

from mindarmour.privacy.diff_privacy.grads.layers.products import OnTaps, SumOverPositions, product_gradient
from mindarmour.privacy.diff_privacy.grads.layers.registry import LayerRule, register_layer, squares_of
from mindarmour.privacy.diff_privacy.grads.rounding import gamma
from mindarmour.privacy.diff_privacy.grads.taps import TappedCell
from mindarmour.privacy.diff_privacy.operators import add_all, for_each, partial, reshape

_transpose = ops.Transpose()
# places of the taps: inputs of the query, key, value and output projections, then gradients at their outputs
_INPUTS, _OUTPUTS = (0, 1, 2, 3), (4, 5, 6, 7)
_BY_SLICE = ("q_proj_weight", "k_proj_weight", "v_proj_weight")


class _TappedAttention(TappedCell):
    def __init__(self, inner, make):
        super().__init__(inner)
        self.inputs = nn.CellList([make.value() for _ in _INPUTS], auto_prefix=False)
        self.outputs = nn.CellList([make.gradient() for _ in _OUTPUTS], auto_prefix=False)
        self.packed = inner.in_proj_weight is not None
        self.has_bias = inner.in_proj_bias is not None
        self.batch_first, self.heads, self.size = inner.batch_first, inner.num_heads, inner.embed_dim
        self.scale = 1.0 / math.sqrt(inner.head_dim)
        self.drop = nn.Dropout(p=float(inner.dropout))
        self.drop.set_train(inner.training)
        self.project = ops.MatMul(transpose_b=True)
        self.similarity = ops.BatchMatMul(transpose_b=True)
        self.mix = ops.BatchMatMul()
        self.softmax = ops.Softmax(-1)

    def construct(self, query, key, value, key_padding_mask=None, need_weights=True, attn_mask=None,
                  average_attn_weights=True):
        if not self.batch_first:
            query, key, value = query.swapaxes(0, 1), key.swapaxes(0, 1), value.swapaxes(0, 1)
        query, key, value = (self._heads(self._projected(query, 0)), self._heads(self._projected(key, 1)),
                             self._heads(self._projected(value, 2)))
        scores = self.similarity(query * self.scale, key)
        weights = self.softmax(self._masked(scores, key_padding_mask, attn_mask))
        mixed = _transpose(self.mix(self.drop(weights), value), (0, 2, 1, 3))
        output = self._linear(reshape(mixed, (mixed.shape[0], mixed.shape[1], self.size)), self.inner.out_proj.weight,
                              self.inner.out_proj.bias, 3)
        if not self.batch_first:
            output = output.swapaxes(0, 1)
        if need_weights:
            return output, (weights.mean(axis=1) if average_attn_weights else weights)
        return (output,)

    def _projected(self, x, i):
        bias = self.inner.in_proj_bias[i * self.size:(i + 1) * self.size] if self.has_bias else None
        if self.packed:
            weight = self.inner.in_proj_weight[i * self.size:(i + 1) * self.size]
        else:
            weight = (self.inner.q_proj_weight, self.inner.k_proj_weight, self.inner.v_proj_weight)[i]
        return self._linear(x, weight, bias, i)

    def _linear(self, x, weight, bias, i):
        x = self.inputs[i](x)
        y = self.project(reshape(x, (-1, x.shape[-1])), weight)
        if self.has_bias:
            y = y + bias
        return self.outputs[i](reshape(y, (x.shape[0], x.shape[1], self.size)))

    def _heads(self, x):
        return _transpose(reshape(x, (x.shape[0], x.shape[1], self.heads, -1)), (0, 2, 1, 3))

    def _masked(self, scores, key_padding_mask, attn_mask):
        if attn_mask is not None:
            attn_mask = self._additive(attn_mask)
            if attn_mask.ndim == 3:
                attn_mask = attn_mask.reshape(-1, self.heads, scores.shape[2], scores.shape[3])
            scores = scores + attn_mask
        if key_padding_mask is not None:
            mask = self._additive(key_padding_mask)
            scores = scores + mask.reshape(mask.shape[0], 1, 1, -1)
        return scores

    def _additive(self, mask):
        """True and nonzero bytes forbid attention; floats are added."""
        if mask.dtype in (ms.bool_, ms.uint8):
            return ops.zeros(mask.shape, ms.float32).masked_fill(mask.astype(ms.bool_), float("-inf"))
        return mask


class _Stacked(nn.Cell):
    """Gradient of a Parameter that stacks several along its first axis."""

    def __init__(self, gradients):
        super().__init__(auto_prefix=False)
        self.parts = tuple(gradients)
        self.join, self.join_rows = ops.Concat(0), ops.Concat(1)

    @property
    def understatement(self):
        """See `UnitGradient`."""
        return max(part.understatement for part in self.parts) + gamma(len(self.parts))

    def hold(self, *taps):
        return for_each(partial(_hold, taps), self.parts)

    def unit_rows(self, held):
        """See `UnitGradient`."""
        return self.join_rows(for_each(_rows, self.parts, held))

    def squares(self, held):
        return add_all(for_each(squares_of, self.parts, held))

    def total(self, held, factor):
        return self.join(for_each(partial(_total, factor), self.parts, held))


def _hold(taps, part):
    return part.hold(*taps)


def _rows(part, held):
    return part.unit_rows(held)


def _total(factor, part, held):
    return part.total(held, factor)


@register_layer(nn.MultiheadAttention)
class AttentionRule(LayerRule):
    """`nn.MultiheadAttention` on batched inputs, with masks and dropout."""

    parameter_names = ("in_proj_weight", *_BY_SLICE, "in_proj_bias")

    @classmethod
    def parameters_of(cls, cell):
        found = super().parameters_of(cell)
        found["out_proj.weight"] = cell.out_proj.weight
        if cell.out_proj.bias is not None:
            found["out_proj.bias"] = cell.out_proj.bias
        return found

    @classmethod
    def refusal(cls, cell):
        if cell.bias_k is not None or cell.add_zero_attn:
            return "attention with add_bias_kv or add_zero_attn has no rule."
        return None

    @classmethod
    def tapped(cls, cell, make):
        return _TappedAttention(cell, make)

    @classmethod
    def gradient(cls, name, cell, shapes, units):
        if name.startswith("out_proj"):
            return cls._projection(name.endswith("bias"), 3, shapes, units)
        if name in _BY_SLICE:
            return cls._projection(False, _BY_SLICE.index(name), shapes, units)
        return _Stacked([cls._projection(name == "in_proj_bias", i, shapes, units) for i in range(3)])

    @classmethod
    def _projection(cls, is_bias, i, shapes, units):
        a, b = shapes[_INPUTS[i]], shapes[_OUTPUTS[i]]
        if is_bias:
            return OnTaps(SumOverPositions(units, (b[-1],), b), (_OUTPUTS[i],))
        positions = a[0] // units * a[1]
        return OnTaps(product_gradient(units, positions, a[-1], b[-1], (b[-1], a[-1])), (_INPUTS[i], _OUTPUTS[i]))
