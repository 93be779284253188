"""Training with correlated noise: what reaches the weights, what the ledger says, what begins a new stream."""
import math

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn
from mindspore.train import CheckpointConfig, ModelCheckpoint
from small_models import loss_fn, weights

from mindarmour.privacy.accounting import privacy_spent
from mindarmour.privacy.accounting.composition import Composition
from mindarmour.privacy.accounting.strategies import Toeplitz, decaying, square_root
from mindarmour.privacy.diff_privacy import (
    BallsInBinsSampler,
    ClipMechanismsFactory,
    CyclicPoissonSampler,
    DPModel,
    FixedOrder,
    NoiseMechanismsFactory,
    PoissonSampler,
    PrivacyMonitorFactory,
    PrivateLoop,
    ShufflePartition,
)

COUNT, ROWS, STEPS = 64, 16, 4
STRATEGY = decaying(0.9)


@pytest.fixture(autouse=True)
def own_key(tmp_path, monkeypatch):
    monkeypatch.setenv("MINDARMOUR_HOME", str(tmp_path / "home"))


def data(sampler=None):
    random = np.random.default_rng(1)
    columns = random.normal(size=(COUNT, 40)).astype(np.float32), random.integers(0, 3, COUNT).astype(np.int32)
    return (sampler or FixedOrder(ROWS)).dataset(columns)


def mechanism(multiplier=4.0, strategy=STRATEGY):
    return NoiseMechanismsFactory.create("Correlated", 1.0, multiplier, strategy=strategy)


def model_of(multiplier=4.0, strategy=STRATEGY, lr=1.0, network=None, **arguments):
    network = network or nn.Dense(40, 50)
    return DPModel(**{"micro_batches": None, "norm_bound": 1.0, "noise_mech": mechanism(multiplier, strategy),
                      "network": network, "loss_fn": loss_fn(),
                      "optimizer": nn.SGD(network.trainable_params(), lr), **arguments})


def streams(ledger):
    return [(entry.event.stream, entry.steps) for entry in ledger.entries]


@pytest.mark.parametrize("strategy", [STRATEGY, square_root(8)])
def test_noise_in_the_last_iterate_cancels(mode, strategy):
    multiplier, epochs = 1e4, 4  # so that gradients do not matter
    model = model_of(multiplier, strategy)
    before = weights(model._network)
    model.train(epochs, data())
    moved = (weights(model._network) - before) * ROWS / multiplier
    expected = strategy.squared_errors(epochs * STEPS)[-1]
    assert expected < epochs * STEPS / 2
    assert np.mean(moved ** 2) == pytest.approx(expected, rel=5 * math.sqrt(2 / moved.size))
    assert model.ledger.steps == epochs * STEPS and {stream for stream, _ in streams(model.ledger)} == {0}


def test_the_ledger_states_what_the_strategy_costs():
    model = model_of()
    model.train(3, data())
    spent = privacy_spent(model.ledger.entries, 1e-5)
    mu = STRATEGY.sensitivity(3 * STEPS, STEPS, 3) / 4.0
    assert Composition("zero-out").extend(model.ledger.entries).squared_mu == pytest.approx(mu ** 2, rel=1e-12)
    assert (spent.sampling, spent.relation, spent.kind) == ("fixed-order", "zero-out", "guarantee")
    assert "correlated noise" in spent.note


def test_one_data_set_is_one_stream_and_another_one_is_another():
    model, first = model_of(), data()
    for _ in range(2):
        model.train(1, first)
    model.train(1, data())
    assert streams(model.ledger) == [(0, 4), (0, 4), (8, 4)]
    model.train(1, first)
    assert streams(model.ledger)[-1] == (12, 4)


def test_a_restart_begins_a_stream_and_no_checkpoint_holds_noise(tmp_path):
    model, dataset = model_of(), data()
    saver = ModelCheckpoint("run", str(tmp_path), CheckpointConfig(save_checkpoint_steps=4))
    model.train(2, dataset, callbacks=[saver])
    path = str(sorted(tmp_path.glob("*.ckpt"))[-1])
    held = sum(value.size for name, value in ms.load_checkpoint(path).items() if name != "dp_ledger")
    assert held <= sum(p.size for p in model.train_network.get_parameters()) + 2
    again = model_of()
    again.restore(path)
    again.train(1, data())
    assert streams(again.ledger) == [(0, 4), (0, 4), (8, 4)]
    squares = [STRATEGY.sensitivity(n * STEPS, STEPS, n) ** 2 / 16 for n in (2, 1)]
    assert Composition("zero-out").extend(again.ledger.entries).squared_mu == pytest.approx(sum(squares), rel=1e-12)


def test_two_models_with_one_mechanism_share_no_stream():
    shared = mechanism()
    runs = [(model_of(noise_mech=shared), data()) for _ in range(2)]
    for _ in range(2):
        for model, dataset in runs:
            model.train(1, dataset)
    assert all(streams(model.ledger) == [(0, 4), (4, 4)] for model, _ in runs)


