"""PrivateLoop: the run is its claim, whoever calls it and in whatever order."""
from dataclasses import replace

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn
from small_models import ROWS, loss_fn, model_of, noise, weights
from small_networks import batch_for, dense, flat

from mindarmour.privacy.diff_privacy import (
    BallsInBinsSampler,
    ClipMechanismsFactory,
    DPOptimizerClassFactory,
    PoissonSampler,
    PrivateLoop,
    augmented_views,
    clipped_gradient_fn,
)
from mindarmour.privacy.diff_privacy.sampling.claims import claim_of
from mindarmour.privacy.diff_privacy.train.plan import Plan, Units
from mindarmour.privacy.release import DPSGD

COUNT = 64


@pytest.fixture(autouse=True)
def own_key(tmp_path, monkeypatch):
    monkeypatch.setenv("MINDARMOUR_HOME", str(tmp_path / "home"))


def data(sampler=PoissonSampler, seed=0):
    return sampler(ROWS).dataset(tuple(c.asnumpy() for c in batch_for("dense", COUNT, seed)))


def loop_of(network, multiplier=2.0, bound=1.0, lr=0.1, **arguments):
    return PrivateLoop(network, loss_fn(), nn.SGD(network.trainable_params(), lr), bound, noise(multiplier, bound),
                       **arguments)


def test_a_loop_costs_what_the_model_costs_and_learns(mode):
    network = dense()
    loop, before = loop_of(network), weights(network)
    for _ in range(2):
        for batch in loop.batches(data()):
            assert np.isfinite(float(loop.step(*batch)))
    model = model_of(dense(), 2.0)
    model.train(2, data())
    assert loop.ledger.entries == model.ledger.entries and loop.ledger.steps == 16
    assert loop.spent(1e-5).sampling == "poisson" and not np.array_equal(before, weights(network))


