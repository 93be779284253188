"""What every accountant must obey, for every sampler."""
import math
import random
import time
import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mindarmour.privacy.accounting import (
    Accountant,
    Ledger,
    LedgerEntry,
    PrivacySpent,
    Sampling,
    StepEvent,
    privacy_spent,
    privacy_spent_delta,
)
from mindarmour.privacy.accounting.planning import UNITS, natural_relation, plan_sampling, planned_entries

KINDS = ("poisson", "balls-in-bins", "shuffle", "fixed", "full")


def event_of(kind, multiplier, examples=2000, batch=50, unit="example", **changes):
    sampling = replace(plan_sampling(kind, examples, batch, unit=unit), **changes)
    return StepEvent(sampling, multiplier, examples_per_unit=UNITS[unit])


def epochs_of(kind, multiplier, epochs, **settings_):
    """Entries of whole epochs, one by one as a training run leaves them."""
    ledger = Ledger()
    for _ in range(epochs):
        ledger.start_epoch()
        ledger.record(event_of(kind, multiplier, **settings_), 40)
    return ledger.entries


class AccountantContract:
    """Inherited by every accountant; `accountant` and `tolerance` (of its numerics) are set there."""

    accountant = ""
    tolerance = 0.0
    delta = 1e-5

    def epsilon(self, entries, delta=None, **options):
        return privacy_spent(entries, delta or self.delta, self.accountant, **options).epsilon

    def assert_less(self, small, large):
        assert small <= large * (1 + self.tolerance) + 1e-9

    @pytest.mark.parametrize("kind", KINDS)
    def test_n_steps_are_n_single_steps(self, kind):
        event = event_of(kind, 2.0)
        once = self.epsilon((LedgerEntry(event, 40, 1),))
        singly = self.epsilon(tuple(LedgerEntry(event, 1, 1) for _ in range(40)))
        assert singly == pytest.approx(once, rel=1e-9)

    @pytest.mark.parametrize("kind", KINDS)
    def test_planned_run_costs_what_the_recorded_run_costs(self, kind):
        recorded = self.epsilon(epochs_of(kind, 2.0, 3))
        planned = self.epsilon(planned_entries(plan_sampling(kind, 2000, 50), 2.0, 120))
        assert planned == pytest.approx(recorded, rel=1e-9)

    @pytest.mark.parametrize("kind", KINDS)
    def test_monotone(self, kind):
        base = self.epsilon(epochs_of(kind, 1.5, 2))
        self.assert_less(self.epsilon(epochs_of(kind, 1.8, 2)), base)
        self.assert_less(base, self.epsilon(epochs_of(kind, 1.5, 3)))
        self.assert_less(self.epsilon(epochs_of(kind, 1.5, 2), 1e-4), base)
        if kind in ("poisson", "fixed"):
            self.assert_less(base, self.epsilon(epochs_of(kind, 1.5, 2, batch=100)))

    def test_order_of_composition_is_irrelevant(self):
        entries = [LedgerEntry(event_of(kind, multiplier), 40, epoch) for epoch, (kind, multiplier) in enumerate(
            [("poisson", 2.0), ("poisson", 1.7), ("shuffle", 5.0), ("full", 30.0), ("shuffle", 6.0)], start=1)]
        expected = self.epsilon(tuple(entries))
        for seed in range(3):
            random.Random(seed).shuffle(entries)
            assert self.epsilon(tuple(entries)) == pytest.approx(expected, rel=1e-9)

    @pytest.mark.parametrize("kind", KINDS)
    def test_int_and_float_agree(self, kind):
        by_int = StepEvent(plan_sampling(kind, 2000, 50), 2, 2 if kind == "fixed" else 1)
        by_float = StepEvent(plan_sampling(kind, 2000, 50.0), 2.0, 2.0 if kind == "fixed" else 1.0)
        assert self.epsilon((LedgerEntry(by_int, 7, 1),)) == self.epsilon((LedgerEntry(by_float, 7, 1),))

    def test_composition_of_ints_does_not_lose_steps(self):
        # dp-accounting drops composed events with integer multipliers; nothing of that may leak through
        pair = tuple(LedgerEntry(event_of("full", multiplier), 1) for multiplier in (2, 1))
        single = self.epsilon((LedgerEntry(event_of("full", 1 / math.sqrt(1.25)), 1),))
        assert self.epsilon(pair) == pytest.approx(single, rel=1e-6)

    def test_no_noise_is_no_privacy(self):
        entries = (LedgerEntry(event_of("poisson", 1.0), 10), LedgerEntry(event_of("poisson", 0.0), 1))
        assert self.epsilon(entries) == math.inf
        assert privacy_spent_delta(entries, 1.0, self.accountant).delta == 1
        judge = Accountant(self.delta, self.accountant)
        assert judge.advantage(entries) == 1 and judge.true_positive_rate(entries, 0.01) == 1

    def test_empty_ledger_costs_nothing(self):
        spent = privacy_spent((), 1e-5, self.accountant)
        assert spent.epsilon == 0 and spent.sampling == "none"

    def test_delta_and_epsilon_are_inverse(self):
        entries = epochs_of("poisson", 1.2, 2)
        epsilon = self.epsilon(entries)
        delta = privacy_spent_delta(entries, epsilon, self.accountant).delta
        assert delta <= self.delta * 1.1
        assert delta == pytest.approx(self.delta, rel=0.15)

    def test_growing_ledger_gives_what_a_fresh_one_gives(self):
        growing = Accountant(self.delta, self.accountant)
        ledger = Ledger()
        for epoch, kind in enumerate(("shuffle", "poisson", "balls-in-bins", "shuffle")):
            ledger.start_epoch()
            for step in range(3):
                ledger.record(event_of(kind, 3.0 + epoch + (step == 1)))
            seen = growing.epsilon_after(ledger.entries)
            assert seen == pytest.approx(self.epsilon(ledger.entries), rel=1e-9 + self.tolerance)
        shorter = ledger.entries[:2]
        assert growing.epsilon_after(shorter) == pytest.approx(self.epsilon(shorter), rel=1e-9 + self.tolerance)

    def test_looking_ahead_changes_nothing(self):
        ledger, accountant = Ledger(), Accountant(self.delta, self.accountant)
        ledger.record(event_of("poisson", 2.0), 40)
        before = accountant.epsilon_after(ledger.entries)
        after = accountant.epsilon_after(ledger.preview(event_of("poisson", 2.0), 400))
        assert after > before
        assert accountant.epsilon_after(ledger.entries) == pytest.approx(before, rel=1e-12)

    def test_statement_says_what_it_depends_on(self):
        spent = privacy_spent(epochs_of("poisson", 2.0, 1), self.delta, self.accountant)
        assert isinstance(spent, PrivacySpent)
        assert (spent.delta, spent.accountant, spent.sampling) == (self.delta, self.accountant, "poisson")
        assert (spent.relation, spent.kind) == ("add-or-remove", "guarantee")
        seeded = replace(event_of("poisson", 2.0), noise_source="seeded")
        assert "seeded" in privacy_spent((LedgerEntry(seeded, 1),), self.delta, self.accountant).note


