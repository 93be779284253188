"""The ledger charges what its steps make necessary, loses nothing, and refuses what cannot be true."""
import copy
import math
import os
import pickle
import sys
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mindarmour.privacy.accounting import Ledger, LedgerEntry, Sampling, StepEvent, privacy_spent
from mindarmour.privacy.accounting.events import ADD_OR_REMOVE, ZERO_OUT, ReleaseEvent, basic_composition
from mindarmour.privacy.accounting.ledger import Segment, combine
from mindarmour.privacy.errors import LedgerMismatchError

POISSON = StepEvent(Sampling("poisson", 1000, 100, ADD_OR_REMOVE), 2.0)
LENGTH = 10
PER_EPOCH = [StepEvent(Sampling(kind, 1000, 100, ZERO_OUT, steps_per_epoch=LENGTH), 2.0)
             for kind in ("shuffle", "balls-in-bins")]
TWO_PASSES = StepEvent(Sampling("shuffle", 1000, 100, ZERO_OUT, 2, LENGTH), 2.0)


def cost(ledger, **options):
    return privacy_spent(ledger.entries, 1e-5, **options).epsilon


def cost_of_epochs(event, epochs):
    ledger = Ledger()
    for _ in range(epochs):
        ledger.start_epoch()
        ledger.record(event, event.sampling.steps_per_charge)
    return cost(ledger)


@pytest.mark.parametrize("steps, error", [(-1, ValueError), (-500, ValueError), (1.0, TypeError), ("3", TypeError),
                                          (True, TypeError), (math.nan, TypeError), (None, TypeError)])
def test_nothing_that_is_no_count_of_steps_is_recorded(steps, error):
    ledger = Ledger()
    ledger.record(POISSON, 1000)
    with pytest.raises(error, match="steps"):
        ledger.record(POISSON, steps)
    with pytest.raises(error, match="steps"):
        ledger.preview(POISSON, steps)
    with pytest.raises(error, match="steps"):
        LedgerEntry(POISSON, steps)
    assert ledger.steps == 1000


def test_entries_and_segments_are_typed():
    for wrong in ("step", None, POISSON.sampling, {"noise_multiplier": 1.0}):
        with pytest.raises(TypeError, match="event"):
            Ledger().record(wrong)
        with pytest.raises(TypeError, match="event"):
            LedgerEntry(wrong, 1)
    for field, wrong in (("epoch", -1), ("epoch", 1.5), ("epoch", True), ("steps", 0)):
        with pytest.raises((TypeError, ValueError), match=field):
            LedgerEntry(**{"event": POISSON, "steps": 1, field: wrong})
    for field, wrong in (("run", ""), ("run", 3), ("data", 3), ("note", None), ("epochs", -1), ("entries", [1])):
        with pytest.raises((TypeError, ValueError), match=field):
            Segment(**{"run": "name", field: wrong})


def test_recording_no_steps_records_nothing():
    ledger = Ledger()
    ledger.record(PER_EPOCH[0], 0)
    assert (ledger.entries, ledger.steps, ledger.epochs) == ((), 0, 0)


def test_numpy_counts_are_counts():
    ledger = Ledger()
    ledger.record(POISSON, np.int64(3))
    assert type(ledger.entries[0].steps) is int


@pytest.mark.parametrize("event", PER_EPOCH)
def test_steps_without_start_epoch_are_charged_as_the_epochs_they_make(event):
    ledger = Ledger()
    ledger.record(event, 6 * LENGTH)
    assert cost(ledger) == pytest.approx(cost_of_epochs(event, 6), rel=1e-12)
    one_more = Ledger()
    one_more.record(event, 6 * LENGTH + 1)
    assert cost(one_more) == pytest.approx(cost_of_epochs(event, 7), rel=1e-12)
    assert privacy_spent((LedgerEntry(event, 6 * LENGTH + 1),), 1e-5).epsilon == cost(one_more)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.one_of(st.just("epoch"), st.integers(1, 3 * LENGTH)), max_size=12), st.sampled_from(
    [*PER_EPOCH, TWO_PASSES]), st.sampled_from([1, 3]))
