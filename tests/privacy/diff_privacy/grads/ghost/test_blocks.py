"""Parameters that no rule knows: the derivative of the cell that uses them, for every unit, equals the plain loop."""
import mindspore as ms
import numpy as np
import pytest
from ghost_oracle import assert_exact, both_engines, randomise
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from mindspore import Parameter, ParameterTuple, Tensor, nn, ops

from mindarmour.privacy.diff_privacy.clipping.rules import FlatClipping
from mindarmour.privacy.diff_privacy.grads.choose import choose_engine
from mindarmour.privacy.diff_privacy.grads.ghost.blocks import BlockGradients
from mindarmour.privacy.diff_privacy.grads.ghost.engine import GhostEngine
from mindarmour.privacy.errors import UnsupportedLayerError

ROWS, WIDTH, CLASSES = 6, 4, 3
MASK = [1, 0, 1, 1, 1, 1]
EAGER = settings(max_examples=6, deadline=None, derandomize=True, phases=(Phase.explicit, Phase.generate),
                 suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(autouse=True)
def eager():
    ms.set_context(mode=ms.PYNATIVE_MODE)


def weight(*shape, name="weight"):
    return Parameter(Tensor(np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)), name=name)


def cross_entropy():
    return nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean")


def batch(*inner, rows=ROWS):
    rng = np.random.default_rng(7)
    return (Tensor(rng.normal(size=(rows, *inner)).astype(np.float32)),
            Tensor(rng.integers(0, CLASSES, rows).astype(np.int32)))


def tokens(positions=5, rows=ROWS):
    rng = np.random.default_rng(8)
    return (Tensor(rng.integers(0, 7, (rows, positions)).astype(np.int32)),
            Tensor(rng.integers(0, CLASSES, rows).astype(np.int32)))


class Linear(nn.Cell):
    """A linear layer of the user's own."""

    def __init__(self, inputs=WIDTH, outputs=WIDTH, kind="matmul"):
        super().__init__()
        self.weight, self.bias = weight(inputs, outputs), weight(outputs, name="bias")
        self.kind, self.product = kind, ops.MatMul()

    def construct(self, x):
        if self.kind == "dense":
            return ops.dense(x, self.weight.T, self.bias)
        if self.kind == "operator":
            y = self.product(x.reshape(-1, x.shape[-1]), self.weight) + self.bias
            return y.reshape(x.shape[:-1] + (y.shape[-1],))
        return ops.matmul(x, self.weight) + self.bias


class Normalise(nn.LayerNorm):
    """A layer normalisation over the channels of [B, C, ...], by a construct of its own."""

    def construct(self, x):
        y, _, _ = self.layer_norm(x.swapaxes(1, -1), self.gamma.astype(ms.float32), self.beta.astype(ms.float32))
        return y.swapaxes(1, -1)


class Lookup(nn.Cell):
    def __init__(self):
        super().__init__()
        self.table = weight(7, WIDTH, name="table")

    def construct(self, x):
        places = ops.minimum(ops.abs(x * 3), 6.0).astype(ms.int32)
        return ops.gather(self.table, places, 0).mean(axis=1) * x


class Standardised(nn.Conv1d):
    """A convolution with standardised weights."""

    def construct(self, x):
        w = self.weight
        w = (w - w.mean()) / ops.sqrt(w.var() + 1e-3)
        return self.conv2d(x.expand_dims(1).expand_dims(1), w).reshape(x.shape[0], -1)[:, :WIDTH]


class Lora(nn.Cell):
    """A frozen layer with a raw pair of low rank beside it."""

    def __init__(self):
        super().__init__()
        self.base = nn.Dense(WIDTH, WIDTH)
        self.down, self.up = weight(WIDTH, 2, name="down"), weight(2, WIDTH, name="up")
        for parameter in self.base.get_parameters():
            parameter.requires_grad = False

    def construct(self, x):
        return self.base(x) + ops.matmul(ops.matmul(x, self.down), self.up)


class TwoOutputs(nn.Cell):
    """Returns a tuple."""

    def __init__(self):
        super().__init__()
        self.weight = weight(WIDTH, 2 * WIDTH)

    def construct(self, x):
        y = ops.matmul(x, self.weight)
        return y[:, :WIDTH], ops.tanh(y[:, WIDTH:])


class Summed(nn.Cell):
    def __init__(self, cell):
        super().__init__()
        self.cell = cell

    def construct(self, x):
        one, other = self.cell(x)
        return one + 2 * other


class Mixtures(nn.Cell):
    """Members of a ParameterTuple, one added and one multiplied with."""

    def __init__(self):
        super().__init__()
        self.all = ParameterTuple([weight(WIDTH, name="shift"), weight(WIDTH, WIDTH, name="mix")])

    def construct(self, x):
        return ops.matmul(x + self.all[0], self.all[1])


