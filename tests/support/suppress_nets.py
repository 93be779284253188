"""A small network with every kind of described layer, its data, and runs on it."""
import mindspore as ms
import mindspore.dataset as ds
import numpy as np
from mindspore import nn
from mindspore.train.callback import Callback

from mindarmour.privacy.sup_privacy import MaskLayerDes, SuppressMasker, SuppressModel, SuppressPrivacyFactory

STEPS, EPOCHS = 6, 4
PLAN = {"end_epoch": EPOCHS, "batch_num": STEPS, "start_epoch": 2, "mask_times": 9, "lr": 0.05, "sparse_end": 0.9}


class Net(nn.Cell):
    """A convolution of 36 weights, a dense layer of 11,520 (large) and one of 400."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 4, 3, pad_mode="valid")
        self.fc1 = nn.Dense(4 * 36, 80)
        self.fc2 = nn.Dense(80, 5)
        self.flatten = nn.Flatten()
        self.relu = nn.ReLU()

    def construct(self, x):
        return self.fc2(self.relu(self.fc1(self.flatten(self.relu(self.conv1(x))))))


def new_net(seed=3):
    """The network with the same weights at each call."""
    ms.set_seed(seed)
    return Net()


def data(steps=STEPS):
    """`steps` batches of 8 images, always in the same order."""
    rng = np.random.default_rng(0)
    images = rng.normal(size=(8 * steps, 1, 8, 8)).astype(np.float32)
    return ds.NumpySlicesDataset((images, rng.integers(0, 5, 8 * steps).astype(np.int32)), ["image", "label"],
                                 shuffle=False).batch(8)


def layers():
    """One description of each kind: noise, floor, large."""
    return [MaskLayerDes("conv1.weight", 0, False, True, 5), MaskLayerDes("fc1.weight", 1, True, True, -1),
            MaskLayerDes("fc2.weight", 3, True, False, 10)]


def loss_fn():
    """MindSpore computes this loss bit for bit alike in both modes."""
    return nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean")


class Watch(Callback):
    """Notes after each step how many weights are suppressed and how many of those are not exactly 0."""

    def __init__(self, ctrl):
        super().__init__()
        self.ctrl = ctrl
        self.suppressed = []
        self.not_zero = 0

    def on_train_step_end(self, run_context):
        masks = masks_of(self.ctrl)
        self.suppressed.append({name: int((~mask).sum()) for name, mask in masks.items()})
        for _, weight in self.ctrl.masked_parameters:
            self.not_zero += np.count_nonzero(weight.asnumpy()[~masks[weight.name]])


def masks_of(ctrl):
    """Parameter name to mask, True where a weight is kept."""
    return {name.split(".", 1)[1]: mask.asnumpy().copy() for name, mask in ctrl.parameters_dict().items()
            if name.startswith("suppress_mask.")}


def linked(net, optimizer, *, mask_layers=None, model_args=None, **plan):
    """Model and controller of a network, linked."""
    model = SuppressModel(net, loss_fn(), optimizer, **(model_args or {}))
    ctrl = SuppressPrivacyFactory.create(net, mask_layers or layers(), **{**PLAN, **plan})
    model.link_suppress_ctrl(ctrl)
    return model, ctrl


def run(net, optimizer, *, epochs=EPOCHS, **kwargs):
    """Train to the end; returns model, controller and what was watched."""
    model, ctrl = linked(net, optimizer, **kwargs)
    watch = Watch(ctrl)
    model.train(epochs, data(), callbacks=[watch, SuppressMasker(model, ctrl)])
    return model, ctrl, watch
