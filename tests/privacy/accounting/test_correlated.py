"""Streams of correlated noise in the ledger: what they cost, in any order, cut anywhere, merged, stored, refused."""
import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from ledger_documents import document_of, packed

from mindarmour.privacy.accounting import Ledger, LedgerEntry, Sampling, StepEvent, ledger_file, privacy_spent
from mindarmour.privacy.accounting.composition import Composition
from mindarmour.privacy.accounting.correlated import CorrelatedEvent
from mindarmour.privacy.accounting.curves.gaussian import epsilon_of_gaussian
from mindarmour.privacy.accounting.events import ADD_OR_REMOVE, REPLACE_ONE, SAMPLINGS, ZERO_OUT
from mindarmour.privacy.accounting.planning import natural_relation, plan_sampling
from mindarmour.privacy.accounting.strategies import Buffered, InverseToeplitz, Toeplitz, decaying, square_root
from mindarmour.privacy.accounting.strategies.sensitivity import energy_of_starts, reshuffled_energy, spaced_energy
from mindarmour.privacy.errors import LedgerMismatchError

DELTA, STEPS = 1e-5, 5
FIXED = Sampling("fixed-order", 500, 100, ZERO_OUT, steps_per_epoch=STEPS)
SHUFFLED = replace(FIXED, kind="shuffle")
FULL = Sampling("full", 500, 100, ZERO_OUT)
CYCLIC = Sampling("cyclic-poisson", 4800, 100, ADD_OR_REMOVE, steps_per_epoch=48, groups=4)
STRATEGIES = [Toeplitz((1.0, 0.6, 0.3)), square_root(9), InverseToeplitz((1.0, -0.5)), decaying(0.9),
              Buffered((0.95, 0.5), (0.3, 0.4))]


def epsilon(entries, **arguments):
    return privacy_spent(tuple(entries), DELTA, **arguments).epsilon


def squared_mu(entries, relation=ZERO_OUT):
    return Composition(relation).extend(entries).squared_mu


def entries_of(event, lengths):
    return [LedgerEntry(event, length, epoch) for epoch, length in enumerate(lengths, 1)]


@pytest.mark.parametrize("kind", SAMPLINGS)
@pytest.mark.parametrize("strategy", [Toeplitz((1.0,)), InverseToeplitz((1.0,))])
def test_one_band_costs_what_independent_noise_costs(kind, strategy):
    sampling = plan_sampling(kind, 1000, 50)
    for examples, accountant in itertools.product((1, None), ("rdp", "zcdp")):
        correlated = CorrelatedEvent(sampling, 1.3, strategy, examples_per_unit=examples)
        independent = StepEvent(sampling, 1.3, examples_per_unit=examples)
        for lengths in ([7], [20, 20, 3]):
            assert privacy_spent(tuple(entries_of(correlated, lengths)), DELTA, accountant) == privacy_spent(
                tuple(entries_of(independent, lengths)), DELTA, accountant)


def test_one_band_of_any_size_is_independent_noise():
    event = CorrelatedEvent(plan_sampling("poisson", 1000, 50), 2.6, Toeplitz((2.0,)))
    assert epsilon([LedgerEntry(event, 30)]) == epsilon([LedgerEntry(StepEvent(event.sampling, 1.3), 30)])


def moved(strategy, places):
    """Squared distance that a record in these steps moves C G, by the matrix itself."""
    column = strategy.column(places[1])
    matrix = np.array([[column[t - s] if t >= s else 0.0 for s in range(len(column))] for t in range(len(column))])
    return float(np.sum(matrix[:, places[0]].sum(1) ** 2))


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("lengths", [[3], [5, 5, 5], [5, 2, 5, 1], [1, 1, 1], [4, 5]])
def test_fixed_order_costs_the_worst_place_in_the_order(strategy, lengths):
    starts = np.cumsum([0, *lengths[:-1]])
    worst = max(moved(strategy, ([int(s) + place for s, length in zip(starts, lengths) if place < length],
                                 sum(lengths))) for place in range(max(lengths)))
    event = CorrelatedEvent(FIXED, 4.0, strategy)
    assert squared_mu(entries_of(event, lengths)) == pytest.approx(worst / 16, rel=1e-9)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("lengths", [[3], [3, 3, 3], [5, 1, 4], [1, 1, 5]])
