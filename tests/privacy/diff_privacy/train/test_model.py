"""DPModel: the update it makes, its noise, its checks, both modes."""
import math
import warnings

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn
from mindspore.train import Accuracy, CheckpointConfig, LossMonitor, ModelCheckpoint
from scipy import stats
from small_models import ROWS, dataset_of, loss_fn, model_of, noise, weights
from small_networks import batch_for, dense, flat

from mindarmour.privacy.diff_privacy import (
    AutomaticClipping,
    ClipMechanismsFactory,
    DPModel,
    DPOptimizerClassFactory,
    PerLayerClipping,
    PoissonSampler,
    clipped_gradient_fn,
)
from mindarmour.privacy.errors import PrivacyWarning


class Silent(nn.Cell):
    """A network without gradient: its update is pure noise."""

    def __init__(self, size=4000):
        super().__init__()
        self.weight = ms.Parameter(Tensor(np.zeros(size), ms.float32), name="weight")

    def construct(self, x):
        return (self.weight.sum() * 0.0) * x


def silent_update(model, columns=None):
    """Change of the weights in one step of a silent network, times the units."""
    columns = columns or (Tensor(np.zeros((ROWS, 1), np.float32)), Tensor(np.zeros((ROWS, 1), np.float32)))
    network = model.train_network.network
    before = weights(network)
    model.train_network(*columns)
    return (weights(network) - before) * ROWS


@pytest.mark.parametrize("units, reduction", [(None, "mean"), (4, "sum")])
def test_update_is_the_clipped_sum_divided_by_the_units(units, reduction, mode):
    network = dense()
    columns = batch_for("dense", ROWS)
    expected = flat(clipped_gradient_fn(network, loss_fn(reduction), norm_bound=0.2, micro_batches=units,
                                        engine="loop")(*columns).total) / (units or ROWS)
    before = weights(network)
    model = model_of(network, bound=0.2, micro_batches=units, loss_fn=loss_fn(reduction), lr=0.5)
    model.train(1, dataset_of(columns))
    np.testing.assert_allclose(before - weights(network), 0.5 * expected, rtol=1e-3, atol=1e-6)


def test_noise_has_the_stated_scale_and_follows_the_bound(mode):
    model = model_of(Silent(), multiplier=1.5, bound=2.0, loss_fn=nn.MSELoss(), engine="vmap")
    for bound in (2.0, 0.25):
        model.train_network.norm_bound.set_data(Tensor(bound, ms.float32))
        sample = silent_update(model) / (1.5 * bound)
        assert stats.kstest(sample, "norm").pvalue > 1e-3
        assert stats.kstest(sample * 1.3, "norm").pvalue < 1e-9
        assert stats.kstest(sample * 0.7, "norm").pvalue < 1e-9


def test_equal_shapes_and_later_steps_get_independent_noise():
    class Twins(nn.Cell):
        def __init__(self):
            super().__init__()
            self.a, self.b = Silent(500), Silent(500)

        def construct(self, x):
            return self.a(x) + self.b(x)

    for seed in (0, 7):
        model = model_of(Twins(), multiplier=1.0, loss_fn=nn.MSELoss(), seed=seed, engine="vmap")
        draws = [part for _ in range(2) for part in np.split(silent_update(model), 2)]
        correlations = np.corrcoef(draws)[np.triu_indices(4, 1)]
        assert np.abs(correlations).max() < 5 / math.sqrt(500)


def test_two_runs_after_set_seed_differ_with_seed_0_and_agree_with_another(mode):
    def update(seed):
        ms.set_seed(1)
        return silent_update(model_of(Silent(50), multiplier=1.0, loss_fn=nn.MSELoss(), seed=seed, engine="vmap"))

    assert not np.array_equal(update(0), update(0))
    assert np.array_equal(update(7), update(7))


def test_noise_decays_as_recorded():
    network = Silent()
    model = DPModel(micro_batches=None, norm_bound=1.0, network=network, loss_fn=nn.MSELoss(), engine="vmap",
                    noise_mech=noise(2.0, noise_decay_rate=0.5, decay_policy="Step"),
                    optimizer=nn.SGD(network.trainable_params(), 1.0))
    spreads = [silent_update(model).std() for _ in range(3)]
    assert spreads == pytest.approx([2.0, 1.0, 0.5], rel=0.05)
    assert [e.event.noise_multiplier for e in model.ledger.entries] == [2.0, 1.0, 0.5]


@pytest.mark.parametrize("manager, optimizer_scale", [
    (ms.FixedLossScaleManager(1024, False), 1024.0), (ms.FixedLossScaleManager(1024, False), 1.0)])
def test_clipping_acts_on_unscaled_gradients(manager, optimizer_scale):
    columns = batch_for("dense", ROWS)
    updates = []
    for scaled in (False, True):
        ms.set_seed(3)
        network = dense()
        before = weights(network)
        extra = {"loss_scale_manager": manager} if scaled else {}
        optimizer = nn.SGD(network.trainable_params(), 1.0, loss_scale=optimizer_scale if scaled else 1.0)
        model_of(network, bound=0.2, optimizer=optimizer, engine="vmap", **extra).train(1, dataset_of(columns))
        updates.append(before - weights(network))
    np.testing.assert_allclose(updates[1], updates[0], rtol=1e-3, atol=1e-6)