def test_no_order_of_calls_charges_less_than_the_steps(calls, event, pieces):
    """Whoever calls start_epoch, in whatever order, how often, or never."""
    ledger, steps, opened, left = Ledger(), 0, 0, 0
    length = event.sampling.steps_per_charge
    for call in calls:
        if call == "epoch":
            ledger.start_epoch()
            left = 0
            continue
        for _ in range(pieces):
            ledger.record(event, call)
        steps += pieces * call
        # as few epochs as the steps and the calls leave possible
        beyond = max(0, pieces * call - left)
        opened += -(-beyond // length)
        left = (left - pieces * call) % length
    assert ledger.steps == steps
    visits = opened * event.sampling.passes_per_epoch
    assert visits >= steps / LENGTH
    expected = cost_of_epochs(event, opened)
    assert cost(ledger) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("event", PER_EPOCH)
def test_more_start_epoch_never_charges_less(event):
    charged = []
    for every in (1000, LENGTH, 7, 3, 1):
        ledger = Ledger()
        for step in range(30):
            if step % every == 0:
                ledger.start_epoch()
                ledger.start_epoch()
            ledger.record(event)
        charged.append(cost(ledger))
    assert charged == sorted(charged)
    assert charged[0] == pytest.approx(cost_of_epochs(event, 3), rel=1e-12)
    assert charged[-1] == pytest.approx(cost_of_epochs(event, 30), rel=1e-12)


def test_the_least_noise_of_each_epoch_counts_wherever_it_stands():
    def run(levels):
        ledger = Ledger()
        for level in levels:
            ledger.record(StepEvent(PER_EPOCH[0].sampling, level))
        return cost(ledger)
    quiet, loud = [8.0] * LENGTH, [2.0] * LENGTH
    assert run(quiet + loud) == run([8.0] * LENGTH + [9.0] * 4 + [2.0] + [9.0] * 5)
    assert run(quiet + quiet) < run([8.0] * 9 + [7.0] + quiet) < run([7.0] * LENGTH + quiet[:9] + [7.0])


def test_two_samplings_in_turns_are_charged_each():
    other = StepEvent(Sampling("shuffle", 1000, 200, ZERO_OUT, steps_per_epoch=5), 2.0)
    ledger = Ledger()
    for _ in range(5):
        ledger.record(PER_EPOCH[0], 2)
        ledger.record(other)
    assert cost(ledger) >= cost_of_epochs(PER_EPOCH[0], 2)


def test_epochs_without_a_number_of_two_segments_are_two_epochs():
    segments = [Segment(name, entries=[LedgerEntry(PER_EPOCH[0], LENGTH)]) for name in ("first", "second")]
    assert cost(Ledger(segments)) == pytest.approx(cost_of_epochs(PER_EPOCH[0], 2), rel=1e-12)
    understated = [Segment(name, epochs=0, entries=[LedgerEntry(PER_EPOCH[0], LENGTH, 1)]) for name in ("a", "b")]
    assert cost(Ledger(understated)) == pytest.approx(cost_of_epochs(PER_EPOCH[0], 2), rel=1e-12)


@pytest.mark.parametrize("event", [POISSON, *PER_EPOCH, TWO_PASSES])
def test_looking_ahead_sees_what_recording_will_say(event):
    ledger = Ledger()
    ledger.record(event, 7)
    seen = [ledger.preview(event, 45), ledger.ahead([(event, 45)], event.sampling.steps_per_charge or 10)]
    assert ledger.steps == 7
    ledger.record(event, 45)
    for entries in seen:
        assert privacy_spent(entries, 1e-5).epsilon == pytest.approx(cost(ledger), rel=1e-12)


def test_a_pipeline_that_starts_over_sooner_is_charged_as_often():
    ahead = Ledger().ahead([(PER_EPOCH[0], 12)], steps_per_epoch=4)
    assert privacy_spent(ahead, 1e-5).epsilon == pytest.approx(cost_of_epochs(PER_EPOCH[0], 3), rel=1e-12)


# -- several hands ------------------------------------------------------------------------------------------------


def test_threads_lose_no_step_and_read_one_moment():
    ledger, errors = Ledger(), []
    release = ReleaseEvent(0.01)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)

    def write(event):
        for _ in range(400):
            ledger.record(event)

    def read():
        for _ in range(60):
            steps = [sum(entry.steps for entry in entries) for entries in (
                ledger.entries, ledger.preview(PER_EPOCH[0], 3))]
            if steps[1] < steps[0] + 3:
                errors.append(steps)
    try:
        hands = [threading.Thread(target=write, args=(event,)) for event in (release, release, PER_EPOCH[0], POISSON)]
        hands.append(threading.Thread(target=read))
        for hand in hands:
            hand.start()
        for hand in hands:
            hand.join()
    finally:
        sys.setswitchinterval(interval)
    assert not errors
    counts = dict.fromkeys((release, PER_EPOCH[0], POISSON), 0)
    for entry in ledger.entries:
        counts[entry.event] += entry.steps
    assert counts == {release: 800, PER_EPOCH[0]: 400, POISSON: 400}
    assert basic_composition(e for e in ledger.entries if e.event == release)[0] == pytest.approx(8.0)


