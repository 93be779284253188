"""The documented settings of suppress-privacy training, and their scaling to a smaller data set."""
from easydict import EasyDict

from mindarmour.privacy.sup_privacy import MaskLayerDes

# For 60,000 images; masks are then chosen every 15 steps.
mnist_cfg = EasyDict({
    "num_classes": 10,
    "lr": 0.10,
    "batch_size": 32,
    "end_epoch": 10,
    "start_epoch": 3,
    "mask_times": 1000,
    "sparse_start": 0.0,
    "sparse_end": 0.95,
    "image_size": 32,
    "seed": 1,
})
INTERVAL = 15


def mask_layers():
    """The documented layers of LeNet-5."""
    return [MaskLayerDes("conv1.weight", 0, False, True, 10),
            MaskLayerDes("conv2.weight", 1, False, True, 150),
            MaskLayerDes("fc1.weight", 2, True, False, -1),
            MaskLayerDes("fc2.weight", 4, True, False, -1),
            MaskLayerDes("fc3.weight", 6, True, False, 50)]


def mask_times(batch_num, start_epoch, end_epoch):
    """How often masks have to be chosen to keep the documented interval of 15 steps."""
    return max(1, round((end_epoch - start_epoch + 1) * batch_num / INTERVAL))