def test_parameter_groups_keep_each_gradient_with_its_parameter():
    columns = batch_for("dense", ROWS)
    network = dense()
    expected = clipped_gradient_fn(network, loss_fn(), norm_bound=0.2, engine="vmap")(*columns).total
    before = [p.asnumpy().copy() for p in network.trainable_params()]
    parameters = network.trainable_params()
    groups = [{"params": parameters[2:], "lr": 1.0}, {"params": parameters[:2], "lr": 0.5}]
    model_of(network, bound=0.2, optimizer=nn.SGD(groups, 1.0), engine="vmap").train_network(*columns)
    for i, (old, parameter) in enumerate(zip(before, parameters)):
        lr = 0.5 if i < 2 else 1.0
        np.testing.assert_allclose(old - parameter.asnumpy(), lr * expected[i].asnumpy() / ROWS, rtol=1e-3, atol=1e-6)


def test_adaptive_bound_moves_by_the_unclipped_fraction(mode):
    network = dense()
    clip = ClipMechanismsFactory.create("Gaussian", learning_rate=0.5, target_unclipped_quantile=0.9,
                                        fraction_stddev=1e-7)
    model = model_of(network, bound=1e-3, clip_mech=clip)
    columns = batch_for("dense", ROWS)
    model.train_network(*columns)  # every gradient is above the tiny bound: fraction 0
    assert float(model.train_network.norm_bound) == pytest.approx(1e-3 + 0.5 * 0.9, rel=1e-4)
    model.train_network.norm_bound.set_data(Tensor(1e3, ms.float32))  # none is above this one: fraction 1
    model.train_network(*columns)
    assert float(model.train_network.norm_bound) == pytest.approx(1e3 - 0.5 * 0.1, rel=1e-6)


def test_event_states_units_and_the_cost_of_the_adaptive_bound():
    clip = ClipMechanismsFactory.create("Gaussian", fraction_stddev=0.05)
    for units, sensitivity, count in ((None, 1.0, 0.05 * ROWS / 0.5), (4, 2.0, 0.05 * 4 / 1.0)):
        model = model_of(dense(), 1.5, clip_mech=clip, micro_batches=units)
        model.train(1, dataset_of(batch_for("dense", ROWS)))
        event = model.ledger.entries[0].event
        assert (event.sensitivity, event.noise_multiplier) == (sensitivity, 1.5)
        assert event.count_multiplier == pytest.approx(count)
        expected = ((sensitivity / 1.5) ** 2 + count ** -2) ** -0.5
        assert event.effective_multiplier == pytest.approx(expected)


def test_partial_last_batch_is_filled_with_holes():
    columns = batch_for("dense", ROWS + 3)
    network = dense()
    model = model_of(network, bound=0.2, engine="vmap", lr=1e-9)
    model.train(1, dataset_of(columns, drop=False))
    assert model.ledger.steps == 2
    network = dense()
    short = tuple(c[ROWS:] for c in columns)
    expected = flat(clipped_gradient_fn(network, loss_fn(), norm_bound=0.2, engine="vmap")(*short).total) / ROWS
    step = model_of(network, bound=0.2, engine="vmap").train_network
    step._prepare(tuple(c[:ROWS] for c in columns), Tensor(np.ones(ROWS, np.float32)))
    before = weights(network)
    step(*short)
    np.testing.assert_allclose(before - weights(network), expected, rtol=1e-3, atol=1e-6)


def test_a_larger_batch_than_the_first_is_refused():
    model = model_of(dense())
    model.train_network(*batch_for("dense", ROWS))
    with pytest.raises(ValueError, match="rows of the first one"):
        model.train_network(*batch_for("dense", ROWS + 1))


def test_mask_column_and_several_inputs(mode):
    class TwoInputs(nn.Cell):
        def __init__(self):
            super().__init__()
            self.dense = nn.Dense(6, 3)

        def construct(self, x, scale):
            return self.dense(x) * scale

    network = TwoInputs()
    images, labels = batch_for("dense", ROWS)
    scale = Tensor(np.ones((ROWS, 1), np.float32))
    mask = Tensor((np.arange(ROWS) < 5).astype(np.float32))
    expected = flat(clipped_gradient_fn(network, loss_fn(), norm_bound=0.2, engine="loop")(
        images, scale, labels, is_real=mask).total) / ROWS
    before = weights(network)
    model = model_of(network, bound=0.2, engine="vmap")
    model.train(1, dataset_of((images, scale, labels, mask), ("x", "scale", "label", "is_real")),
                callbacks=LossMonitor())
    np.testing.assert_allclose(before - weights(network), expected, rtol=1e-3, atol=1e-6)


