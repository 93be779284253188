"""Suppressed training: any optimizer, both modes, exact zeros, exact sparsity, clear refusals."""
import logging

import mindspore as ms
import numpy as np
import pytest
from easydict import EasyDict
from mindspore import Tensor, nn
from mindspore.amp import FixedLossScaleManager
from mindspore.train import Model
from mindspore.train.callback import LossMonitor, RunContext
from suppress_nets import EPOCHS, PLAN, STEPS, Watch, data, layers, linked, loss_fn, masks_of, new_net, run

from mindarmour.privacy.sup_privacy import MaskLayerDes, SuppressCtrl, SuppressMasker, SuppressModel
from mindarmour.privacy.sup_privacy.sup_ctrl.conctrl import SuppressPrivacyFactory
from mindarmour.privacy.sup_privacy.train.model import TrainOneStepCell
from mindarmour.utils.logger import LogUtil

SIZES = {"conv1.weight": (36, 5), "fc1.weight": (11520, -1), "fc2.weight": (400, 10)}
OPTIMIZERS = {
    "sgd": lambda params: nn.SGD(params, 0.05),
    "nesterov": lambda params: nn.SGD(params, 0.05, momentum=0.9, nesterov=True, weight_decay=1e-2),
    "momentum": lambda params: nn.Momentum(params, 0.05, 0.9, weight_decay=1e-2),
    "adam": lambda params: nn.Adam(params, 0.05, weight_decay=1e-2),
    "lr schedule": lambda params: nn.Momentum(params, nn.exponential_decay_lr(0.05, 0.5, 40, STEPS, 1), 0.9),
    "lr cell": lambda params: nn.SGD(params, nn.ExponentialDecayLR(0.05, 0.5, 40)),
    "lr groups": lambda params: nn.SGD([{"params": params[:1], "lr": 0.01}, {"params": params[1:]}], 0.05),
}


def wanted_counts(step):
    """The documented schedule in NumPy: weights suppressed after `step`, for the plan of these tests."""
    first, total = STEPS + 1, (EPOCHS - 1) * STEPS
    last = (EPOCHS - 1) * STEPS + STEPS - 2
    due = [d for d in range(first, last, 2) if d <= step]
    target = 0.9 * (1 - (1 - (due[-1] - first) / total) ** 3) if due else 0.0
    target = 0.9 if step >= last else target
    return {name: min(int(size * target + 1e-6), size - max(floor, 0)) for name, (size, floor) in SIZES.items()}


@pytest.fixture
def graph():
    """Graph mode, for what does not depend on the mode."""
    ms.set_context(mode=ms.GRAPH_MODE)
    yield
    ms.set_context(mode=ms.PYNATIVE_MODE)


@pytest.mark.parametrize(("mode", "optimizer"), [*(("graph", name) for name in OPTIMIZERS), ("pynative", "nesterov"),
                                                 ("pynative", "adam"), ("pynative", "lr groups")], indirect=["mode"])
def test_any_optimizer_follows_the_schedule_with_exact_zeros(mode, optimizer):
    net = new_net()
    _, ctrl, watch = run(net, OPTIMIZERS[optimizer](net.trainable_params()))
    assert watch.suppressed == [wanted_counts(step) for step in range(1, EPOCHS * STEPS + 1)]
    assert watch.not_zero == 0
    zeros = {name: int((net.parameters_dict()[name].asnumpy() == 0).sum()) for name in SIZES}
    assert zeros == {"conv1.weight": 31, "fc1.weight": 10368, "fc2.weight": 360}


@pytest.mark.parametrize("optimizer", ["sgd", "momentum"])
def test_both_modes_suppress_the_same_weights(optimizer):
    results = []
    for mode in (ms.GRAPH_MODE, ms.PYNATIVE_MODE):
        ms.set_context(mode=mode)
        net = new_net()
        _, ctrl, _ = run(net, OPTIMIZERS[optimizer](net.trainable_params()))
        results.append((masks_of(ctrl), {item.name: item.asnumpy() for item in net.get_parameters()}))
    (graph_masks, graph_weights), (masks, weights) = results
    for name in masks:
        np.testing.assert_array_equal(graph_masks[name], masks[name])
    for name in weights:
        np.testing.assert_array_equal(graph_weights[name], weights[name])


def test_without_masks_yet_it_is_plain_training(graph):
    """Epoch 1 of the plan has no masks: it leaves the weights of a plain run."""
    weights = []
    for suppress in (True, False):
        net = new_net()
        optimizer = nn.Momentum(net.trainable_params(), 0.05, 0.9)
        if suppress:
            model, ctrl = linked(net, optimizer)
            model.train(1, data(), callbacks=[SuppressMasker(model, ctrl, partial_run=True)])
        else:
            Model(net, loss_fn(), optimizer).train(1, data())
        weights.append([item.asnumpy() for item in net.get_parameters()])
    for ours, plain in zip(*weights):
        np.testing.assert_array_equal(ours, plain)


