"""A VGG-style CIFAR-10 network split behind any of its layers, with decoders and stand-ins for its first layers.

The architecture is the one of He, Zhang and Lee (2019), "Model inversion attacks against collaborative inference".
"""
from mindspore import nn

LAYERS = {name: position for position, name in enumerate(
    ["conv11", "relu11", "conv12", "relu12", "pool1", "conv21", "relu21", "conv22", "relu22", "pool2",
     "conv31", "relu31", "conv32", "relu32", "pool3", "flatten", "fc1", "fc1act", "fc2"], start=1)}


def _position(layer_name):
    if layer_name not in LAYERS:
        raise ValueError(f"layer_name must be one of {', '.join(LAYERS)}, but got {layer_name!r}.")
    return LAYERS[layer_name]


def _convolution(before, after):
    return nn.Conv2d(before, after, 3, pad_mode="same", has_bias=True)


class CIFAR10CNN(nn.Cell):
    """Six convolutions in three blocks of 64, 128 and 128 channels, then two dense layers.

    Args:
        num_class (int): Classes.

    Inputs:
        x (Tensor): Images float32 [B, 3, 32, 32].

    Outputs:
        Tensor, logits float32 [B, num_class].
    """

    def __init__(self, num_class=10):
        super().__init__()
        self.conv11, self.conv12 = _convolution(3, 64), _convolution(64, 64)
        self.conv21, self.conv22 = _convolution(64, 128), _convolution(128, 128)
        self.conv31, self.conv32 = _convolution(128, 128), _convolution(128, 128)
        self.fc1, self.fc2 = nn.Dense(128 * 4 * 4, 512), nn.Dense(512, num_class)
        self.relu, self.sigmoid, self.flatten = nn.ReLU(), nn.Sigmoid(), nn.Flatten()
        self.pool = nn.MaxPool2d(2, 2)

    def _run(self, x, first, last):
        cells = (self.conv11, self.relu, self.conv12, self.relu, self.pool,
                 self.conv21, self.relu, self.conv22, self.relu, self.pool,
                 self.conv31, self.relu, self.conv32, self.relu, self.pool,
                 self.flatten, self.fc1, self.sigmoid, self.fc2)
        for cell in cells[first:last]:
            x = cell(x)
        return x

    def construct(self, x):
        return self._run(x, 0, 19)

    def get_layer_output(self, x, layer_name):
        """Output of the layer for images."""
        return self._run(x, 0, _position(layer_name))

    def forward_from(self, x, layer_name):
        """Logits from the output of the layer."""
        return self._run(x, _position(layer_name), 19)


class CIFAR10CNNFront(nn.Cell):
    """The layers of a `CIFAR10CNN` up to one of them. With a fresh network it is an attacker's stand-in.

    Args:
        network (CIFAR10CNN): The whole network.
        layer_name (str): Last layer.
    """

    def __init__(self, network, layer_name):
        super().__init__(auto_prefix=False)
        self.network = network
        self.layers = _position(layer_name)

    def construct(self, x):
        return self.network._run(x, 0, self.layers)


def _up(before, after):
    return [nn.Conv2dTranspose(before, after, 2, stride=2, pad_mode="valid", has_bias=True), nn.ReLU()]


def cifar10cnn_decoder(layer_name):
    """From the output of conv11, relu22 or relu32 to images [B, 3, 32, 32]."""
    if layer_name == "conv11":
        return nn.SequentialCell([_convolution(64, 3)])
    if layer_name == "relu22":
        return nn.SequentialCell([*_up(128, 64), _convolution(64, 64), nn.ReLU(), _convolution(64, 3)])
    if layer_name == "relu32":
        return nn.SequentialCell([*_up(128, 128), _convolution(128, 64), nn.ReLU(), *_up(64, 64),
                                  _convolution(64, 3)])
    raise ValueError(f"layer_name must be 'conv11', 'relu22' or 'relu32', but got {layer_name!r}.")
