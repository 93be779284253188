"""The proven leak of shuffled batches: published values, simulation, and never above the upper bound."""
import math
from dataclasses import replace

import numpy as np
import pytest

from mindarmour.privacy.accounting import LedgerEntry, Sampling, StepEvent, privacy_spent
from mindarmour.privacy.accounting.lower_bound import shuffle_lower_bound


def epochs_of(multiplier, epochs, examples=60000, batch=256):
    steps = examples // batch
    event = StepEvent(Sampling("shuffle", examples, batch, "zero-out", steps_per_epoch=steps), multiplier)
    return tuple(LedgerEntry(event, steps, epoch + 1) for epoch in range(epochs))


@pytest.mark.parametrize("multiplier, published", [(0.4, 13.21), (0.5, 9.997), (0.7, 6.62), (1.0, 3.76), (1.5, 0.967)])
def test_one_epoch_reaches_the_published_bound(multiplier, published):
    # Chua et al. 2024: 234 batches, delta 1e-5; Poisson accounting says 0.39 at multiplier 1
    assert shuffle_lower_bound(epochs_of(multiplier, 1), 1e-5).epsilon == pytest.approx(published, rel=1e-3)


@pytest.mark.parametrize("multiplier, epochs, known", [(1.0, 10, 7.2468654), (1.1, 60, 10.845213), (0.6, 38, 70.0)])
def test_epochs_compose(multiplier, epochs, known):
    entries = epochs_of(multiplier, epochs)
    lower, upper = shuffle_lower_bound(entries, 1e-5).epsilon, privacy_spent(entries, 1e-5).epsilon
    assert 0.95 * known <= lower <= upper


def test_simulated_attack_achieves_it():
    multiplier, batches, epochs, delta = 0.8, 20, 3, 0.02
    entries = epochs_of(multiplier, epochs, 200, 10)
    bound = shuffle_lower_bound(entries, delta).epsilon
    generator = np.random.default_rng(3)

    def statistic(centre):
        noise = generator.normal(0, multiplier, (100_000, epochs, batches))
        noise[:, :, 0] += centre
        return noise.max(axis=2)
    with_record, without = statistic(2.0), statistic(1.0)
    score = with_record.sum(axis=1), without.sum(axis=1)  # a plain stand-in for the likelihood ratio
    best = max(math.log(max((score[0] > t).mean() - delta, 1e-9) / max((score[1] > t).mean(), 1e-4))
               for t in np.linspace(2, 14, 100))
    assert 0.7 * bound <= best <= bound * 1.15


def test_never_above_the_upper_bound():
    for multiplier in (0.3, 1.0, 50.0):
        for epochs in (1, 7):
            for delta in (1e-9, 1e-2):
                entries = epochs_of(multiplier, epochs, 1000, 100)
                assert shuffle_lower_bound(entries, delta).epsilon <= privacy_spent(entries, delta).epsilon


def test_statement_and_what_is_left_out():
    entries = epochs_of(1.0, 2)
    spent = shuffle_lower_bound(entries, 1e-5)
    assert (spent.kind, spent.sampling, spent.relation) == ("lower-bound", "shuffle", "zero-out")
    broken_off = (*entries, replace(entries[0], steps=5, epoch=3))
    assert shuffle_lower_bound(broken_off, 1e-5) == spent
    event = replace(entries[0].event, sensitivity=None, examples_per_unit=None)
    micro = tuple(replace(entry, event=event) for entry in entries)
    assert shuffle_lower_bound(micro, 1e-5).epsilon == 0
    quiet = tuple(replace(entry, event=replace(entry.event, noise_multiplier=0.0)) for entry in entries)
    assert shuffle_lower_bound(quiet, 1e-5).epsilon == math.inf


def test_an_epoch_with_two_noise_levels_counts_as_its_quieter_steps():
    entry, = epochs_of(1.0, 1)
    louder = replace(entry, event=replace(entry.event, noise_multiplier=1.5), steps=34)
    mixed = shuffle_lower_bound((replace(entry, steps=200), louder), 1e-5).epsilon
    assert mixed == shuffle_lower_bound(epochs_of(1.5, 1), 1e-5).epsilon


@pytest.mark.parametrize("delta, error", [(0.0, ValueError), (1.0, ValueError), (math.nan, ValueError),
                                          ("1", TypeError)])
def test_bad_delta_is_refused(delta, error):
    with pytest.raises(error, match="delta"):
        shuffle_lower_bound(epochs_of(1.0, 1), delta)
