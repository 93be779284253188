"""Gradient canaries through the unmodified training: a true claim stands, each planted bug is found by its check."""
from dataclasses import replace

import numpy as np
import pytest
from mindspore import nn
from small_models import noise

from examples.privacy.auditing.planted import planted
from mindarmour.privacy.accounting import Ledger
from mindarmour.privacy.auditing.gradient_canaries import TABLE, GradientCanaries
from mindarmour.privacy.diff_privacy import DPModel, FixedSizeSampler, PerLayerClipping, PoissonSampler
from mindarmour.privacy.diff_privacy.sampling.samplers import ShufflePartition

RECORDS, COUNT, BATCH = 600, 200, 100


def loss_fn(reduction="none"):
    return nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction=reduction)


def trained(bug=None, sampler=None, epochs=4, coordinates="table", clipping=None, count=COUNT):
    rng = np.random.default_rng(0)
    data = rng.normal(size=(RECORDS, 6)).astype(np.float32), rng.integers(0, 3, RECORDS).astype(np.int32)
    probe = GradientCanaries(count, seed=3, coordinates=coordinates)
    plain = nn.SequentialCell(nn.Dense(6, 16), nn.Tanh(), nn.Dense(16, 3)) if coordinates == "network" \
        else nn.Dense(6, 3)
    network = probe.wrap(plain, loss_fn())
    dataset = probe.dataset(sampler or PoissonSampler(BATCH, seed=5), data)
    with planted(bug):
        model = DPModel(micro_batches=None, norm_bound=0.7, noise_mech=noise(1.0, 0.7, seed=7), network=network,
                        optimizer=nn.Momentum(network.trainable_params(), 0.1, 0.9), clipping=clipping)
        model.train(epochs, dataset, callbacks=[probe.readings()])
    return probe, model, plain


def test_a_true_claim_stands_and_readings_are_those_of_the_mechanism():
    probe, model, plain = trained()
    result, readings = probe.audit(model.ledger, 1e-4), probe.result(model.ledger)
    assert result.verdict == "not contradicted", result.summary()
    assert readings.values.shape == (model.ledger.steps, COUNT) and model.ledger.steps == 32
    assert {check.name for check in result.checks} == {
        "noise multiplier", "excluded canaries", "noise of each step", "correlation of steps", "repeated readings",
        "sampling rate"}
    assert readings.rate == BATCH / (RECORDS + COUNT) and result.auc > 0.6
    assert probe.unwrap() is plain and TABLE not in [p.name for p in plain.get_parameters()]


@pytest.mark.parametrize("bug,check", [
    ("noise", "noise multiplier"), ("bound", "sampling rate"), ("mask", "excluded canaries"),
    ("seed", "repeated readings"), ("divisor", "noise of each step")])
def test_each_planted_bug_is_found_by_its_check(bug, check):
    probe, model, _ = trained(bug)
    result = probe.audit(model.ledger, 1e-4)
    assert result.verdict == "contradicted" and check in result.contradictions, result.summary()


@pytest.mark.slow
def test_canaries_in_every_parameter_read_the_mechanism():
    clipping = PerLayerClipping([0, 0, 1, 1], [1.0, 2.0])
    probe, model, plain = trained(coordinates="network", clipping=clipping, count=60)
    result, readings = probe.audit(model.ledger, 1e-4), probe.result(model.ledger)
    assert result.verdict == "not contradicted", result.summary()
    assert result.kind == "gradient canaries in every parameter" and probe.unwrap() is plain
    assert (readings.parameters.counts >= 1).all() and readings.parameters.counts.sum() == 163 - 60
    assert len(readings.parameters.names) == 4


@pytest.mark.slow
def test_canaries_in_every_parameter_find_what_a_table_cannot():
    probe, model, _ = trained("layer", coordinates="network", count=60)
    result = probe.audit(model.ledger, 1e-4)
    assert result.verdict == "contradicted" and "noise of each parameter" in result.contradictions, result.summary()
    probe, model, _ = trained("layer")
    assert probe.audit(model.ledger, 1e-4).verdict == "not contradicted"


def test_readings_are_not_scored_against_the_ledger_of_another_run():
    (probe, model, _), (_, other, _) = trained(epochs=1), trained(epochs=1)
    with pytest.raises(ValueError, match="steps that the ledger holds"):
        probe.audit(other.ledger)
    shorter = Ledger([replace(model.ledger.segments[0], entries=[replace(model.ledger.entries[0], steps=3)])])
    with pytest.raises(ValueError, match="steps that the ledger holds"):
        probe.audit(shorter)
    # the claim is the ledger's: one that says more noise than there was is contradicted
    entry = model.ledger.entries[0]
    louder = replace(entry, event=replace(entry.event, noise_multiplier=1.3))
    edited = Ledger([replace(model.ledger.segments[0], entries=[louder])])
    assert "noise multiplier" in probe.audit(edited, 1e-4).contradictions
    assert probe.audit(Ledger(model.ledger.segments), 1e-4).verdict == "not contradicted"


def test_a_partition_is_read_by_epochs():
    probe, model, _ = trained(sampler=ShufflePartition(BATCH, seed=5))
    result = probe.audit(model.ledger, 1e-4)
    assert probe.result(model.ledger).steps_per_epoch == 8 and result.verdict == "not contradicted", result.summary()


def test_what_cannot_be_audited_is_refused():
    probe = GradientCanaries(COUNT, seed=3)
    with pytest.raises(ValueError, match="reduction='none'"):
        probe.wrap(nn.Dense(6, 3), loss_fn("mean"))
    data = np.zeros((RECORDS, 6), np.float32), np.zeros(RECORDS, np.int32)
    with pytest.raises(ValueError, match="sampler must be PoissonSampler"):
        probe.dataset(FixedSizeSampler(BATCH), data)
    network = probe.wrap(nn.Dense(6, 3), loss_fn())
    model = DPModel(micro_batches=4, noise_mech=noise(), network=network,
                    optimizer=nn.SGD(network.trainable_params(), 0.1))
    with pytest.raises(ValueError, match="There must be readings"):
        probe.audit(model.ledger)