def test_shuffled_passes_cost_no_less_than_any_placement(strategy, lengths):
    starts = np.cumsum([0, *lengths[:-1]])
    worst = max(moved(strategy, ([int(s) + place for s, place in zip(starts, places)], sum(lengths)))
                for places in itertools.product(*map(range, lengths)))
    cost = squared_mu(entries_of(CorrelatedEvent(SHUFFLED, 4.0, strategy), lengths))
    assert worst / 16 * (1 - 1e-9) <= cost <= 1.5 * worst / 16


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_without_any_claim_a_record_takes_part_in_every_step(strategy):
    event = CorrelatedEvent(FULL, 4.0, strategy)
    assert squared_mu([LedgerEntry(event, 4), LedgerEntry(event, 3)]) == pytest.approx(
        moved(strategy, (list(range(7)), 7)) / 16, rel=1e-9)


@pytest.mark.parametrize("sampling, strategy", [
    *itertools.product((FIXED, SHUFFLED, FULL), STRATEGIES), (CYCLIC, Toeplitz((1.0, 0.5, 0.2)))])
def test_epsilon_never_falls_from_step_to_step(sampling, strategy):
    ledger, last = Ledger(), 0.0
    for step in range(23):
        if step == 13:
            ledger.start_epoch()  # a pass that was broken off
        ledger.record(CorrelatedEvent(sampling, 4.0, strategy))
        now = epsilon(ledger.entries)
        assert now >= last
        last = now


@pytest.mark.parametrize("sampling", [FIXED, SHUFFLED, CYCLIC])
def test_order_of_entries_and_how_they_are_cut_do_not_matter(sampling):
    event = CorrelatedEvent(sampling, 4.0, square_root(4))
    whole = [LedgerEntry(event, 4, 1), LedgerEntry(event, 4, 2), LedgerEntry(event, 3, 3)]
    cut = [LedgerEntry(event, 2, 1), LedgerEntry(event, 3, 3), LedgerEntry(event, 1, 2), LedgerEntry(event, 2, 1),
           LedgerEntry(event, 3, 2)]
    step_by_step = Composition(sampling.relation)
    for entry in cut:
        step_by_step.copy().extend(cut)  # looking ahead leaves no trace
        step_by_step.extend([entry])
    assert epsilon(whole) == epsilon(cut)
    assert dict(step_by_step.costs) == dict(Composition(sampling.relation).extend(whole).costs)


@pytest.mark.parametrize("sampling", [FIXED, SHUFFLED, FULL])
def test_streams_add_their_squares(sampling):
    events = [CorrelatedEvent(sampling, 4.0, decaying(0.9), stream) for stream in (0, 7)]
    parts = [[LedgerEntry(events[0], 5, 1), LedgerEntry(events[0], 2, 2)],
             [LedgerEntry(events[1], 5, 3), LedgerEntry(events[1], 5, 4)]]
    total = sum(squared_mu(part) for part in parts)
    assert squared_mu(parts[0] + parts[1]) == pytest.approx(total, rel=1e-12)
    assert epsilon(parts[0] + parts[1]) == pytest.approx(epsilon_of_gaussian(math.sqrt(total), DELTA), rel=1e-9)
    merged = [replace(entry, event=events[0]) for entry in parts[0] + parts[1]]
    assert squared_mu(merged) >= total  # recorded as one stream they cost no less


def test_narrow_strategies_cost_one_mechanism_per_pass_of_a_fixed_order():
    event = CorrelatedEvent(FIXED, 4.0, square_root(STRATEGIES[0].bands))
    norm = event.strategy.column_norm(STEPS)
    assert squared_mu(entries_of(event, [STEPS] * 6)) == pytest.approx(6 * (norm / 4) ** 2, rel=1e-12)


def test_wide_strategies_cost_more_than_the_root_of_the_participations():
    event = CorrelatedEvent(FIXED, 4.0, square_root(20))
    assert squared_mu(entries_of(event, [STEPS] * 4)) > 1.5 * 4 * (event.strategy.column_norm(STEPS) / 4) ** 2


