"""DP models of small networks, and data sets for them."""
import mindspore as ms
import numpy as np
from mindspore import nn

from mindarmour.privacy.diff_privacy import DPModel, NoiseMechanismsFactory

ROWS = 8


def loss_fn(reduction="mean"):
    return nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction=reduction)


def noise(multiplier=1.0, bound=1.0, seed=0, **decay):
    name = "AdaGaussian" if decay else "Gaussian"
    return NoiseMechanismsFactory.create(name, bound, multiplier, seed=seed, **decay)


def model_of(network, multiplier=1e-12, bound=1.0, *, lr=1.0, optimizer=None, seed=0, **arguments):
    optimizer = optimizer or nn.SGD(network.trainable_params(), lr)
    return DPModel(norm_bound=bound, noise_mech=noise(multiplier, bound, seed), network=network, optimizer=optimizer,
                   **{"micro_batches": None, "loss_fn": loss_fn(), **arguments})


def weights(network):
    return np.concatenate([p.asnumpy().ravel() for p in network.trainable_params()])


def dataset_of(columns, names=("image", "label"), batch=ROWS, drop=True):
    data = ms.dataset.NumpySlicesDataset(tuple(c.asnumpy() for c in columns), list(names), shuffle=False)
    return data.batch(batch, drop_remainder=drop)