class TestRdp(AccountantContract):
    accountant = "rdp"

    @settings(max_examples=30, deadline=None)
    @given(st.floats(0.3, 8.0), st.floats(1.0, 500.0), st.integers(1, 10 ** 5))
    def test_monotone_everywhere(self, multiplier, batch, steps):
        def epsilon(multiplier, batch, steps):
            sampling = Sampling("poisson", 1000, batch, "add-or-remove")
            return self.epsilon((LedgerEntry(StepEvent(sampling, multiplier), steps),))
        base = epsilon(multiplier, batch, steps)
        assert epsilon(multiplier * 1.05, batch, steps) <= base * (1 + 1e-9)
        assert epsilon(multiplier, batch * 1.2, steps) >= base * (1 - 1e-9)
        assert epsilon(multiplier, batch, steps + 7) >= base * (1 - 1e-9)


class TestZcdp(AccountantContract):
    accountant = "zcdp"

    def test_counts_participations_not_steps_of_a_partition(self):
        few = self.epsilon(epochs_of("shuffle", 2.0, 4))
        event = event_of("shuffle", 2.0, batch=5, steps_per_epoch=400)
        many = self.epsilon(tuple(LedgerEntry(event, 400, epoch) for epoch in range(1, 5)))
        assert many == few

    def test_never_below_the_exact_gaussian(self):
        for multiplier in np.logspace(-1, 2, 13):
            entries = epochs_of("shuffle", float(multiplier), 4)
            exact = privacy_spent(entries, self.delta).epsilon
            tight, classic = self.epsilon(entries), self.epsilon(entries, conversion="classic")
            assert exact <= tight <= classic


