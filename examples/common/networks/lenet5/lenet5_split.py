"""LeNet-5 split behind any of its layers, and networks that turn its features back into images."""
from mindspore import nn

from examples.common.networks.lenet5.lenet5_net import LeNet5

LAYERS = {"conv1": 1, "relu1": 2, "pool1": 3, "conv2": 4, "relu2": 5, "pool2": 6,
          "fc1": 8, "relu3": 9, "fc2": 10, "relu4": 11, "fc3": 12}


def _position(layer_name):
    if layer_name not in LAYERS:
        raise ValueError(f"layer_name must be one of {', '.join(LAYERS)}, but got {layer_name!r}.")
    return LAYERS[layer_name]


class SplitLeNet5(LeNet5):
    """LeNet-5 that offers the two halves around a layer. Checkpoints fit `LeNet5` and the other way round."""

    def _run(self, x, first, last):
        cells = (self.conv1, self.activation, self.max_pool2d, self.conv2, self.activation, self.max_pool2d,
                 self.flatten, self.fc1, self.activation, self.fc2, self.activation, self.fc3)
        for cell in cells[first:last]:
            x = cell(x)
        return x

    def construct(self, x):
        return self._run(x, 0, 12)

    def get_layer_output(self, x, layer_name):
        """Output of the layer for images."""
        return self._run(x, 0, _position(layer_name))

    def forward_from(self, x, layer_name):
        """Logits from the output of the layer."""
        return self._run(x, _position(layer_name), 12)


class LeNet5Front(nn.Cell):
    """The layers of a `SplitLeNet5` up to one of them, sharing its weights.

    Args:
        network (SplitLeNet5): The whole network.
        layer_name (str): Last layer.

    Inputs:
        x (Tensor): Images [B, 1, 32, 32].
    """

    def __init__(self, network, layer_name):
        super().__init__(auto_prefix=False)
        self.network = network
        self.layers = _position(layer_name)

    def construct(self, x):
        return self.network._run(x, 0, self.layers)


class Conv1Decoder(nn.Cell):
    """From the output of conv1, [B, 6, 28, 28], to images [B, channels, 32, 32]."""

    def __init__(self, channels=1, width=16):
        super().__init__()
        self.grow = nn.Conv2dTranspose(6, width, 5, pad_mode="valid", has_bias=True)
        self.relu = nn.ReLU()
        self.mix = nn.Conv2d(width, channels, 3, pad_mode="same", has_bias=True)

    def construct(self, x):
        return self.mix(self.relu(self.grow(x)))


class Relu2Decoder(nn.Cell):
    """From the output of ReLU2, [B, 16, 10, 10], to images [B, channels, 32, 32]."""

    def __init__(self, channels=1, width=32):
        super().__init__()
        self.grow1 = nn.Conv2dTranspose(16, width, 5, pad_mode="valid", has_bias=True)
        self.unpool = nn.Conv2dTranspose(width, width, 2, stride=2, pad_mode="valid", has_bias=True)
        self.grow2 = nn.Conv2dTranspose(width, width // 2, 5, pad_mode="valid", has_bias=True)
        self.mix = nn.Conv2d(width // 2, channels, 3, pad_mode="same", has_bias=True)
        self.relu = nn.ReLU()

    def construct(self, x):
        x = self.relu(self.grow1(x))
        x = self.relu(self.unpool(x))
        return self.mix(self.relu(self.grow2(x)))


class ShadowFront(nn.Cell):
    """The attacker's stand-in for LeNet-5 up to conv1 or ReLU2, with weights of its own.

    Args:
        layer_name (str): 'conv1' or 'relu2'.
        num_channel (int): Channels of the image.
    """

    def __init__(self, layer_name, num_channel=1):
        super().__init__()
        convolution = nn.Conv2d(num_channel, 6, 5, pad_mode="valid")
        deeper = [nn.ReLU(), nn.MaxPool2d(2, 2), nn.Conv2d(6, 16, 5, pad_mode="valid"), nn.ReLU()]
        if layer_name not in ("conv1", "relu2"):
            raise ValueError(f"layer_name must be 'conv1' or 'relu2', but got {layer_name!r}.")
        self.layers = nn.SequentialCell([convolution] + (deeper if layer_name == "relu2" else []))

    def construct(self, x):
        return self.layers(x)
