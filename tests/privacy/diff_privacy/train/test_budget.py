"""DPModel.for_budget: the run it plans ends inside the budget and uses almost all of it."""
import math
from dataclasses import replace

import numpy as np
import pytest
from mindspore import nn
from small_models import loss_fn
from small_networks import batch_for, dense

from mindarmour.privacy.accounting import Ledger
from mindarmour.privacy.accounting.accountant import privacy_spent
from mindarmour.privacy.diff_privacy import (
    BallsInBinsSampler,
    ClipMechanismsFactory,
    DPModel,
    FixedSizeSampler,
    NoiseMechanismsFactory,
    PoissonSampler,
    ShufflePartition,
)
from mindarmour.privacy.diff_privacy.sampling.claims import claim_of

COUNT, ROWS, EPOCHS, DELTA = 64, 8, 2, 1e-5


def dataset_of(cls=PoissonSampler, **arguments):
    return cls(ROWS, **arguments).dataset(tuple(c.asnumpy() for c in batch_for("dense", COUNT)))


def planned(epsilon=1.5, dataset=None, epochs=EPOCHS, delta=DELTA, **arguments):
    network = dense()
    return DPModel.for_budget(epsilon, delta, epochs, dataset or dataset_of(), network=network, loss_fn=loss_fn(),
                              optimizer=nn.SGD(network.trainable_params(), 0.1), **arguments)


def spent_after(model, dataset, accountant="rdp"):
    """Epsilon of the epochs as the model would record them."""
    plan = replace(model.train_network.plan, sampling=claim_of(dataset))
    rows, steps = dataset.output_shapes()[0][0], dataset.get_dataset_size()
    ledger = Ledger()
    for _ in range(EPOCHS):
        ledger.start_epoch()
        ledger.record(plan.event(0, rows), steps)
    return privacy_spent(ledger.entries, DELTA, accountant).epsilon


def test_the_budget_is_kept_by_the_training_itself():
    dataset = dataset_of()
    model = planned(1.5, dataset)
    model.train(EPOCHS, dataset)
    spent = privacy_spent(model.ledger.entries, DELTA)
    assert model.ledger.steps == EPOCHS * 8
    assert 0.98 * 1.5 < spent.epsilon <= 1.5 and spent.epsilon == spent_after(model, dataset)


@pytest.mark.parametrize("sampler", [PoissonSampler, BallsInBinsSampler, FixedSizeSampler, ShufflePartition])
def test_exactly_those_epochs_use_the_budget(sampler):
    dataset = dataset_of(sampler)
    epsilon = 8.0 if sampler is FixedSizeSampler else 1.5
    assert 0.98 * epsilon < spent_after(planned(epsilon, dataset), dataset) <= epsilon


def test_by_pld_it_takes_less_noise():
    pytest.importorskip("dp_accounting")
    dataset = dataset_of()
    tight, loose = planned(dataset=dataset, accountant="pld"), planned(dataset=dataset)
    first, second = (m.train_network.plan.noise_mech.initial_noise_multiplier for m in (tight, loose))
    assert first < second
    assert 0.97 * 1.5 < spent_after(tight, dataset, "pld") <= 1.5 * (1 + 1e-6)


def test_micro_batches_and_the_adaptive_bound_are_part_of_the_budget():
    dataset = dataset_of(max_batch_size=16)
    clip = ClipMechanismsFactory.create("Gaussian", fraction_stddev=1.0)
    model = planned(5.0, dataset, micro_batches=8, clip_mech=clip)
    plain = planned(5.0, dataset)
    multipliers = [m.train_network.plan.noise_mech.initial_noise_multiplier for m in (model, plain)]
    assert multipliers[0] > 2 * multipliers[1]
    assert 0.98 * 5.0 < spent_after(model, dataset) <= 5.0


def test_a_count_that_alone_exceeds_the_budget_is_refused():
    clip = ClipMechanismsFactory.create("Gaussian", fraction_stddev=0.05)
    with pytest.raises(ValueError, match="count of the adaptive bound costs by itself"):
        planned(0.5, clip_mech=clip)


@pytest.mark.parametrize("name, value, error", [
    *[("epsilon", v, ValueError) for v in (0, -1.0, math.nan, math.inf)], ("epsilon", "1", TypeError),
    *[("delta", v, ValueError) for v in (0, 1.0, math.nan)], ("delta", None, TypeError),
    ("epochs", 0, ValueError), ("epochs", 1.5, TypeError), ("norm_bound", 0.0, ValueError),
    ("norm_bound", 1, TypeError), ("accountant", "gdp", ValueError), ("seed", -1, ValueError),
    ("noise_mech", NoiseMechanismsFactory.create("Gaussian"), ValueError)])
def test_bad_arguments_are_refused(name, value, error):
    with pytest.raises(error, match=name):
        planned(**{name: value})


def test_the_noise_follows_the_seed():
    first, second = (planned(seed=5).train_network.plan.noise_mech.source.normals(0, [(3,)])[0] for _ in range(2))
    assert np.array_equal(first, second)