class TestPld(AccountantContract):
    accountant = "pld"
    tolerance = 0.01  # the grid is refined until the answer moves by less than this

    @pytest.fixture(autouse=True)
    def _installed(self):
        pytest.importorskip("dp_accounting")

    def test_never_above_rdp(self):
        for kind in KINDS:
            entries = epochs_of(kind, 2.0, 2)
            assert self.epsilon(entries) <= privacy_spent(entries, self.delta).epsilon

    def test_says_so_where_it_has_no_distribution(self):
        spent = privacy_spent(epochs_of("balls-in-bins", 2.0, 1), self.delta, "pld")
        assert "RDP bound" in spent.note


def test_pld_without_the_extra_is_rdp_and_says_so(monkeypatch):
    monkeypatch.setattr("mindarmour.privacy.accounting.pld.available", lambda: False)
    entries = epochs_of("poisson", 2.0, 1)
    spent = privacy_spent(entries, 1e-5, "pld")
    assert spent.epsilon == privacy_spent(entries, 1e-5, "rdp").epsilon
    assert "mindarmour[pld]" in spent.note


def test_thousands_of_noise_levels_in_two_seconds_within_two_percent():
    sampling = Sampling("poisson", 60000, 256, "add-or-remove")
    levels = [1.5 / (1 + 6e-4 * step) for step in range(2340)]
    entries = tuple(LedgerEntry(StepEvent(sampling, level), 1) for level in levels)
    begin = time.process_time()
    spent = privacy_spent(entries, 1e-5)
    assert time.process_time() - begin < 2
    exact = 3.4023  # one dp-accounting event a step, 92 seconds
    assert exact <= spent.epsilon <= exact * 1.02
    assert "rounded" in spent.note