class Between(nn.Cell):
    """A layer between two served ones."""

    def __init__(self, layer):
        super().__init__()
        self.first, self.layer, self.head = nn.Dense(WIDTH, WIDTH), layer, nn.Dense(WIDTH, CLASSES)

    def construct(self, x):
        return self.head(ops.tanh(self.layer(ops.tanh(self.first(x)))))


BLOCKS = {"matmul": Linear, "dense": lambda: Linear(kind="dense"), "operator": lambda: Linear(kind="operator"),
          "norm": lambda: Normalise([WIDTH]), "lookup": Lookup, "convolution": lambda: Standardised(1, 1, 3),
          "lora": Lora, "two outputs": lambda: Summed(TwoOutputs()), "tuple": Mixtures}


@pytest.mark.parametrize("kind", sorted(BLOCKS))
def test_cells_of_the_users_own_in_both_modes(kind, mode):
    network = randomise(Between(BLOCKS[kind]()))
    assert_exact(network, cross_entropy(), batch(WIDTH), 3, MASK, bound=0.3)


@pytest.mark.parametrize("kind", ["norm", "operator", "tuple"])
def test_auto_takes_the_derivative_of_the_cell_alone(kind):
    network = randomise(Between(BLOCKS[kind]()))
    engine, reason = choose_engine("auto", network, cross_entropy(), FlatClipping(), 3, batch(WIDTH))
    assert isinstance(engine, GhostEngine), reason
    assert len(engine.blocks) == 1 and len(engine.block_reads[0]) == 2  # its input and its output


@EAGER
@given(inner=st.lists(st.integers(1, 3), max_size=2), kind=st.sampled_from(["matmul", "dense", "operator"]),
       units=st.sampled_from([1, 2, 3, 6]))
def test_linear_layers_over_drawn_shapes(inner, kind, units):
    class Network(nn.Cell):
        def __init__(self):
            super().__init__()
            self.linear, self.head = Linear(kind=kind), nn.Dense(WIDTH, CLASSES)

        def construct(self, x):
            y = self.head(ops.sin(self.linear(x)))
            return y.reshape(y.shape[0], -1, CLASSES).mean(axis=1)

    assert_exact(randomise(Network()), cross_entropy(), batch(*inner, WIDTH), units, MASK, bound=0.2)


class RawInTheNetwork(nn.Cell):
    """The network itself multiplies with its Parameter."""

    def __init__(self):
        super().__init__()
        self.mixing, self.head = weight(WIDTH, WIDTH, name="mixing"), nn.Dense(WIDTH, CLASSES)

    def construct(self, x):
        return self.head(ops.tanh(ops.matmul(x, self.mixing)))


class Positions(nn.Cell):
    """Token and position embeddings; the places do not follow the rows."""

    def __init__(self):
        super().__init__()
        self.tokens, self.places = nn.Embedding(7, WIDTH), nn.Embedding(5, WIDTH)
        self.range, self.head = Tensor(np.arange(5, dtype=np.int32)), nn.Dense(WIDTH, CLASSES)

    def construct(self, ids):
        return self.head(ops.tanh(self.tokens(ids) + self.places(self.range)).mean(axis=1))


class BiasTable(nn.Cell):
    """A bias of pairs, gathered from a table without any input."""

    def __init__(self, size):
        super().__init__()
        self.table = weight(2 * size - 1, 2, name="table")
        self.index = Tensor((np.arange(size)[:, None] - np.arange(size) + size - 1).reshape(-1).astype(np.int32))
        self.size = size

    def construct(self):
        return ops.gather(self.table, self.index, 0).reshape(self.size, self.size, 2).transpose(2, 0, 1).expand_dims(0)