def recorded(ledger, steps=5, event=POISSON):
    ledger.record(event, steps)
    return ledger


@pytest.mark.parametrize("fork", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x)),
                                  lambda x: Ledger(x.segments)], ids=["copy", "deepcopy", "pickle", "resumed"])
@pytest.mark.parametrize("event", [POISSON, *PER_EPOCH])
def test_both_tails_of_a_fork_count(fork, event):
    trunk = recorded(Ledger(), 20, event)
    twin, other = fork(trunk), fork(trunk)
    for ledger in (trunk, twin, other):  # equal steps: only the run tells them apart
        recorded(ledger, 5, event)
    total = combine([twin, trunk, other])
    assert total.steps == 35
    assert cost(total) >= cost(recorded(recorded(Ledger(), 20, event), 15, event)) * (1 - 1e-12)
    assert combine([total, twin, total]).steps == 35


def test_the_child_of_a_fork_is_another_run(tmp_path):
    ledger = recorded(Ledger())
    child = os.fork()
    if child == 0:
        try:
            recorded(ledger, 7)
            (tmp_path / "child").write_bytes(pickle.dumps(ledger.segments))
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    recorded(ledger, 7)
    both = combine([ledger, Ledger(pickle.loads((tmp_path / "child").read_bytes()))])
    assert both.steps == 19


def test_two_histories_of_one_run_are_refused():
    pairs = [((1.0, 10), (2.0, 12)), ((1.0, 10), (2.0, 10)), ((1.0, 10), (1.5, 3))]
    for pair in pairs:
        ledgers = [Ledger([Segment("run", entries=[LedgerEntry(StepEvent(POISSON.sampling, z), n)])]) for z, n in pair]
        with pytest.raises(LedgerMismatchError, match="different histories"):
            combine(ledgers)


def test_entries_keep_the_noise_of_each_step():
    ledger = Ledger()
    for level in (2.0, 2.0, 1.0):
        ledger.record(StepEvent(POISSON.sampling, level))
    assert [(entry.event.noise_multiplier, entry.steps) for entry in ledger.entries] == [(2.0, 2), (1.0, 1)]


@pytest.mark.parametrize("event", PER_EPOCH)
def test_epochs_of_a_resumed_run_add_up(event):
    first = Ledger()
    first.start_epoch()
    first.record(event, LENGTH)
    resumed = Ledger(first.segments)
    resumed.start_epoch()
    resumed.record(event, LENGTH)
    assert cost(resumed) == pytest.approx(cost_of_epochs(event, 2), rel=1e-12)