@pytest.mark.parametrize("bands", [2, 4])
def test_groups_that_take_turns_cost_one_poisson_step_a_turn(bands):
    strategy = square_root(bands)
    turns = Sampling("poisson", 4800, 400, ADD_OR_REMOVE)
    for steps, rounds in ((1, 1), (4, 1), (5, 2), (48, 12)):
        norm = strategy.column_norm(min(steps, bands))
        spent = privacy_spent((LedgerEntry(CorrelatedEvent(CYCLIC, 2.0, strategy), steps, 1),), DELTA)
        assert spent.epsilon == epsilon([LedgerEntry(StepEvent(turns, 2.0 / norm), rounds)])
        assert "groups" not in spent.note and "correlated noise (Toeplitz)" in spent.note


def test_groups_that_came_again_too_early_are_not_amplified():
    event = CorrelatedEvent(CYCLIC, 2.0, square_root(4))
    aligned, broken = entries_of(event, [48, 4]), entries_of(event, [47, 5])
    assert epsilon(entries_of(event, [48, 3])) <= epsilon(aligned) < 0.5 * epsilon(broken)
    assert "nothing is amplified" in privacy_spent(tuple(broken), DELTA).note
    lengths = [4] * 11 + [3, 4, 1]
    assert squared_mu(broken) == pytest.approx(reshuffled_energy(event.strategy.column(52), lengths) / 4, rel=1e-12)


def test_independent_noise_needs_no_whole_turns():
    step = StepEvent(CYCLIC, 2.0)
    turns = StepEvent(Sampling("poisson", 4800, 400, ADD_OR_REMOVE), 2.0)
    assert epsilon(entries_of(step, [47, 5])) == epsilon([LedgerEntry(turns, 14)])


@pytest.mark.parametrize("relation", [ZERO_OUT, REPLACE_ONE])
@pytest.mark.parametrize("examples", [1, 8, None])
def test_units_and_relations_count_as_for_independent_noise(relation, examples):
    event = CorrelatedEvent(replace(FIXED, relation=relation), 8.0, decaying(0.8), examples_per_unit=examples)
    plain = CorrelatedEvent(FIXED, 8.0 / event.step.sensitivity, decaying(0.8))
    assert epsilon(entries_of(event, [5, 5])) == pytest.approx(epsilon(entries_of(plain, [5, 5])), rel=1e-12)
    assert event.unit == event.step.unit


@pytest.mark.parametrize("kind", ["poisson", "balls-in-bins", "fixed"])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_samplings_without_a_theorem_are_refused_with_the_reason(kind, strategy):
    with pytest.raises(ValueError, match="CyclicPoissonSampler.*FixedOrder"):
        CorrelatedEvent(plan_sampling(kind, 1000, 50), 1.0, strategy)


def test_strategies_that_reach_beyond_their_groups_are_refused():
    for strategy in (square_root(5), decaying(0.5), InverseToeplitz((1.0, -0.5))):
        with pytest.raises(ValueError, match="4, but has (5|inf)"):
            CorrelatedEvent(CYCLIC, 1.0, strategy)


@pytest.mark.parametrize("change, error", [
    ({"strategy": (1.0, 0.5)}, TypeError), ({"strategy": None}, TypeError), ({"noise_multiplier": -1.0}, ValueError),
    ({"noise_multiplier": math.inf}, ValueError), ({"stream": -1}, ValueError), ({"stream": "a"}, TypeError),
    ({"sampling": replace(FIXED, passes_per_epoch=2)}, ValueError), ({"examples_per_unit": 0}, ValueError),
    ({"noise_source": "magic"}, ValueError)])
def test_events_that_cannot_be_true_are_refused(change, error):
    with pytest.raises(error):
        CorrelatedEvent(**{"sampling": FIXED, "noise_multiplier": 1.0, "strategy": decaying(0.5), **change})


@pytest.mark.parametrize("facts", [
    {"groups": 5, "steps_per_epoch": 48}, {"groups": 49, "steps_per_epoch": 49}, {"kind": "poisson"},
    {"groups": 0}, {"groups": True}, {"steps_per_epoch": None}])
def test_groups_that_cannot_take_turns_are_refused(facts):
    with pytest.raises((TypeError, ValueError), match="groups|steps_per_epoch"):
        replace(CYCLIC, **facts)


