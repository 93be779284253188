"""LeNet-5 for 32x32 images."""
from mindspore import nn


class LeNet5(nn.Cell):
    """LeNet-5: two convolutions without bias and three dense layers, as in the documentation.

    Args:
        num_class (int): Classes.
        num_channel (int): Channels of the image.
        activation (str): 'relu' as in the documentation, or 'tanh': bounded activations keep gradients small,
            which suits clipping (Papernot et al. 2021, "Tempered sigmoid activations for deep learning with
            differential privacy").

    Inputs:
        x (Tensor): Images float32 [B, num_channel, 32, 32].

    Outputs:
        Tensor, logits float32 [B, num_class].
    """

    def __init__(self, num_class=10, num_channel=1, activation="relu"):
        super().__init__()
        self.conv1 = nn.Conv2d(num_channel, 6, 5, pad_mode="valid")
        self.conv2 = nn.Conv2d(6, 16, 5, pad_mode="valid")
        self.fc1 = nn.Dense(16 * 5 * 5, 120)
        self.fc2 = nn.Dense(120, 84)
        self.fc3 = nn.Dense(84, num_class)
        self.activation = {"relu": nn.ReLU, "tanh": nn.Tanh}[activation]()
        self.max_pool2d = nn.MaxPool2d(kernel_size=2, stride=2)
        self.flatten = nn.Flatten()

    def construct(self, x):
        x = self.max_pool2d(self.activation(self.conv1(x)))
        x = self.max_pool2d(self.activation(self.conv2(x)))
        x = self.flatten(x)
        x = self.activation(self.fc1(x))
        x = self.activation(self.fc2(x))
        return self.fc3(x)
