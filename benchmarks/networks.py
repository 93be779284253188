"""The networks that are timed, in MindSpore. `torch_networks` holds the same ones for PyTorch."""
from dataclasses import dataclass
from typing import Callable

import numpy as np
from mindspore import Tensor, nn

from examples.common.networks.lenet5.lenet5_net import LeNet5

CLASSES = 10


class Vgg(nn.Cell):
    """Six 3x3 convolutions with GroupNorm on 3x32x32 images: 32, 32, 64, 64, 128, 128 channels, three poolings."""

    def __init__(self):
        super().__init__()
        layers, channels = [], 3
        for i, width in enumerate((32, 32, 64, 64, 128, 128)):
            layers += [nn.Conv2d(channels, width, 3, pad_mode="same"), nn.GroupNorm(8, width), nn.ReLU()]
            layers += [nn.MaxPool2d(2, 2)] if i % 2 else []
            channels = width
        self.body = nn.SequentialCell(layers)
        self.flatten = nn.Flatten()
        self.head = nn.Dense(128 * 4 * 4, CLASSES)

    def construct(self, x):
        return self.head(self.flatten(self.body(x)))


class Encoder(nn.Cell):
    """Four transformer encoder layers on 64 vectors: width 128, four heads, 256 hidden units, no dropout."""

    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(128, 4, 256, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 4)
        self.head = nn.Dense(128, CLASSES)

    def construct(self, x):
        return self.head(self.encoder(x).mean(axis=1))


class Mlp(nn.SequentialCell):
    """Three dense layers on 784 inputs."""

    def __init__(self, width=256):
        super().__init__(nn.Dense(784, width), nn.ReLU(), nn.Dense(width, width), nn.ReLU(), nn.Dense(width, CLASSES))


@dataclass(frozen=True)
class Case:
    """A network and the shape of one input."""

    build: Callable
    shape: tuple


CASES = {
    "lenet": Case(LeNet5, (1, 32, 32)),
    "vgg": Case(Vgg, (3, 32, 32)),
    "transformer": Case(Encoder, (64, 128)),
    "mlp": Case(Mlp, (784,)),
    "mlp-64": Case(lambda: Mlp(64), (784,)),
    "mlp-1024": Case(lambda: Mlp(1024), (784,)),
}


def arrays(name, batch, seed=0):
    """(inputs float32, labels int32) of a batch, as NumPy."""
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(batch, *CASES[name].shape)).astype(np.float32),
            rng.integers(0, CLASSES, batch).astype(np.int32))


def columns(name, batch):
    """The same as MindSpore tensors."""
    return tuple(Tensor(array) for array in arrays(name, batch))