def test_no_noise_is_no_protection():
    assert epsilon([LedgerEntry(CorrelatedEvent(FIXED, 0.0, decaying(0.5)), 5, 1)]) == math.inf


def test_lookahead_and_record_agree():
    event = CorrelatedEvent(FIXED, 4.0, decaying(0.9))
    ledger = Ledger()
    ahead = ledger.ahead([(event, 13)], STEPS)
    assert ledger.preview(event, 13) == ahead
    ledger.record(event, 13)
    assert ledger.entries == ahead and [entry.steps for entry in ahead] == [5, 5, 3]
    assert epsilon(ahead) == epsilon([LedgerEntry(event, 13, 1)])


def test_files_hold_strategies_exactly(tmp_path):
    ledger = Ledger()
    for strategy, sampling in itertools.product([*STRATEGIES, Toeplitz((1 / 3, 0.1))], (FIXED, SHUFFLED, FULL)):
        ledger.record(CorrelatedEvent(sampling, 1 / 3, strategy, 7, None, "seeded"), 7)
    ledger.record(CorrelatedEvent(CYCLIC, 1.1, square_root(4)), 9)
    ledger_file.save(ledger, tmp_path / "a.ledger")
    again = ledger_file.load(tmp_path / "a.ledger")
    assert again.entries == ledger.entries and epsilon(again.entries) == epsilon(ledger.entries)


@pytest.mark.parametrize("strategy", [
    {"family": "Wavelet", "coefficients": [1.0]}, {"family": "Toeplitz", "coefficients": [1.0, 2.0]},
    {"family": "Toeplitz"}, {"coefficients": [1.0]}, {"family": "Toeplitz", "coefficients": [1.0], "further": 1},
    None, "Toeplitz", [1.0, 0.5], {"family": "Buffered", "decay": [0.5], "scale": [0.5, 0.1]}])
def test_files_with_strategies_that_cannot_be_true_are_refused(strategy):
    ledger = Ledger()
    ledger.record(CorrelatedEvent(FIXED, 1.0, decaying(0.5)))
    document = document_of(ledger_file.to_bytes(ledger))
    place = 4 + document["kinds"]["correlated"].index("strategy")
    document["segments"][0]["rows"][0][place] = strategy
    with pytest.raises(LedgerMismatchError, match="cannot be true"):
        ledger_file.from_bytes(packed(document))


def test_files_from_before_groups_are_read_exactly():
    ledger = Ledger()
    ledger.record(StepEvent(plan_sampling("poisson", 1000, 50), 1.0), 5)
    document = document_of(ledger_file.to_bytes(ledger))
    del document["samplings"][0]["groups"]
    assert ledger_file.from_bytes(packed(document)).entries == ledger.entries
    document["samplings"][0]["colour"] = "red"
    with pytest.raises(LedgerMismatchError):
        ledger_file.from_bytes(packed(document))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_many_participations_are_summed_as_few_are(strategy):
    random = np.random.default_rng(3)
    lengths = random.integers(1, 6, 200)
    column, starts = strategy.column(int(lengths.sum())), np.cumsum([0, *lengths[:-1]])
    assert energy_of_starts(column, starts.tolist()) == pytest.approx(spaced_energy(column, starts)[-1], rel=1e-8)
    ends, pairs = np.cumsum(lengths), itertools.combinations(range(len(lengths)), 2)
    slow = len(lengths) * column @ column + 2 * sum(
        column[:len(column) - gap] @ column[gap:] for gap in (starts[j] - ends[i] + 1 for i, j in pairs))
    assert slow <= reshuffled_energy(column, lengths.tolist()) <= slow * (1 + 1e-8)


def test_what_each_sampler_proves():
    assert natural_relation("fixed-order") == ZERO_OUT and natural_relation("cyclic-poisson") == ADD_OR_REMOVE
    spent = privacy_spent((LedgerEntry(CorrelatedEvent(replace(FIXED, relation=ADD_OR_REMOVE), 4.0, decaying(0.9)),
                                       5, 1),), DELTA)
    assert (spent.relation, spent.sampling, spent.kind) == (ZERO_OUT, "fixed-order", "guarantee")