class Windows(nn.Cell):
    """Attention in windows: the batch axis holds the windows of all rows."""

    def __init__(self, size=3):
        super().__init__()
        self.dense, self.bias, self.head = nn.Dense(WIDTH, WIDTH), BiasTable(size), nn.Dense(WIDTH, CLASSES)
        self.size, self.softmax = size, nn.Softmax(-1)

    def construct(self, x):
        rows = x.shape[0]
        x = self.dense(x.reshape(-1, self.size, WIDTH))
        y = x.reshape(-1, self.size, 2, WIDTH // 2).transpose(0, 2, 1, 3)
        weights = self.softmax(ops.matmul(y, y.swapaxes(2, 3)) + self.bias())
        y = ops.matmul(weights, y).transpose(0, 2, 1, 3).reshape(rows, -1, WIDTH)
        return self.head(y.mean(axis=1))


class TiedDense(nn.Cell):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.head = nn.Dense(4, 4), nn.Dense(4, 4), nn.Dense(4, CLASSES)
        self.second.weight = self.first.weight

    def construct(self, x):
        return self.head(self.second(ops.tanh(self.first(x))))


class TiedEmbedding(nn.Cell):
    """A language model whose head is its table of tokens."""

    def __init__(self, vocabulary=7):
        super().__init__()
        self.tokens, self.head = nn.Embedding(vocabulary, WIDTH), nn.Dense(WIDTH, vocabulary, has_bias=False)
        self.head.weight = self.tokens.embedding_table

    def construct(self, ids):
        return self.head(ops.tanh(self.tokens(ids))).mean(axis=1)


class OneLayerInTwoPlaces(nn.Cell):
    def __init__(self):
        super().__init__()
        shared = nn.SequentialCell(nn.Dense(WIDTH, WIDTH), nn.Tanh())
        self.one, self.other = nn.SequentialCell(shared), nn.SequentialCell(nn.ReLU(), shared)
        self.head = nn.Dense(WIDTH, CLASSES)

    def construct(self, x):
        return self.head(self.other(self.one(x)))


NETWORKS = {"raw": (RawInTheNetwork, lambda: batch(WIDTH)), "positions": (Positions, tokens),
            "windows": (Windows, lambda: batch(6, WIDTH)), "tied dense": (TiedDense, lambda: batch(WIDTH)),
            "tied embedding": (TiedEmbedding, tokens), "two places": (OneLayerInTwoPlaces, lambda: batch(WIDTH))}


@pytest.mark.parametrize("kind", sorted(NETWORKS))
def test_networks_in_both_modes(kind, mode):
    build, columns = NETWORKS[kind]
    assert_exact(randomise(build()), cross_entropy(), columns(), 3, MASK, bound=0.3)


@pytest.mark.parametrize("kind", sorted(NETWORKS))
def test_auto_takes_ghost_for_networks(kind):
    build, columns = NETWORKS[kind]
    engine, reason = choose_engine("auto", randomise(build()), cross_entropy(), FlatClipping(), ROWS, columns())
    assert isinstance(engine, GhostEngine), reason


@pytest.mark.parametrize("build", [lambda: Between(Linear()), TiedDense])
def test_a_masked_row_adds_exactly_zero_even_if_it_is_nan(build):
    network, (x, y) = randomise(build()), batch(WIDTH)
    dirty = x.asnumpy().copy()
    dirty[1] = np.nan
    clean_result, _ = both_engines(network, cross_entropy(), (x, y), 3, MASK)
    dirty_result, _ = both_engines(network, cross_entropy(), (Tensor(dirty), y), 3, MASK)
    for a, b in zip(dirty_result[0], clean_result[0]):
        np.testing.assert_array_equal(a, b)
    assert dirty_result[3] == 0


@pytest.mark.parametrize("kind", ["matmul", "norm", "convolution", "lookup"])
def test_a_row_that_is_not_finite_reaches_no_other_row(kind):
    """Nor by the mapped derivative: the sum is that of the others, and one unit is counted."""
    network, (x, y) = randomise(Between(BLOCKS[kind]())), batch(WIDTH)
    broken = x.asnumpy().copy()
    broken[2, 1] = np.nan
    result, loop = both_engines(network, cross_entropy(), (Tensor(broken), y), ROWS)
    expected, _ = both_engines(network, cross_entropy(), (x, y), ROWS, [1, 1, 0, 1, 1, 1])
    for a, b in zip(result[0], expected[0]):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
    assert result[3] == loop[3] == 1


def test_a_wrong_derivative_is_noticed(monkeypatch):
    construct = BlockGradients.construct
    monkeypatch.setattr(BlockGradients, "construct",
                        lambda self, *taps: tuple(1.01 * rows for rows in construct(self, *taps)))
    with pytest.raises(UnsupportedLayerError, match="differs? from the plain loop"):
        choose_engine("ghost", randomise(Between(Linear())), cross_entropy(), FlatClipping(), ROWS, batch(WIDTH))


class DropsInside(nn.Cell):
    def __init__(self, drop):
        super().__init__()
        self.linear, self.drop = weight(WIDTH, WIDTH), drop

    def construct(self, x):
        return ops.matmul(self.drop(x), self.linear)


class Noisy(nn.Cell):
    def construct(self, x):
        return x * (ops.rand(x.shape[0], 1) < 0.5).astype(ms.float32) if self.training else x


@pytest.mark.parametrize("drop, reason", [(nn.Dropout(p=0.1), "dropout in it"), (Noisy(), "random")])
def test_no_derivative_of_what_draws_random_numbers(drop, reason):
    """A second run of the cell would draw others than the first."""
    with pytest.raises(UnsupportedLayerError, match=reason):
        choose_engine("ghost", Between(DropsInside(drop)), cross_entropy(), FlatClipping(), ROWS, batch(WIDTH))
