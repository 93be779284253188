"""The two small networks of the DENSE and CNN rows, for images [B, 1, 28, 28].

Their activations are tanh: bounded activations keep gradients small, so that less is lost to clipping (Papernot
et al. 2021, "Tempered sigmoid activations for deep learning with differential privacy").
"""
from mindspore import nn


def dense_net(hidden=100, num_class=10):
    """One hidden layer."""
    return nn.SequentialCell(nn.Flatten(), nn.Dense(784, hidden), nn.Tanh(), nn.Dense(hidden, num_class))


def cnn_net(num_class=10):
    """Two convolutions, the first pooled, and two dense layers: 26,010 parameters for ten classes."""
    return nn.SequentialCell(
        nn.Conv2d(1, 16, 8, stride=2, pad_mode="same", has_bias=True), nn.Tanh(), nn.AvgPool2d(2, 2),
        nn.Conv2d(16, 32, 4, pad_mode="valid", has_bias=True), nn.Tanh(),
        nn.Flatten(), nn.Dense(512, 32), nn.Tanh(), nn.Dense(32, num_class))
