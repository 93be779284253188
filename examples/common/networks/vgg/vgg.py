"""VGG networks for images of any size (Simonyan and Zisserman 2015)."""
from mindspore import nn

# Output channels of the 3x3 convolutions; 0 halves height and width.
_VGG16 = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0)
_SMALL = (16, 0, 32, 32, 0, 64, 64, 0)


class Vgg(nn.Cell):
    """Convolutions with normalisation, max pooling, and a classifier of dense layers.

    Args:
        layers (Sequence[int]): Output channels of each convolution, 0 for a max pooling.
        num_classes (int): Classes.
        image_size (int): Height and width of the images.
        num_channel (int): Channels of the images.
        hidden (Sequence[int]): Sizes of the hidden dense layers.
        norm (str): 'batch', or 'group' for differentially private training, which cannot use batch statistics.
        dropout (float): Probability that a hidden unit is dropped.

    Inputs:
        x (Tensor): Images float32 [B, num_channel, image_size, image_size].

    Outputs:
        Tensor, logits float32 [B, num_classes].
    """

    def __init__(self, layers, num_classes, image_size, num_channel=3, hidden=(4096, 4096), norm="batch", dropout=0.5):
        super().__init__()
        self.features = nn.SequentialCell(_features(layers, num_channel, norm))
        self.flatten = nn.Flatten()
        side = image_size // 2 ** layers.count(0)
        last = [channels for channels in layers if channels][-1]
        self.classifier = nn.SequentialCell(_classifier(last * side * side, hidden, num_classes, dropout))

    def construct(self, x):
        return self.classifier(self.flatten(self.features(x)))


def _features(layers, channels, norm):
    cells = []
    for width in layers:
        if width:
            normalise = nn.BatchNorm2d(width) if norm == "batch" else nn.GroupNorm(8, width)
            cells += [nn.Conv2d(channels, width, 3, pad_mode="pad", padding=1, weight_init="HeNormal"), normalise,
                      nn.ReLU()]
            channels = width
        else:
            cells.append(nn.MaxPool2d(2, 2))
    return cells


def _classifier(size, hidden, num_classes, dropout):
    cells = []
    for width in hidden:
        cells += [nn.Dense(size, width), nn.ReLU()]
        if dropout:
            cells.append(nn.Dropout(p=dropout))
        size = width
    return [*cells, nn.Dense(size, num_classes)]


def vgg16(num_classes=1000, image_size=224, num_channel=3, **settings):
    """VGG16: thirteen convolutions and three dense layers."""
    return Vgg(_VGG16, num_classes, image_size, num_channel, **settings)


def vgg_small(num_classes=10, image_size=32, num_channel=1, **settings):
    """Five convolutions and two dense layers: minutes on a CPU for small images."""
    return Vgg(_SMALL, num_classes, image_size, num_channel, **{"hidden": (128,), "dropout": 0.0, **settings})
