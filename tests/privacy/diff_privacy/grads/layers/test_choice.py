"""The layers themselves take the form that their shapes ask for, on both sides of the crossover."""
import mindspore as ms
import numpy as np
import pytest
from ghost_oracle import assert_layer_exact
from mindspore import mint, nn

from mindarmour.privacy.diff_privacy.grads.layers import dense, embedding, products, rule_class_for

UNITS = 3


def dense_form(positions, inputs, outputs):
    layer = nn.Dense(inputs, outputs)
    shapes = ((UNITS, positions, inputs), (UNITS, positions, outputs))
    return type(dense.DenseRule.gradient("weight", layer, shapes, UNITS))


def table_form(positions, vocabulary, size):
    shapes = ((UNITS, positions, size), (UNITS, positions))
    return type(embedding.EmbeddingRule.gradient("embedding_table", nn.Embedding(vocabulary, size), shapes, UNITS))


def crossover(chosen, low, high):
    """The first of the positions [low, high] whose form is not that of `low`; the form changes once."""
    kinds = [chosen(positions) for positions in range(low, high + 1)]
    changes = [i for i in range(1, len(kinds)) if kinds[i] is not kinds[i - 1]]
    assert len(changes) == 1
    return low + changes[0], kinds[0], kinds[-1]


def test_dense():
    assert dense_form(1, 64, 64) is products.OuterProduct
    first, short, long = crossover(lambda positions: dense_form(positions, 64, 64), 2, 80)
    assert (short, long) == (products.GramProduct, products.FullProduct)
    wide, *_ = crossover(lambda positions: dense_form(positions, 128, 128), 2, 160)
    assert 2 < first < wide  # a larger weight is worth materialising only for longer sequences


def test_rows_of_one_unit_are_positions():
    layer, shapes = nn.Dense(8, 4), ((6, 8), (6, 4))
    assert type(dense.DenseRule.gradient("weight", layer, shapes, 6)) is products.OuterProduct
    assert type(dense.DenseRule.gradient("weight", layer, shapes, 1)) is not products.OuterProduct


def test_embedding_of_sequences():
    first, short, long = crossover(lambda positions: table_form(positions, 50, 16), 2, 100)
    assert (short, long) == (embedding.PairsGradient, embedding.TableGradient)
    assert 2 < first < 100
    assert table_form(200, 30000, 128) is embedding.PairsGradient


class Linear(nn.Dense):
    """As projects have for their defaults."""

    def __init__(self, inputs, outputs):
        super().__init__(inputs, outputs, has_bias=True)

    def size(self):
        return self.in_channels * self.out_channels


class Doubled(nn.Dense):
    def construct(self, x):
        return 2 * super().construct(x)


class DoubledByMixin(type("Mixin", (), {"construct": lambda self, x: 2 * nn.Dense.construct(self, x)}), nn.Dense):
    pass


class OtherHelper(nn.GroupNorm):
    def _cal_output(self, x):
        return x


class OwnBackward(nn.Dense):
    def bprop(self, x, out, dout):
        return (dout,)


def test_a_subclass_that_computes_the_same_is_served():
    ms.set_context(mode=ms.PYNATIVE_MODE)
    assert rule_class_for(Linear(4, 3)) is dense.DenseRule
    assert_layer_exact(Linear(4, 3), np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32), 3)


@pytest.mark.parametrize("layer", [Doubled(4, 3), DoubledByMixin(4, 3), OtherHelper(1, 4), OwnBackward(4, 3)],
                         ids=lambda layer: type(layer).__name__)
def test_a_subclass_that_may_compute_something_else_is_not(layer):
    assert rule_class_for(layer) is None


@pytest.mark.parametrize("shape", [(6, 4), (6, 5, 4)], ids=str)
@pytest.mark.parametrize("bias", [True, False])
def test_linear_of_mint_is_served(bias, shape):
    ms.set_context(mode=ms.PYNATIVE_MODE)
    inputs = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    assert_layer_exact(mint.nn.Linear(4, 3, bias=bias), inputs, 3, [1, 1, 0, 1, 1, 1])
