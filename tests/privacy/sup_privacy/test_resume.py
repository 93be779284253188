"""A run that stops and resumes from a checkpoint ends with the masks of one that ran through."""
import mindspore as ms
import numpy as np
import pytest
from mindspore import nn
from mindspore.train import Model
from mindspore.train.callback import CheckpointConfig, ModelCheckpoint
from suppress_nets import EPOCHS, PLAN, STEPS, data, layers, linked, loss_fn, masks_of, new_net, run

from mindarmour.privacy.sup_privacy import SuppressMasker, SuppressPrivacyFactory


def momentum(net):
    return nn.Momentum(net.trainable_params(), 0.05, 0.9)


def outcome(net, ctrl):
    return masks_of(ctrl), {item.name: item.asnumpy() for item in net.get_parameters()}, ctrl.position


def assert_same(one, other):
    for left, right in zip(one[:2], other[:2]):
        assert left.keys() == right.keys()
        for name in left:
            np.testing.assert_array_equal(left[name], right[name])
    assert one[2] == other[2] == EPOCHS * STEPS


@pytest.mark.parametrize("stop", [2, 3])
def test_resumed_equals_uninterrupted(mode, tmp_path, stop):
    net = new_net()
    _, ctrl, _ = run(net, momentum(net))
    uninterrupted = outcome(net, ctrl)

    net = new_net()
    model, ctrl = linked(net, momentum(net))
    # named behind the checkpoint on purpose: SuppressModel calls the masker first all the same
    saver = ModelCheckpoint("half", str(tmp_path), CheckpointConfig(STEPS, keep_checkpoint_max=9))
    model.train(stop, data(), callbacks=[saver, SuppressMasker(model, ctrl, partial_run=True)])

    net = new_net(seed=9)  # other weights, to be replaced by the checkpoint's
    model, ctrl = linked(net, momentum(net), seed=3)
    saved = ms.load_checkpoint(str(tmp_path / f"half-{stop}_{STEPS}.ckpt"))
    ms.load_param_into_net(model.train_network, saved)
    assert ctrl.position == stop * STEPS
    model.train(EPOCHS, data(), callbacks=[SuppressMasker(model, ctrl)], initial_epoch=stop)
    assert_same(outcome(net, ctrl), uninterrupted)


def test_controller_checkpoint_beside_a_plain_model(tmp_path):
    ms.set_context(mode=ms.GRAPH_MODE)
    results = []
    for interrupted in (False, True):
        net = new_net()
        model = Model(net, loss_fn(), nn.SGD(net.trainable_params(), 0.05))
        ctrl = SuppressPrivacyFactory.create(net, layers(), **PLAN)
        if interrupted:
            model.train(2, data(), callbacks=[SuppressMasker(model, ctrl, partial_run=True)])
            ms.save_checkpoint(ctrl, str(tmp_path / "masks.ckpt"))
            ms.save_checkpoint(net, str(tmp_path / "net.ckpt"))
            net = new_net(seed=9)
            model = Model(net, loss_fn(), nn.SGD(net.trainable_params(), 0.05))
            ctrl = SuppressPrivacyFactory.create(net, layers(), **PLAN, seed=3)
            ms.load_param_into_net(net, ms.load_checkpoint(str(tmp_path / "net.ckpt")))
            ms.load_param_into_net(ctrl, ms.load_checkpoint(str(tmp_path / "masks.ckpt")))
        model.train(EPOCHS, data(), callbacks=[SuppressMasker(model, ctrl)], initial_epoch=2 if interrupted else 0)
        results.append(outcome(net, ctrl))
    assert_same(*results)


def test_masks_without_position_are_noticed(tmp_path):
    """Weights alone are no resume: the run would end before the schedule does, and says so."""
    net = new_net()
    model, ctrl = linked(net, momentum(net))
    with pytest.raises(ValueError, match="end_epoch=4 must be reached"):
        model.train(EPOCHS, data(), callbacks=[SuppressMasker(model, ctrl)], initial_epoch=2)


def test_a_plain_model_wants_the_masker_before_its_checkpoints(tmp_path):
    net = new_net()
    model = Model(net, loss_fn(), momentum(net))
    ctrl = SuppressPrivacyFactory.create(net, layers(), **PLAN)
    saver = ModelCheckpoint("x", str(tmp_path))
    with pytest.raises(ValueError, match="before ModelCheckpoint"):
        model.train(EPOCHS, data(), callbacks=[saver, SuppressMasker(model, ctrl)])


def test_checkpoints_load_into_a_plain_network(tmp_path):
    """The user's parameters keep their names in the checkpoint."""
    ms.set_context(mode=ms.GRAPH_MODE)
    net = new_net()
    model, ctrl = linked(net, momentum(net))
    saver = ModelCheckpoint("end", str(tmp_path), CheckpointConfig(EPOCHS * STEPS))
    model.train(EPOCHS, data(), callbacks=[SuppressMasker(model, ctrl), saver])
    other = new_net(seed=9)
    missing, _ = ms.load_param_into_net(other, ms.load_checkpoint(str(tmp_path / f"end-{EPOCHS}_{STEPS}.ckpt")))
    assert missing == []
    for mine, theirs in zip(net.get_parameters(), other.get_parameters()):
        np.testing.assert_array_equal(mine.asnumpy(), theirs.asnumpy())