def test_its_step_is_the_clipped_sum_divided_by_the_expected_units(mode):
    network = dense()
    loop, dataset = loop_of(network, 1e-12, 0.2, 1.0), data()
    columns = next(loop.batches(dataset))
    expected = flat(clipped_gradient_fn(network, loss_fn(), 0.2, engine="loop")(*columns[:2], is_real=columns[2]).total)
    before = weights(network)
    loop.step(*columns)
    np.testing.assert_allclose(before - weights(network), expected / ROWS, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("sampler", [PoissonSampler, BallsInBinsSampler])
def test_only_a_batch_of_the_data_set_has_its_claim_and_only_once(sampler):
    loop = loop_of(dense())
    seen = []
    for batch in loop.batches(data(sampler)):
        loop.step(*batch)
        seen.append(batch)
        if len(seen) == 2:
            break
    assert [e.event.sampling.kind for e in loop.ledger.entries] == [sampler.kind]
    images, labels, is_real = seen[1]
    for columns in (seen[1], seen[0], (images + 0.0, labels, is_real)):  # again, an older one, a changed one
        loop.step(*columns)
    assert [(e.event.sampling.kind, e.steps) for e in loop.ledger.entries] == [(sampler.kind, 2), ("full", 3)]


def test_views_are_one_unit_in_loops_too():
    def same(rows, generator):
        return rows

    dataset = augmented_views(data(), views=4, augment=same)
    loop = loop_of(dense())
    for batch in loop.batches(dataset):
        loop.step(*batch)
    event = loop.ledger.entries[0].event
    assert (event.sensitivity, event.sampling.views, event.unit) == (1.0, 4, "example (4 views)")
    network = dense()
    columns = next(iter(dataset.create_tuple_iterator(num_epochs=1)))
    optimizer = DPSGD(network.trainable_params(), 0.1, noise_scale=4.0, sampling=event.sampling)
    with pytest.raises(ValueError, match="Pass views=4 to clipped_gradient_fn"):
        optimizer(clipped_gradient_fn(network, loss_fn())(*columns[:2], is_real=columns[2]))
    assert optimizer.ledger.steps == 0
    together = clipped_gradient_fn(network, loss_fn(), views=4)(*columns[:2], is_real=columns[2])
    optimizer(together)
    assert optimizer.ledger.entries[0].event.sensitivity == 1.0 == together.examples_per_unit


def test_one_example_with_all_its_views_moves_the_sum_by_at_most_the_bound():
    images, labels = batch_for("dense", 2)
    rows = Tensor(np.repeat(images.asnumpy() * 100, 4, 0)), Tensor(np.repeat(labels.asnumpy(), 4, 0))
    total = clipped_gradient_fn(dense(), loss_fn(), 0.5, views=4)(*rows, is_real=np.repeat([1.0, 0.0], 4)).total
    assert np.linalg.norm(flat(total)) == pytest.approx(0.5, rel=1e-4)


def test_one_source_of_noise_and_one_ledger():
    network = dense()
    optimizer = DPSGD(network.trainable_params(), 0.1, noise_scale=3.0, norm_bound=1.0)
    with pytest.raises(ValueError, match="noise_mech must be None with a DP optimizer"):
        PrivateLoop(network, loss_fn(), optimizer, 1.0, noise(2.0))
    with pytest.raises(ValueError, match="noise_mech must be given"):
        PrivateLoop(network, loss_fn(), nn.SGD(network.trainable_params(), 0.1))
    with pytest.raises(ValueError, match="norm_bound of the model and of its noise mechanism"):
        PrivateLoop(network, loss_fn(), optimizer, 2.0)
    loop = PrivateLoop(network, loss_fn(), optimizer, 1.0)
    for batch in loop.batches(data()):
        loop.step(*batch)
    assert loop.ledger is optimizer.ledger and optimizer.ledger.steps == 8
    assert optimizer.ledger.entries[0].event.noise_multiplier == 3.0


def test_a_dp_optimizer_told_of_another_sampling_is_refused():
    network, dataset = dense(), data()
    factory = DPOptimizerClassFactory(None, sampling=replace(claim_of(dataset), batch_size=4))
    factory.set_mechanisms("Gaussian", 1.0, 2.0)
    loop = PrivateLoop(network, loss_fn(), factory.create("SGD")(network.trainable_params(), 0.1))
    with pytest.raises(ValueError, match="sampling of the DP optimizer must be that of the data set"):
        next(loop.batches(dataset))


@pytest.mark.parametrize("change, error, match", [
    ({"norm_bound": -1.0}, ValueError, "norm_bound"), ({"norm_bound": float("nan")}, ValueError, "norm_bound"),
    ({"norm_bound": 2.0}, ValueError, "must agree"), ({"rule": "flat"}, TypeError, "clipping"),
    ({"noise_mech": 1.0}, TypeError, "noise_mech"), ({"micro_batches": 0}, ValueError, "micro_batches"),
    ({"engine": "fast"}, ValueError, "engine"), ({"sampling": "poisson"}, TypeError, "sampling"),
    ({"ranks": 2}, TypeError, "ranks"), ({"clip_mech": "Gaussian"}, TypeError, "clip_mech")])
def test_a_plan_checks_itself(change, error, match):
    plan = model_of(dense()).train_network.plan
    with pytest.raises(error, match=match):
        replace(plan, **change)
    with pytest.raises(ValueError, match="sampling must be known"):
        Plan(1.0, plan.rule, plan.noise_mech).event(0, 8)
    with pytest.raises(ValueError, match="multiple of views"):
        Units(6, 4)


def test_the_weakest_randomness_is_what_the_event_says():
    for seeds, kind in (((0, 0), "secure"), ((7, 0), "seeded"), ((0, 7), "seeded")):
        model = model_of(dense(), 1.0, seed=seeds[0], clip_mech=ClipMechanismsFactory.recommended(seed=seeds[1]))
        model.train_network(*batch_for("dense", ROWS))
        assert model.ledger.entries[0].event.noise_source == kind


def test_a_checkpoint_of_the_loop_brings_its_ledger_back(tmp_path):
    loop = loop_of(dense())
    for batch in loop.batches(data()):
        loop.step(*batch)
    ms.save_checkpoint(loop.train_network, str(tmp_path / "loop.ckpt"))
    other = loop_of(dense())
    other.restore(str(tmp_path / "loop.ckpt"))
    assert other.ledger.entries == loop.ledger.entries
    assert np.array_equal(weights(other.train_network.network), weights(loop.train_network.network))