def test_loss_scale(graph):
    net = new_net()
    optimizer = nn.Momentum(net.trainable_params(), 0.05, 0.9, loss_scale=128.0)
    manager = FixedLossScaleManager(128, drop_overflow_update=False)
    _, ctrl, watch = run(net, optimizer, model_args={"loss_scale_manager": manager})
    assert watch.suppressed[-1] == wanted_counts(EPOCHS * STEPS)
    assert watch.not_zero == 0


def test_fit_and_eval(graph):
    net = new_net()
    model, ctrl = linked(net, nn.SGD(net.trainable_params(), 0.05), model_args={"metrics": {"accuracy"}})
    model.fit(EPOCHS, data(), data(), callbacks=[SuppressMasker(model, ctrl)])
    assert ctrl.sparsity()["fc1.weight"] == pytest.approx(0.9)
    assert 0 <= model.eval(data())["accuracy"] <= 1


def test_a_diverging_weight_stays_suppressed(graph):
    net = new_net()
    model, ctrl, _ = run(net, nn.SGD(net.trainable_params(), 0.05))
    ms.ops.assign(net.fc1.weight, Tensor(np.full((80, 144), np.nan, np.float32)))
    ctrl.reset_zeros()
    kept = masks_of(ctrl)["fc1.weight"]
    assert np.all(net.fc1.weight.asnumpy()[~kept] == 0)
    assert np.all(np.isnan(net.fc1.weight.asnumpy()[kept]))


def test_parameters_keep_their_names(graph):
    net = new_net()
    before = [item.name for item in net.get_parameters()]
    model, ctrl, _ = run(net, nn.Adam(net.trainable_params(), 0.05))
    assert [item.name for item in net.get_parameters()] == before
    assert {item.name for item in model.train_network.get_parameters()} >= set(before)
    assert model.network_end is model.train_network


def test_descriptions_may_be_reused(graph):
    shared, sparsities = layers(), []
    for _ in range(2):
        net = new_net()
        _, ctrl, _ = run(net, nn.SGD(net.trainable_params(), 0.05), mask_layers=shared)
        sparsities.append(ctrl.calc_actual_sparse_for_layer(net, "fc1.weight"))
    assert sparsities == [0.9, 0.9]


def test_by_hand(mode):
    """A loop of one's own with the step cell and the controller's documented methods."""
    net = new_net()
    ctrl = SuppressPrivacyFactory.create(net, layers(), **PLAN)
    step = TrainOneStepCell(nn.WithLossCell(net, loss_fn()), nn.Momentum(net.trainable_params(), 0.05, 0.9),
                            suppress_ctrl=ctrl).set_train()
    batches = list(data().create_tuple_iterator(num_epochs=1))
    for epoch in range(1, EPOCHS + 1):
        for position, batch in enumerate(batches, 1):
            step(*batch)
            ctrl.update_status(epoch, (epoch - 1) * STEPS + position, position)
            if ctrl.mask_due:
                ctrl.update_mask(net, ctrl.position)
            ctrl.reset_zeros()
    assert {name: int((~mask).sum()) for name, mask in masks_of(ctrl).items()} == wanted_counts(EPOCHS * STEPS)
    assert np.count_nonzero(net.fc1.weight.asnumpy()) == 1152


def test_a_plain_model_takes_the_masker_too(mode):
    net = new_net()
    model = Model(net, loss_fn(), nn.Momentum(net.trainable_params(), 0.05, 0.9))
    ctrl = SuppressPrivacyFactory.create(net, layers(), **PLAN)
    watch = Watch(ctrl)
    model.train(EPOCHS, data(), callbacks=[SuppressMasker(model, ctrl), watch])
    assert watch.suppressed == [wanted_counts(step) for step in range(1, EPOCHS * STEPS + 1)]
    assert watch.not_zero == 0