def test_a_step_of_a_long_run_is_accounted_within_a_millisecond():
    ledger, accountant = Ledger(), Accountant(1e-5)
    event = event_of("poisson", 1.1)
    for level in np.linspace(1.2, 1.3, 50):
        ledger.record(event_of("poisson", float(level)))
    accountant.epsilon_after(ledger.preview(event))
    durations = []
    for _ in range(30):
        ledger.record(event)
        begin = time.process_time()
        accountant.epsilon_after(ledger.entries)
        durations.append(time.process_time() - begin)
    assert sorted(durations)[len(durations) // 2] < 1e-3


def test_an_epoch_costs_the_same_whatever_part_of_it_ran():
    for kind in ("shuffle", "balls-in-bins"):
        partly = privacy_spent((LedgerEntry(event_of(kind, 2.0), 3, 1),), 1e-5).epsilon
        whole = privacy_spent((LedgerEntry(event_of(kind, 2.0), 40, 1),), 1e-5).epsilon
        assert partly == whole


def test_an_epoch_costs_what_its_least_noise_costs():
    for kind in ("shuffle", "balls-in-bins"):
        mixed = tuple(LedgerEntry(event_of(kind, level), 10, 1) for level in (2.5, 2.0, 3.0))
        least = (LedgerEntry(event_of(kind, 2.0), 40, 1),)
        assert privacy_spent(mixed, 1e-5).epsilon == privacy_spent(least, 1e-5).epsilon


def test_bins_that_may_be_cut_are_not_amplified():
    cut = (LedgerEntry(event_of("balls-in-bins", 4.0, max_batch_size=60), 40, 1),)
    plain = (LedgerEntry(event_of("full", 2.0), 1),)
    assert privacy_spent(cut, 1e-5).epsilon == privacy_spent(plain, 1e-5).epsilon


def test_each_pass_of_an_epoch_counts():
    twice = (LedgerEntry(event_of("shuffle", 2.0, passes_per_epoch=2), 80, 1),)
    assert privacy_spent(twice, 1e-5).epsilon == pytest.approx(
        privacy_spent(epochs_of("shuffle", 2.0, 2), 1e-5).epsilon, rel=1e-9)


def test_adaptive_clipping_pays_for_the_count():
    plain = event_of("poisson", 1.0)
    counted = replace(plain, count_multiplier=0.32)  # standard deviation 0.01 on a fraction of 32 units
    free = replace(plain, count_multiplier=25.6)
    cost = [privacy_spent((LedgerEntry(event, 2340),), 1e-5).epsilon for event in (plain, free, counted)]
    assert cost[0] < cost[1] < cost[0] * 1.01
    assert cost[2] > 20 * cost[0]


def test_shuffled_data_get_the_poisson_number_only_as_an_assumption():
    entries = epochs_of("shuffle", 1.0, 2)
    assumed = privacy_spent(entries, 1e-5, assume="poisson")
    assert assumed.kind == "assumption" and "shuffled partition" in assumed.note
    assert assumed.epsilon < privacy_spent(entries, 1e-5).epsilon
    assert assumed.epsilon == pytest.approx(privacy_spent(epochs_of("poisson", 1.0, 2), 1e-5).epsilon)
    assert privacy_spent(epochs_of("poisson", 1.0, 2), 1e-5, assume="poisson").kind == "guarantee"


@pytest.mark.parametrize("arguments, error", [
    ({"delta": 0}, ValueError), ({"delta": 1}, ValueError), ({"delta": math.nan}, ValueError),
    ({"delta": "1e-5"}, TypeError), ({"accountant": "moments"}, ValueError), ({"relation": "bounded"}, ValueError),
    ({"assume": "shuffle"}, ValueError), ({"conversion": "tight"}, ValueError)])
def test_bad_arguments_are_refused(arguments, error):
    with pytest.raises(error):
        Accountant(**arguments)


@pytest.mark.parametrize("epsilon, error", [(-1, ValueError), (math.nan, ValueError), ("1", TypeError)])
def test_bad_epsilon_is_refused(epsilon, error):
    with pytest.raises(error):
        privacy_spent_delta(epochs_of("poisson", 1.0, 1), epsilon)


def test_extreme_noise_gives_numbers_without_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for kind in KINDS:
            for multiplier in (1e-6, 0.004, 0.05, 100.0, 1e5):
                for accountant in ("rdp", "zcdp"):
                    epsilon = privacy_spent(epochs_of(kind, multiplier, 1), 1e-5, accountant).epsilon
                    assert epsilon >= 0 and not math.isnan(epsilon)


def test_natural_relations():
    assert [natural_relation(kind) for kind in KINDS] == [
        "add-or-remove", "add-or-remove", "zero-out", "replace-one", "add-or-remove"]
    assert natural_relation("poisson", "micro-batch") == "zero-out"


@pytest.mark.parametrize("accountant", ["rdp", "pld", "zcdp"])
def test_the_whole_curve_agrees_with_single_deltas_and_nothing_ran_leaks_nothing(accountant):
    ledger = Ledger()
    ledger.record(StepEvent(Sampling("poisson", 4000, 400, "add-or-remove"), 1.0), steps=20)
    judge = Accountant(1e-5, accountant)
    curve, single = judge.delta_curve(ledger.entries)(np.array([0.5, 1.0])), judge.delta_at(ledger.entries, 1.0)
    assert curve[1] == pytest.approx(single.delta, rel=0.02, abs=1e-12) and curve[0] >= curve[1]
    assert judge.delta_curve(())(np.zeros(1)).max() == 0 and judge.advantage(()) == 0