def test_a_nan_gradient_contributes_zero_and_is_warned_about():
    images, labels = batch_for("dense", ROWS)
    spoiled = images.asnumpy().copy()
    spoiled[3, 0] = np.inf
    network = dense()
    model = model_of(network, bound=0.2)
    with pytest.warns(PrivacyWarning, match="1 units had a NaN or infinite gradient"):
        model.train(1, dataset_of((Tensor(spoiled), labels)))
    assert np.isfinite(weights(network)).all()


def test_checkpoint_holds_weights_and_bound_but_no_noise(tmp_path):
    network = dense()
    model = model_of(network, optimizer=nn.Momentum(network.trainable_params(), 0.1, 0.9))
    checkpoint = ModelCheckpoint("net", str(tmp_path), CheckpointConfig(save_checkpoint_steps=1))
    model.train(2, dataset_of(batch_for("dense", ROWS)), callbacks=[checkpoint])
    saved = ms.load_checkpoint(checkpoint.latest_ckpt_file_name)
    names = {p.name for p in network.get_parameters()}
    assert names <= set(saved) and "norm_bound" in saved
    assert not [key for key in saved if "noise" in key or "normal" in key]
    for parameter in network.get_parameters():
        assert np.array_equal(saved[parameter.name].asnumpy(), parameter.asnumpy())


def test_fit_eval_and_predict(mode):
    columns = batch_for("dense", 4 * ROWS)
    model = model_of(dense(), 0.5, metrics={"Accuracy": Accuracy()}, lr=0.1)
    model.fit(2, dataset_of(columns), dataset_of(columns))
    assert 0 <= model.eval(dataset_of(columns))["Accuracy"] <= 1
    assert model.predict(columns[0]).shape == (4 * ROWS, 3)
    assert model.ledger.steps == 8 and model.ledger.epochs == 2


def test_poisson_data_set_trains_with_its_claim():
    images, labels = batch_for("dense", 64)
    data = PoissonSampler(16).dataset((images.asnumpy(), labels.asnumpy()))
    model = model_of(dense(), 2.0)
    model.train(3, data)
    entry, = model.ledger.entries
    assert entry.steps == 12
    assert (entry.event.sampling.kind, entry.event.sampling.rate) == ("poisson", 0.25)


def test_dp_optimizer_brings_the_noise():
    network = Silent()
    factory = DPOptimizerClassFactory(micro_batches=4)
    factory.set_mechanisms("Gaussian", norm_bound=2.0, initial_noise_multiplier=1.5)
    optimizer = factory.create("SGD")(network.trainable_params(), 1.0)
    model = DPModel(micro_batches=4, norm_bound=2.0, network=network, loss_fn=nn.MSELoss(), optimizer=optimizer,
                    engine="vmap")
    assert silent_update(model).std() * 4 / ROWS == pytest.approx(3.0, rel=0.05)


def test_no_warning_in_a_clean_run():
    with warnings.catch_warnings():
        warnings.simplefilter("error", PrivacyWarning)
        model = model_of(dense())
        model.train(1, dataset_of(batch_for("dense", ROWS)))
    assert model.ledger.steps == 1


def test_mixed_precision_clips_in_full_precision():
    columns = batch_for("dense", ROWS)
    updates = []
    for level in ("O0", "O2"):
        ms.set_seed(3)
        network = dense()
        before = weights(network)
        model_of(network, bound=0.2, engine="vmap", amp_level=level).train(1, dataset_of(columns))
        updates.append(before - weights(network))
    assert np.linalg.norm(updates[1] - updates[0]) < 0.02 * np.linalg.norm(updates[0])
    assert np.linalg.norm(updates[1]) > 0


def test_weights_loaded_between_steps_are_the_ones_trained(mode):
    columns = batch_for("dense", ROWS)
    network = dense()
    model = model_of(network, bound=0.2, engine="vmap")
    start = {p.name: p.asnumpy().copy() for p in network.trainable_params()}
    before = weights(network)
    model.train_network(*columns)
    first = weights(network)
    ms.load_param_into_net(network, {name: ms.Parameter(Tensor(value)) for name, value in start.items()})
    assert np.array_equal(weights(network), before)
    model.train_network(*columns)
    np.testing.assert_allclose(weights(network), first, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("style", ["per-layer", "automatic"])
def test_other_clipping_styles_train_with_the_same_event(style):
    network, columns = dense(), batch_for("dense", ROWS)
    rule = PerLayerClipping.of_layers(network) if style == "per-layer" else AutomaticClipping()
    expected = clipped_gradient_fn(network, loss_fn(), norm_bound=0.2, engine="loop", clipping=rule)(*columns)
    before = weights(network)
    model = model_of(network, bound=0.2, clipping=rule)
    model.train(1, dataset_of(columns))
    np.testing.assert_allclose(before - weights(network), flat(expected.total) / ROWS, rtol=1e-3, atol=1e-6)
    assert model.ledger.entries[0].event.sensitivity == 1.0