class TestRefusals:
    """What would have masked nothing is refused, with a sentence that says what to do."""

    def model(self, **kwargs):
        net = new_net()
        return SuppressModel(net, loss_fn(), nn.SGD(net.trainable_params(), 0.05), **kwargs)

    def test_forgotten_link(self):
        model = self.model()
        ctrl = SuppressPrivacyFactory.create(model._network, layers(), **PLAN)
        for train in (model.train, model.fit):
            with pytest.raises(ValueError, match="link_suppress_ctrl"):
                train(EPOCHS, data(), callbacks=[SuppressMasker(model, ctrl)])

    @pytest.mark.parametrize("callbacks", [None, [], LossMonitor(), [LossMonitor()]])
    def test_forgotten_masker(self, callbacks):
        net = new_net()
        model, _ = linked(net, nn.SGD(net.trainable_params(), 0.05))
        with pytest.raises(ValueError, match="SuppressMasker"):
            model.train(EPOCHS, data(), callbacks=callbacks)

    def test_masker_of_another_controller(self):
        net = new_net()
        model, _ = linked(net, nn.SGD(net.trainable_params(), 0.05))
        other = SuppressPrivacyFactory.create(net, layers(), **PLAN)
        with pytest.raises(ValueError, match="with the linked"):
            model.train(EPOCHS, data(), callbacks=[SuppressMasker(model, other)])

    def test_controller_of_another_network(self):
        ctrl = SuppressPrivacyFactory.create(new_net(), layers(), **PLAN)
        with pytest.raises(ValueError, match="same network"):
            self.model().link_suppress_ctrl(ctrl)

    def test_wrong_grad_idx_names_the_right_one(self):
        net = new_net()
        with pytest.raises(ValueError, match="grad_idx of 'fc1.weight' must be 1.*got 2"):
            linked(net, nn.SGD(net.trainable_params(), 0.05),
                   mask_layers=[MaskLayerDes("fc1.weight", 2, False, False, -1)])

    def test_grad_idx_is_the_index_in_the_optimizer(self):
        net = new_net()
        groups = [{"params": [net.fc1.weight]}, {"params": [net.conv1.weight, net.fc2.weight]}]
        linked(net, nn.SGD(groups, 0.05), mask_layers=[MaskLayerDes("fc1.weight", 0, False, False, -1)])

    def test_a_layer_the_optimizer_does_not_train(self):
        net = new_net()
        with pytest.raises(ValueError, match="must train conv1.weight"):
            linked(net, nn.SGD(net.fc1.trainable_params(), 0.05))

    @pytest.mark.parametrize("optimizer", ["sgd", "adam", "lr schedule", "lr cell"])
    def test_other_lr(self, optimizer):
        net = new_net()
        with pytest.raises(ValueError, match="lr must be .*0.05, but got 0.1"):
            linked(net, OPTIMIZERS[optimizer](net.trainable_params()), lr=0.1)

    def test_lr_may_be_left_out_or_large(self):
        net = new_net()
        linked(net, nn.SGD(net.trainable_params(), 0.7), lr=0.7)
        linked(net, nn.SGD(net.trainable_params(), 0.7), lr=None)

    def test_other_batch_num(self):
        net = new_net()
        model, ctrl = linked(net, nn.SGD(net.trainable_params(), 0.05))
        with pytest.raises(ValueError, match="batch_num must be the 4 steps.*got 6"):
            model.train(EPOCHS, data(4), callbacks=[SuppressMasker(model, ctrl)])

    def test_too_few_epochs(self):
        net = new_net()
        model, ctrl = linked(net, nn.SGD(net.trainable_params(), 0.05))
        with pytest.raises(ValueError, match="end_epoch=4 .*step 18 .*step 22.*partial_run"):
            model.train(EPOCHS - 1, data(), callbacks=[SuppressMasker(model, ctrl)])

    def test_sink_mode(self):
        """MindSpore falls back on a CPU; elsewhere callbacks run once per epoch, as their arguments tell."""
        net = new_net()
        model, ctrl = linked(net, nn.SGD(net.trainable_params(), 0.05))
        arguments = EasyDict(dataset_sink_mode=True, batch_num=STEPS, epoch_num=EPOCHS)
        with pytest.raises(ValueError, match="dataset_sink_mode must be False"):
            SuppressMasker(model, ctrl).on_train_begin(RunContext(arguments))

    def test_types(self):
        net = new_net()
        model, ctrl = linked(net, nn.SGD(net.trainable_params(), 0.05))
        with pytest.raises(TypeError, match="suppress_pri_ctrl"):
            model.link_suppress_ctrl(net)
        with pytest.raises(TypeError, match="network"):
            SuppressModel(None, loss_fn(), nn.SGD(net.trainable_params(), 0.05))
        with pytest.raises(TypeError, match="optimizer"):
            SuppressModel(net, loss_fn(), None)
        with pytest.raises(TypeError, match="model"):
            SuppressMasker(net, ctrl)
        with pytest.raises(TypeError, match="suppress_ctrl"):
            SuppressMasker(model, None)
        with pytest.raises(TypeError, match="progress"):
            SuppressMasker(model, ctrl, progress=1)
        with pytest.raises(TypeError, match="partial_run"):
            SuppressMasker(model, ctrl, partial_run=None)
        with pytest.raises(TypeError, match="suppress_ctrl"):
            TrainOneStepCell(net, nn.SGD(net.trainable_params(), 0.05), suppress_ctrl=None)


def test_progress_bar_and_log_line(capsys):
    net = new_net()
    model, ctrl = linked(net, nn.SGD(net.trainable_params(), 0.05))
    records = []
    handler = logging.Handler()
    handler.emit = lambda record: records.append(record.getMessage())
    LogUtil.get_instance().add_handler(handler)
    LogUtil.get_instance().set_level("INFO")
    try:
        model.train(EPOCHS, data(), callbacks=[SuppressMasker(model, ctrl, progress=True)])
    finally:
        LogUtil.get_instance().set_level("WARNING")
        logging.getLogger("MA").removeHandler(handler)
    assert f"{EPOCHS * STEPS}/{EPOCHS * STEPS}" in capsys.readouterr().err
    assert sum("suppressed" in line for line in records) == EPOCHS


def test_top_level_names():
    import mindarmour
    assert mindarmour.SuppressModel is SuppressModel
    assert mindarmour.SuppressCtrl is SuppressCtrl
    assert mindarmour.SuppressMasker is SuppressMasker
