"""Small networks of each layer kind, and batches for them."""
import numpy as np
from mindspore import Tensor, nn
from mindspore.common.initializer import Normal

CLASSES = 3


class ConvNet(nn.Cell):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, has_bias=True)
        self.norm = nn.GroupNorm(2, 4)
        self.flatten = nn.Flatten()
        self.head = nn.Dense(4 * 5 * 5, CLASSES)

    def construct(self, x):
        return self.head(self.flatten(self.norm(self.conv(x)).tanh()))


class TextNet(nn.Cell):
    def __init__(self):
        super().__init__()
        # near-constant rows would make LayerNorm ill-conditioned
        self.embedding = nn.Embedding(11, 6, embedding_table=Normal(1.0))
        self.norm = nn.LayerNorm((6,))
        self.head = nn.Dense(6, CLASSES)

    def construct(self, tokens):
        return self.head(self.norm(self.embedding(tokens)).mean(axis=1))


def dense():
    return nn.SequentialCell(nn.Dense(6, 5), nn.Tanh(), nn.Dense(5, CLASSES))


BUILDERS = {"dense": dense, "conv": ConvNet, "text": TextNet}


def batch_for(kind, rows, seed=0):
    """Columns (input, label) of `rows` rows."""
    rng = np.random.default_rng(seed)
    if kind == "dense":
        inputs = rng.normal(size=(rows, 6)).astype(np.float32)
    elif kind == "conv":
        inputs = rng.normal(size=(rows, 2, 5, 5)).astype(np.float32)
    else:
        inputs = rng.integers(0, 11, (rows, 4)).astype(np.int32)
    return Tensor(inputs), Tensor(rng.integers(0, CLASSES, rows).astype(np.int32))


def flat(total):
    """Clipped sum as one vector."""
    return np.concatenate([t.asnumpy().ravel() for t in total])
