"""Suppression on top of a DPModel: exact masks, and not a word changed in what the run guarantees."""
import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn
from suppress_nets import EPOCHS, PLAN, STEPS, Watch, data, loss_fn, masks_of

from mindarmour.privacy.diff_privacy import DPModel, NoiseMechanismsFactory
from mindarmour.privacy.sup_privacy import MaskLayerDes, SuppressMasker, SuppressPrivacyFactory

BATCH = 8
LARGE, SMALL = "1.weight", "3.weight"
PRIVATE = pytest.mark.filterwarnings("ignore::mindarmour.privacy.errors.PrivacyWarning")


def new_mlp(seed=3):
    """A dense layer of 10,240 weights (large) and one of 800; compiles faster than a convolution."""
    ms.set_seed(seed)
    return nn.SequentialCell(nn.Flatten(), nn.Dense(64, 160), nn.ReLU(), nn.Dense(160, 5))


def mlp_layers():
    """The layers without floor, cap and noise of their own."""
    return [MaskLayerDes(LARGE, 0, False, False, -1), MaskLayerDes(SMALL, 2, False, False, -1, 1e9)]


def dp_model(net, *, noise_multiplier=0.5, lr=0.05):
    mechanism = NoiseMechanismsFactory.create("Gaussian", norm_bound=1.0, initial_noise_multiplier=noise_multiplier,
                                              seed=5)
    return DPModel(micro_batches=None, norm_bound=1.0, noise_mech=mechanism, network=net, loss_fn=loss_fn(),
                   optimizer=nn.SGD(net.trainable_params(), lr))


def run(*, suppress=True, epochs=EPOCHS, steps=STEPS, noise_multiplier=0.5, watch=Watch, **plan):
    """A DP run of the small network; returns network, model, controller and watcher."""
    net = new_mlp()
    model = dp_model(net, noise_multiplier=noise_multiplier)
    ctrl = SuppressPrivacyFactory.create(net, mlp_layers(), **{**PLAN, **plan})
    watcher = watch(ctrl)
    model.train(epochs, data(steps), callbacks=[SuppressMasker(model, ctrl), watcher] if suppress else [])
    return net, model, ctrl, watcher


@PRIVATE
def test_masks_hold_on_a_dp_model(mode):
    net, _, _, watch = run()
    assert watch.not_zero == 0
    assert watch.suppressed[-1] == {LARGE: 9216, SMALL: 720}
    assert [int((item.asnumpy() == 0).sum()) for item in net.trainable_params()[::2]] == [9216, 720]


@PRIVATE
def test_a_masked_step_is_the_private_step_with_weights_set_to_zero_afterwards():
    """Equal weights and equal noise: what remains is the plain private result, masked, and the ledger is the same."""
    ms.set_context(mode=ms.GRAPH_MODE)
    plan = {"end_epoch": 1, "start_epoch": 1, "batch_num": 1, "mask_times": 1, "sparse_end": 0.4}
    net, model, ctrl, _ = run(epochs=1, steps=1, **plan)
    plain_net, plain_model, _, _ = run(epochs=1, steps=1, suppress=False)
    kept = masks_of(ctrl)
    assert {name: int((~mask).sum()) for name, mask in kept.items()} == {LARGE: 4096, SMALL: 320}
    for ours, plain in zip(net.get_parameters(), plain_net.get_parameters()):
        expected = np.where(kept.get(ours.name, True), plain.asnumpy(), 0)
        np.testing.assert_array_equal(ours.asnumpy(), expected)
    assert model.ledger.entries == plain_model.ledger.entries
    assert model.ledger.steps == 1


def test_masks_are_a_function_of_the_released_weights_alone():
    """Post-processing: equal weights give equal masks, whatever came before."""
    rng = np.random.default_rng(2)
    released = [rng.normal(size=(160, 64)).astype(np.float32), rng.normal(size=(5, 160)).astype(np.float32)]
    masks = []
    for seed in (3, 9):  # two networks with other histories
        net = new_mlp(seed)
        ctrl = SuppressPrivacyFactory.create(net, mlp_layers(), **PLAN)
        for parameter, value in zip(net.trainable_params()[::2], released):
            ms.ops.assign(parameter, Tensor(value))
        ctrl.update_mask(net, 15)
        masks.append(masks_of(ctrl))
    for name in masks[0]:
        np.testing.assert_array_equal(masks[0][name], masks[1][name])


class _Moves(Watch):
    """Notes how far the kept weights of the large layer move in each step."""

    def __init__(self, ctrl):
        super().__init__(ctrl)
        self.weight = {weight.name: weight for _, weight in ctrl.masked_parameters}[LARGE]
        self.before = None
        self.moves = []

    def on_train_step_end(self, run_context):
        now = self.weight.asnumpy().copy()
        if self.before is not None:
            self.moves.append((now - self.before)[masks_of(self.ctrl)[LARGE]])
        self.before = now


@PRIVATE
def test_kept_weights_carry_the_full_noise():
    """With a multiplier of 300 the step is noise: standard deviation lr * 300 * C / 8 on each kept weight."""
    ms.set_context(mode=ms.GRAPH_MODE)
    _, model, _, watch = run(noise_multiplier=300.0, watch=_Moves)
    measured = np.concatenate(watch.moves[STEPS:]).std()
    expected = 0.05 * 300.0 / BATCH
    # some 50,000 draws: 0.3 % standard error
    assert measured == pytest.approx(expected, rel=0.03)
    assert measured != pytest.approx(0.7 * expected, rel=0.03)
    assert measured != pytest.approx(1.3 * expected, rel=0.03)
    assert model.ledger.steps == EPOCHS * STEPS
    assert {entry.event.noise_multiplier for entry in model.ledger.entries} == {300.0}


@pytest.mark.parametrize(("changes", "message"), [
    ({"mask_layers": [MaskLayerDes(LARGE, 1, False, False, -1)]}, "must be 0"), ({"lr": 0.2}, "lr must be")])
def test_contradictions_are_refused_on_a_dp_model_too(changes, message):
    net = new_mlp()
    ctrl = SuppressPrivacyFactory.create(net, **{"mask_layers": mlp_layers(), **PLAN, **changes})
    model = dp_model(net)
    with pytest.raises(ValueError, match=message):
        model.train(EPOCHS, data(), callbacks=[SuppressMasker(model, ctrl)])
