"""The documented LeNet-5 settings on real digits: the schedule to the weight, and what accuracy it costs."""
import mindspore as ms
import numpy as np
import pytest
from mindspore import nn
from suppress_nets import Watch, masks_of

from examples.privacy.sup_privacy import training
from examples.privacy.sup_privacy.sup_privacy_config import mnist_cfg
from mindarmour.privacy.sup_privacy import SuppressMasker, SuppressModel

SIZES = {"conv1.weight": (150, 10), "conv2.weight": (2400, 150), "fc1.weight": (48000, -1), "fc2.weight": (10080, -1),
         "fc3.weight": (840, 50)}


def documented_counts(end_epoch, start_epoch, batch_num):
    """The documented schedule in NumPy: suppressed weights of each layer after each step."""
    total = (end_epoch - start_epoch + 1) * batch_num
    first, last = (start_epoch - 1) * batch_num + 1, end_epoch * batch_num - 2
    interval = -(-total // round(total / 15))
    counts, target = [], 0.0
    for step in range(1, end_epoch * batch_num + 1):
        if step == last:
            target = 0.95
        elif first <= step < last and (step - first) % interval == 0:
            target = 0.95 - 0.95 * (1 - (step - first) / total) ** 3
        counts.append({name: min(int(size * target + 1e-6), size - max(floor, 0))
                       for name, (size, floor) in SIZES.items()})
    return counts


def train(cfg, batch_num):
    """The suppressed LeNet-5 of the example, watched; epochs of `batch_num` batches."""
    train_data, test_data = training.datasets(None, cfg)
    train_data = train_data.take(batch_num)
    net = training.new_net(cfg)
    model = SuppressModel(net, training.loss_fn(), nn.SGD(net.trainable_params(), cfg.lr), metrics={"accuracy"})
    ctrl = training.controller(net, cfg, train_data.get_dataset_size(), lr=cfg.lr)
    model.link_suppress_ctrl(ctrl)
    watch = Watch(ctrl)
    model.train(cfg.end_epoch, train_data, callbacks=[SuppressMasker(model, ctrl), watch])
    return net, ctrl, watch, model.eval(test_data)["accuracy"]


@pytest.mark.slow
def test_documented_settings_reach_the_target_within_two_points_of_accuracy():
    ms.set_context(mode=ms.GRAPH_MODE)
    net, ctrl, watch, suppressed = train(mnist_cfg, 125)  # 4,000 digits
    assert watch.suppressed == documented_counts(10, 3, 125)
    assert watch.not_zero == 0
    assert ctrl.calc_actual_sparse_for_fc1(net) == 0.95
    train_data, test_data = training.datasets(None, mnist_cfg)
    _, model = training.train_ordinary(train_data, mnist_cfg)
    ordinary = model.eval(test_data)["accuracy"]
    assert suppressed > 0.94
    assert suppressed >= ordinary - 0.02


@pytest.mark.slow
def test_both_modes_suppress_the_same_weights_of_lenet():
    cfg = type(mnist_cfg)(mnist_cfg, end_epoch=1, start_epoch=1)
    masks = []
    for mode in (ms.GRAPH_MODE, ms.PYNATIVE_MODE):
        ms.set_context(mode=mode)
        _, ctrl, watch, _ = train(cfg, 40)
        assert watch.suppressed == documented_counts(1, 1, 40)
        assert watch.not_zero == 0
        masks.append(masks_of(ctrl))
    for name in SIZES:
        np.testing.assert_array_equal(masks[0][name], masks[1][name])
