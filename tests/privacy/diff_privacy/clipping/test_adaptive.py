"""The adaptive bound: what its count costs, how far neighbours move it, where it settles, what the monitor says."""
import math
from dataclasses import replace

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn, ops
from small_models import model_of
from small_networks import batch_for, dense

from mindarmour.privacy.accounting.accountant import privacy_spent
from mindarmour.privacy.accounting.events import ZERO_OUT, Sampling
from mindarmour.privacy.diff_privacy import (
    ClipMechanismsFactory,
    NoiseMechanismsFactory,
    PoissonSampler,
    RDPMonitor,
)
from mindarmour.privacy.diff_privacy.clipping.rules import FlatClipping
from mindarmour.privacy.diff_privacy.train.plan import Plan

ROWS = 8


def event_of(multiplier, batch, stddev=0.05, relation="add-or-remove", micro_batches=None):
    noise = NoiseMechanismsFactory.create("Gaussian", 1.0, multiplier)
    clip = ClipMechanismsFactory.create("Gaussian", fraction_stddev=stddev)
    plan = Plan(1.0, FlatClipping(), noise, clip, micro_batches, sampling=Sampling("poisson", 60000, batch, relation))
    return plan.event(0, batch)


@pytest.mark.parametrize("multiplier, batch, stddev", [(1.0, 256, 0.05), (0.5, 32, 0.05), (2.0, 64, 0.01)])
def test_combined_multiplier_is_the_closed_form_of_the_paper(multiplier, batch, stddev):
    # theorem 1 of Andrew et al.: z^-2 = z_gradients^-2 + (2 sigma_count)^-2
    combined = (multiplier ** -2 + (2 * stddev * batch) ** -2) ** -0.5
    assert event_of(multiplier, batch, stddev).effective_multiplier == pytest.approx(combined, rel=1e-12)


def test_combined_multiplier_published_setting():
    # z = 1 and a count noise of a twentieth of 256 units need 1.00076 on the gradients
    assert event_of(1.000764, 256).effective_multiplier == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("arguments", [{"relation": "replace-one"}, {"micro_batches": 64}])
def test_units_that_change_sides_move_the_count_by_one(arguments):
    event = event_of(1.0, 128, 0.05, **arguments)
    units = arguments.get("micro_batches", 128)
    assert event.effective_multiplier == pytest.approx((4.0 + (0.05 * units) ** -2) ** -0.5, rel=1e-12)


def test_recommended_setting():
    clip = ClipMechanismsFactory.recommended()
    assert (clip.decay_policy, clip.learning_rate, clip.target_unclipped_quantile, clip.fraction_stddev) == (
        "Geometric", 0.2, 0.5, 0.05)
    assert clip.seed == 0 and ClipMechanismsFactory.recommended(seed=3).seed == 3
    with pytest.raises(ValueError, match="seed"):
        ClipMechanismsFactory.recommended(seed=-1)


def test_recommended_setting_finds_the_median_norm():
    norms = np.exp(np.random.default_rng(0).normal(1.0, 0.7, 256))
    clip, bound = ClipMechanismsFactory.recommended(), 0.05
    path = []
    for _ in range(120):
        fraction = Tensor((norms <= bound).mean(), ms.float32)
        bound = float(clip(fraction, Tensor(bound, ms.float32)))
        path.append(bound)
    assert np.mean(path[-40:]) == pytest.approx(np.median(norms), rel=0.1)


def counting_model(micro_batches=None):
    """A model whose next bound shows the centred count: C' = C - (fraction - 1/2)."""
    clip = ClipMechanismsFactory.create("Gaussian", learning_rate=1.0, target_unclipped_quantile=0.5,
                                        fraction_stddev=1e-9)
    model = model_of(dense(), clip_mech=clip, lr=1e-12, micro_batches=micro_batches)
    step = model.train_network
    step.bind(replace(step.plan, sampling=Sampling("full", ROWS, ROWS, ZERO_OUT)), 2)
    return model


def centred_count(model, columns, is_real, bound, units=ROWS):
    step = model.train_network
    ops.assign(step.norm_bound, Tensor(bound, ms.float32))
    step(*columns, Tensor(is_real, ms.float32))
    return (bound - float(step.norm_bound)) * units


def test_a_missing_example_moves_the_centred_count_by_half():
    model, columns = counting_model(), batch_for("dense", ROWS)
    everybody, moves = np.ones(ROWS), []
    for bound in (0.3, 0.9, 1.3):
        count = centred_count(model, columns, everybody, bound)
        for missing in range(0, ROWS, 2):
            without = centred_count(model, columns, np.where(np.arange(ROWS) == missing, 0, 1), bound)
            moves.append(abs(count - without))
    assert max(moves) <= 0.5 + 1e-4
    assert min(moves) >= 0.5 - 1e-4, "the bound of one half is attained: the count is centred, and it is counted"


def test_an_example_of_a_larger_unit_moves_the_centred_count_by_at_most_one():
    model, columns = counting_model(micro_batches=4), batch_for("dense", ROWS)
    count = centred_count(model, columns, np.ones(ROWS), 0.8, units=4)
    for changed in range(0, ROWS, 2):
        inputs = columns[0].asnumpy().copy()
        inputs[changed] *= 50
        other = centred_count(model, (Tensor(inputs), columns[1]), np.ones(ROWS), 0.8, units=4)
        assert abs(count - other) <= 1 + 1e-4


def test_the_monitor_prints_the_true_cost(capsys):
    data = tuple(c.asnumpy() for c in batch_for("dense", 64))
    network = dense()
    model = model_of(network, 2.0, optimizer=nn.SGD(network.trainable_params(), 0.1),
                     clip_mech=ClipMechanismsFactory.create("Gaussian", fraction_stddev=0.05))
    monitor = RDPMonitor(64, ROWS, max_eps=None, target_delta=1e-5, per_print_times=8)
    model.train(1, PoissonSampler(ROWS).dataset(data), callbacks=[monitor])
    text = capsys.readouterr().out
    combined = (0.25 + (2 * 0.05 * ROWS) ** -2) ** -0.5
    assert f"from 2 to {combined:.4g}" in text and "ClipMechanismsFactory.recommended" in text
    plain = [replace(e, event=replace(e.event, count_multiplier=None)) for e in model.ledger.entries]
    assert f"without it eps would be {privacy_spent(plain, 1e-5).epsilon:.4g}" in text
    assert monitor.spent().epsilon > 2 * privacy_spent(plain, 1e-5).epsilon
    assert math.isfinite(monitor.spent().epsilon)