def loop_of(strategy=STRATEGY, multiplier=4.0):
    network = nn.Dense(40, 3)
    return PrivateLoop(network, loss_fn(), nn.SGD(network.trainable_params(), 0.1), 1.0,
                       mechanism(multiplier, strategy))


def run(loop, dataset, steps):
    for batch in loop.batches(dataset):
        if steps == 0:
            return
        loop.step(*batch)
        steps -= 1


def test_a_turn_that_was_broken_off_begins_a_stream():
    loop = loop_of(square_root(2))
    dataset = data(CyclicPoissonSampler(8, 2, steps_per_epoch=8))
    for steps in (8, 4, 3, 8):
        run(loop, dataset, steps)
    assert streams(loop.ledger) == [(0, 8), (0, 4), (0, 3), (15, 8)]
    assert "groups did not" not in loop.spent(1e-5).note


def test_a_fixed_order_that_was_broken_off_is_charged_from_the_starts():
    loop, dataset = loop_of(), data()
    for steps in (2, 1, 4):
        run(loop, dataset, steps)
    assert streams(loop.ledger) == [(0, 2), (0, 1), (0, 4)]
    moved = np.zeros(7)
    for start in (0, 2, 3):
        moved[start:] += STRATEGY.column(7 - start)
    expected = pytest.approx(moved @ moved / 16, rel=1e-12)
    assert Composition("zero-out").extend(loop.ledger.entries).squared_mu == expected


def test_a_batch_of_ones_own_begins_a_stream_without_a_claim():
    loop, dataset = loop_of(), data()
    batches = loop.batches(dataset)
    first = next(batches)
    loop.step(*first)
    loop.step(*first)
    loop.step(*next(batches))
    assert [(entry.event.stream, entry.event.sampling.kind) for entry in loop.ledger.entries] == [
        (0, "fixed-order"), (1, "full"), (2, "fixed-order")]


def test_a_step_that_raised_after_its_draw_stays_in_the_ledger(monkeypatch):
    loop, dataset = loop_of(), data()
    batches = loop.batches(dataset)
    loop.step(*next(batches))
    inner = loop._step._step
    loop._step._step = None
    monkeypatch.setattr(type(loop._step), "_prepare", lambda *_: None)
    with pytest.raises(TypeError):
        loop.step(*next(batches))
    loop._step._step = inner
    loop.step(*next(batches))
    assert streams(loop.ledger) == [(0, 3)]


@pytest.mark.parametrize("sampler, match", [
    (PoissonSampler(ROWS), "CyclicPoissonSampler"), (BallsInBinsSampler(ROWS), "CyclicPoissonSampler"),
    (CyclicPoissonSampler(8, 2), "at most as many bands")])
def test_data_sets_without_a_theorem_are_refused_before_the_first_step(sampler, match):
    model = model_of(strategy=Toeplitz((1.0, 0.5, 0.2)))
    with pytest.raises(ValueError, match=match):
        model.train(1, data(sampler))
    assert model.ledger.steps == 0


def test_an_adaptive_bound_is_refused():
    clip = ClipMechanismsFactory.create("Gaussian", decay_policy="Linear", learning_rate=0.1,
                                        target_unclipped_quantile=0.5, fraction_stddev=0.1, seed=1)
    with pytest.raises(ValueError, match="clip_mech must be None with correlated noise"):
        model_of(clip_mech=clip)


@pytest.mark.parametrize("sampler", [FixedOrder(ROWS), ShufflePartition(ROWS)])
def test_a_budget_is_kept_with_more_noise_that_cancels(sampler):
    dataset, network = data(sampler), nn.Dense(40, 3)
    facts = {"network": network, "loss_fn": loss_fn(), "optimizer": nn.SGD(network.trainable_params(), 0.1)}
    model = DPModel.for_budget(2.0, 1e-5, 3, dataset, strategy=STRATEGY, **facts)
    model.train(3, dataset)
    assert 1.98 < privacy_spent(model.ledger.entries, 1e-5).epsilon <= 2.0


def test_monitors_read_and_stop_at_the_budget(capsys):
    model, dataset = model_of(8.0), data()
    after = STRATEGY.sensitivity(2 * STEPS, STEPS, 2) / 8.0
    from mindarmour.privacy.accounting.curves.gaussian import epsilon_of_gaussian
    limit = epsilon_of_gaussian(after, 1e-5) * 1.0001
    monitor = PrivacyMonitorFactory.create("rdp", num_samples=COUNT, batch_size=ROWS, max_eps=limit,
                                           target_delta=1e-5, stop_at_budget=True, per_print_times=4)
    model.train(4, dataset, callbacks=[monitor])
    assert model.ledger.steps == 2 * STEPS
    out = capsys.readouterr().out
    assert "correlated noise" in out and "with Poisson sampling it would be" not in out
