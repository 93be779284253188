"""Networks that return their loss as one number: the weights of rows reach every gradient, and nothing else."""
import mindspore as ms
import numpy as np
import pytest
from ghost_oracle import both_engines
from mindspore import Parameter, Tensor, nn, ops

ROWS = 6


class Words(nn.Cell):
    """Indices beside gradients, a layer with the batch on its second axis, and a raw Parameter."""

    def __init__(self):
        super().__init__()
        self.embedding, self.dense = nn.Embedding(9, 4), nn.Dense(4, 3)
        self.scale = Parameter(Tensor(np.array([0.5, 1.0, 2.0], np.float32)), name="scale")

    def construct(self, x, label):
        y = ops.tanh(self.dense(ops.tanh(self.embedding(x)).swapaxes(0, 1)))
        return ops.cross_entropy(y.mean(axis=0) * self.scale, label)


class Attends(nn.Cell):
    """A layer of several gradient taps."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(9, 4)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

    def construct(self, x, label):
        x = self.embedding(x)
        return ops.cross_entropy(self.attention(x, x, x)[0].mean(axis=1), label)


def assert_exact(network, units, mask):
    rng = np.random.default_rng(0)
    tokens, labels = rng.integers(0, 9, (ROWS, 5)), rng.integers(0, 3, ROWS)
    columns = (Tensor(tokens.astype(np.int32)), Tensor(labels.astype(np.int32)))
    ghost, loop = both_engines(network, None, columns, units, mask, bound=0.1)
    for parameter, a, b in zip(network.trainable_params(), ghost[0], loop[0]):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6, err_msg=parameter.name)
    np.testing.assert_allclose(ghost[1], loop[1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("network, units, mask", [
    (Words, 3, None), (Words, 6, [1, 0, 1, 1, 0, 1]), (Attends, 2, [1, 0, 1, 0, 0, 0])])
def test_holes_and_units_of_several_rows(network, units, mask):
    ms.set_context(mode=ms.PYNATIVE_MODE)
    assert_exact(network(), units, mask)
