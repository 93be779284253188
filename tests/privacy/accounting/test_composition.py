"""Composition of ledger entries against sums made by hand."""
import math

import numpy as np
import pytest
from scipy.stats import binom

from mindarmour.privacy.accounting import Accountant, Ledger, LedgerEntry, Sampling, StepEvent
from mindarmour.privacy.accounting.composition import Composition
from mindarmour.privacy.accounting.curves.mechanisms import rdp_randomized_response, truth_probability_for
from mindarmour.privacy.accounting.curves.rdp import rdp_gaussian, rdp_sampled_gaussian
from mindarmour.privacy.accounting.curves.truncation import overflow_of
from mindarmour.privacy.accounting.events import ReleaseEvent, basic_composition
from mindarmour.privacy.accounting.ledger import Segment

ORDERS = (1.5, 2.0, 8.0, 40.0)


def composed(entries, relation="add-or-remove"):
    return Composition(relation, orders=ORDERS).extend(entries)


@pytest.mark.parametrize("kind", ["balls-in-bins", "shuffle", "fixed-order"])
@pytest.mark.parametrize("pieces", [(3, 97), (10, 1), (3, 6, 1, 15), (1,) * 31])
def test_steps_of_an_epoch_cost_the_same_in_pieces_as_in_one_go(kind, pieces):
    event = StepEvent(Sampling(kind, 1000, 100, "zero-out", steps_per_epoch=10), 1.0)
    whole = composed([LedgerEntry(event, sum(pieces), 1)], "zero-out").curves
    parts = composed([LedgerEntry(event, steps, 1) for steps in pieces], "zero-out").curves
    np.testing.assert_allclose(parts, whole, rtol=1e-12)
    epoch = composed([LedgerEntry(event, 1, 1)], "zero-out").curves
    np.testing.assert_allclose(whole, -(-sum(pieces) // 10) * epoch, rtol=1e-12)


def test_epochs_of_two_segments_are_two():
    event = StepEvent(Sampling("shuffle", 1000, 100, "zero-out", steps_per_epoch=10), 1.0)
    ledger = Ledger([Segment(f"run{i}", "", "", 1, [LedgerEntry(event, 4, 1)]) for i in range(2)])
    assert len({entry.epoch for entry in ledger.entries}) == 2
    once = composed([LedgerEntry(event, 10, 1)], "zero-out").curves
    np.testing.assert_allclose(composed(ledger.entries, "zero-out").curves, 2 * once, rtol=1e-12)


@pytest.mark.parametrize("epsilon", [0.01, 0.5, 3.0])
def test_releases_add_up_whichever_way_they_are_recorded(epsilon):
    event = ReleaseEvent(epsilon, 1e-7)
    alone = rdp_randomized_response(truth_probability_for(epsilon), 2, ORDERS)
    for entries in ([LedgerEntry(event, 5, 0)], [LedgerEntry(event, n, 0) for n in (1, 3, 1)]):
        np.testing.assert_allclose(composed(entries, "replace-one").curves, np.tile(5 * alone, (2, 1)), rtol=1e-9)
        assert basic_composition(entries) == pytest.approx((5 * epsilon, 5e-7))


def test_releases_and_steps_are_summed():
    step, release = StepEvent(Sampling("full", 1, 1, "replace-one"), 4.0), ReleaseEvent(0.7)
    both = composed([LedgerEntry(step, 3, 0), LedgerEntry(release, 2, 0)], "replace-one").curves
    np.testing.assert_allclose(both[1], 3 * rdp_gaussian(2.0, ORDERS) + 2 * release.rdp(ORDERS), rtol=1e-12)


@pytest.mark.parametrize("shards", [1, 4])
def test_cut_batches_leave_out_what_the_binomial_says(shards):
    sampling = Sampling("poisson", 1000, 100, "add-or-remove", max_batch_size=40 * 4 // shards, shards=shards)
    shard, cap = 1000 // shards, 40 * 4 // shards
    left_out = binom.sf(cap - 1, shard - 1, sampling.rate) * sampling.rate
    total = composed([LedgerEntry(StepEvent(sampling, 1.0), 7, 0)])
    assert total.excess == pytest.approx(7 * left_out, rel=1e-9) and left_out > 0


def test_a_batch_is_cut_once_the_cap_is_filled_by_others():
    found = overflow_of(1000, 0.1, 120, "add-or-remove")
    assert found.probability == pytest.approx(binom.sf(119, 999, 0.1), rel=1e-9)


@pytest.mark.parametrize("rate", [0.5, 0.99])
def test_replacing_costs_more_than_appearing_when_most_records_join(rate):
    replaced = rdp_sampled_gaussian(rate, 2.0, ORDERS, "replace-one")
    assert (replaced <= rdp_gaussian(1.0, ORDERS) * (1 + 1e-12)).all()
    assert (replaced > rdp_sampled_gaussian(rate, 2.0, ORDERS)).all()
    if rate == 0.99:
        assert (replaced > rdp_gaussian(2.0, ORDERS) * 1.5).all()


def test_delta_of_cut_batches_is_above_that_of_whole_ones():
    deltas = []
    for cap in (None, 115):
        event = StepEvent(Sampling("poisson", 1000, 100, "add-or-remove", max_batch_size=cap), 2.0)
        deltas.append(Accountant(1e-5).delta_at([LedgerEntry(event, 50, 0)], 2.0).delta)
    assert math.isfinite(deltas[1]) and deltas[1] > deltas[0]
