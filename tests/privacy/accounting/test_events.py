"""Events and claims: typed, checked when they are made, costs follow from facts alone."""
import itertools
import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from mindarmour.privacy.accounting import Accountant, LedgerEntry, Sampling, StepEvent, privacy_spent
from mindarmour.privacy.accounting.composition import FOLDS
from mindarmour.privacy.accounting.events import (
    ADD_OR_REMOVE,
    EVENT_KINDS,
    RELATIONS,
    REPLACE_ONE,
    SAMPLINGS,
    ZERO_OUT,
    Randomness,
    Relation,
    ReleaseEvent,
    SamplingKind,
    sensitivity_of,
    weakest_randomness,
)
from mindarmour.privacy.accounting.planning import natural_relation
from mindarmour.privacy.accounting.sampling import steps_of_epoch

POISSON = Sampling("poisson", 60000, 256, ADD_OR_REMOVE)
NO_NUMBERS = ["1.1", b"1", True, np.bool_(True), None, [1.0], np.array(1.0), 1j]
BEYOND = [math.nan, math.inf, -math.inf, np.float32("nan"), 10 ** 400, Fraction(10 ** 400)]
NEGATIVE = [-1, -1e-300, np.float64(-2.0), np.int64(-1)]


def refused(make, value, *errors):
    with pytest.raises(errors or (TypeError, ValueError)) as error:
        make(value)
    return str(error.value)


@pytest.mark.parametrize("value", [*NO_NUMBERS, *BEYOND, *NEGATIVE], ids=repr)
@pytest.mark.parametrize("field", ["noise_multiplier", "count_multiplier", "sensitivity"])
def test_numbers_of_a_step_are_numbers(field, value):
    if value is None and field != "noise_multiplier":
        pytest.skip("left out")
    arguments = {"noise_multiplier": 1.0, field: value}
    assert refused(lambda _: StepEvent(POISSON, **arguments), value).startswith(field)


@pytest.mark.parametrize("field", ["num_examples", "passes_per_epoch", "steps_per_epoch", "max_batch_size", "shards",
                                   "views", "examples_per_user"])
@pytest.mark.parametrize("value", [*NO_NUMBERS, *BEYOND, *NEGATIVE, 0, 0.5, 2.0], ids=repr)
def test_counts_of_a_claim_are_positive_ints(field, value):
    if value is None and field in ("steps_per_epoch", "max_batch_size", "examples_per_user"):
        pytest.skip("left out")
    if value == 10 ** 400 and isinstance(value, int) and field not in ("steps_per_epoch", "shards"):
        pytest.skip("a very large count is still a count")
    facts = {"kind": "shuffle", "num_examples": 1000, "batch_size": 10, "relation": "zero-out", "steps_per_epoch": 100}
    assert field in refused(lambda _: Sampling(**{**facts, field: value}), value)


@pytest.mark.parametrize("value", [*NO_NUMBERS, *BEYOND, *NEGATIVE, 0, 0.0, 60001], ids=repr)
def test_the_batch_size_is_a_number_up_to_the_records(value):
    assert "batch_size" in refused(lambda v: Sampling("poisson", 60000, v, ADD_OR_REMOVE), value)


@pytest.mark.parametrize("value", ["Poisson", "", "shuffled", 0, None, True, ("poisson",)], ids=repr)
def test_words_come_from_their_vocabulary(value):
    assert "kind" in refused(lambda v: Sampling(v, 100, 10, ADD_OR_REMOVE), value)
    assert "relation" in refused(lambda v: Sampling("poisson", 100, 10, v), value)
    assert "noise_source" in refused(lambda v: StepEvent(POISSON, 1.0, noise_source=v), value)
    assert "noise_source" in refused(lambda v: ReleaseEvent(1.0, noise_source=v), value)


@pytest.mark.parametrize("value", ["poisson", None, {"kind": "poisson"}], ids=repr)
def test_a_sampling_is_a_sampling(value):
    assert "sampling" in refused(lambda v: StepEvent(v, 1.0), value, TypeError)
    assert "sampling" in refused(lambda v: ReleaseEvent(1.0, sampling=v), value, TypeError)


@pytest.mark.parametrize("value", [*NO_NUMBERS, math.nan, -math.inf, *NEGATIVE, "inf"], ids=repr)
def test_a_release_states_numbers(value):
    assert "epsilon" in refused(ReleaseEvent, value)
    assert "delta" in refused(lambda v: ReleaseEvent(1.0, v), value)


@pytest.mark.parametrize("delta", [1, 1.0, 1.5, math.inf])
def test_a_release_has_delta_below_one(delta):
    assert "delta" in refused(lambda v: ReleaseEvent(1.0, v), delta, ValueError)


def test_labels_are_texts():
    for field in ("mechanism", "unit"):
        assert field in refused(lambda v, f=field: ReleaseEvent(1.0, **{f: v}), 3, TypeError)
    assert "note" in refused(lambda v: StepEvent(POISSON, 1.0, note=v), 3, TypeError)


def test_fixed_size_batches_claim_replace_one_only():
    for relation in (ADD_OR_REMOVE, ZERO_OUT):
        assert "replace-one" in refused(lambda r: Sampling("fixed", 100, 10, r), relation, ValueError)


@pytest.mark.parametrize("kind", ["shuffle", "balls-in-bins"])
def test_a_pass_has_no_more_steps_than_its_records_make(kind):
    assert Sampling(kind, 1000, 96, ZERO_OUT, steps_per_epoch=11).steps_per_epoch == 11
    assert "at most 11" in refused(lambda s: Sampling(kind, 1000, 96, ZERO_OUT, steps_per_epoch=s), 12, ValueError)
    assert "steps_per_epoch" in refused(lambda s: Sampling(kind, 1000, 96, ZERO_OUT), None, ValueError)


def test_numpy_scalars_become_plain_numbers():
    sampling = Sampling(np.str_("poisson"), np.int32(60000), np.float32(256), "add-or-remove", shards=np.int64(2))
    event = StepEvent(sampling, np.float32(1.5), np.int8(1), np.float64(20.0), np.uint8(1))
    for value in (sampling.num_examples, sampling.shards, event.examples_per_unit):
        assert type(value) is int
    for value in (event.noise_multiplier, event.sensitivity, event.count_multiplier, sampling.batch_size):
        assert type(value) is float
    assert event == StepEvent(Sampling("poisson", 60000, 256, ADD_OR_REMOVE, shards=2), 1.5, count_multiplier=20.0)
    release = ReleaseEvent(np.float32("inf"), np.float64(0.25))
    assert type(release.epsilon) is float and type(release.delta) is float


def test_words_equal_their_text():
    assert [str(relation) for relation in RELATIONS] == ["add-or-remove", "zero-out", "replace-one"]
    for word in (*Relation, *SamplingKind, *Randomness):
        assert word == str(word) and hash(word) == hash(str(word)) and repr(word) == repr(str(word))
        assert f"{word}" == str(word)


def test_the_weakest_randomness_decides():
    assert weakest_randomness("secure", "seeded", "device") == "seeded"
    assert weakest_randomness("secure", "device") == "device"
    assert weakest_randomness("secure") == "secure"


def test_the_rule_of_sensitivity():
    for examples, relation in itertools.product((1, 2, 8, None), RELATIONS):
        whole = examples == 1 and relation != REPLACE_ONE
        assert sensitivity_of(examples, relation) == (1.0 if whole else 2.0)
    for wrong in (0, -1, True, 1.0, "1", math.nan):
        refused(lambda v: sensitivity_of(v, ZERO_OUT), wrong)
    refused(lambda v: sensitivity_of(1, v), "bounded", ValueError)


def test_clipping_rules_state_the_one_rule():
    rules = pytest.importorskip("mindarmour.privacy.diff_privacy.clipping.rules")
    for rule in (rules.FlatClipping, rules.PerLayerClipping, rules.AutomaticClipping):
        for examples, relation in itertools.product((1, 2, None), RELATIONS):
            assert rule.sensitivity(examples, relation) == sensitivity_of(examples, relation)


@pytest.mark.parametrize("stated", [0.5, 2.0, 1.0000001, 1e-300])
def test_a_sensitivity_that_does_not_follow_is_refused(stated):
    assert "examples_per_unit" in refused(lambda s: StepEvent(POISSON, 1.1, s), stated, ValueError)
    assert StepEvent(POISSON, 1.1, 2.0, examples_per_unit=8).sensitivity == 2.0
    assert StepEvent(POISSON, 1.1, 1).sensitivity == 1.0


@pytest.mark.parametrize("facts, text", [
    ({}, "example"), ({"examples_per_unit": None}, "micro-batch"),
    ({"examples_per_unit": 8}, "micro-batch of 8 examples"),
    ({"sampling": replace(POISSON, views=4)}, "example (4 views)"),
    ({"sampling": replace(POISSON, examples_per_user=3)}, "user (up to 3 examples)"),
    ({"sampling": replace(POISSON, examples_per_user=3), "examples_per_unit": 2}, "micro-batch of 2 users")])
def test_the_text_of_the_unit_is_made_from_the_facts(facts, text):
    assert StepEvent(**{"sampling": POISSON, "noise_multiplier": 1.0, **facts}).unit == text
    with pytest.raises(TypeError):
        StepEvent(POISSON, 1.0, unit=text)


def test_every_kind_of_event_has_a_fold():
    assert set(FOLDS) == set(EVENT_KINDS.values())
    assert set(EVENT_KINDS) >= {"step", "release"}


def test_extreme_multipliers_give_numbers():
    for multiplier in (5e-324, 1e-300, 1e-150, 1e150, 1e300, 1.7e308):
        event = StepEvent(POISSON, multiplier, count_multiplier=multiplier)
        assert 0 <= event.effective_multiplier <= multiplier and math.isfinite(event.effective_multiplier)


def entries_of(kind, relation, examples_per_unit, multiplier=1.3, **facts):
    sampling = Sampling(kind, 1000, 50, relation, steps_per_epoch=20, **facts)
    event = StepEvent(sampling, multiplier, examples_per_unit=examples_per_unit,
                      count_multiplier=facts.pop("count", None))
    return (LedgerEntry(event, 50, 1),)


@pytest.mark.parametrize("accountant", ["rdp", "zcdp", "pld"])
@pytest.mark.parametrize("cap", [None, 55, 80])
@pytest.mark.parametrize("examples_per_unit", [1, 4, None])
@pytest.mark.parametrize("kind", SAMPLINGS)
def test_a_weaker_relation_never_costs_less(kind, examples_per_unit, cap, accountant, monkeypatch):
    if accountant == "pld":
        pytest.importorskip("dp_accounting")
        monkeypatch.setattr("mindarmour.privacy.accounting.pld.TOLERANCE", 0.2)  # any grid will do here
        if examples_per_unit is None:
            pytest.skip("costs what four examples cost")
    for recorded in RELATIONS[RELATIONS.index(natural_relation(kind)):]:
        entries = entries_of(kind, recorded, examples_per_unit, max_batch_size=cap)
        supported = RELATIONS[RELATIONS.index(recorded):]
        costs = [privacy_spent(entries, 1e-4, accountant, relation=relation).epsilon for relation in supported]
        assert costs == sorted(costs), dict(zip(supported, costs))
        judges = [Accountant(1e-4, accountant, relation) for relation in supported]
        if accountant != "pld":
            for figures in ([judge.delta_at(entries, 0.5).delta for judge in judges],
                            [judge.advantage(entries) for judge in judges],
                            [judge.true_positive_rate(entries, 0.01) for judge in judges]):
                assert figures == sorted(figures), dict(zip(supported, figures))


def test_a_micro_batch_of_unknown_size_costs_what_any_costs():
    for kind, relation in itertools.product(SAMPLINGS, RELATIONS):
        if RELATIONS.index(relation) >= RELATIONS.index(natural_relation(kind)):
            costs = {privacy_spent(entries_of(kind, relation, m), 1e-4).epsilon for m in (None, 2, 100)}
            assert len(costs) == 1
            assert privacy_spent(entries_of(kind, relation, 1), 1e-4).epsilon <= min(costs)


def test_the_count_of_an_adaptive_bound_moves_as_far_as_the_sum():
    event = StepEvent(replace(POISSON, kind="full"), 2.0, count_multiplier=10.0)
    halved = StepEvent(replace(POISSON, kind="full"), 1.0, count_multiplier=5.0)
    assert event.multiplier_under(REPLACE_ONE) == pytest.approx(halved.effective_multiplier, rel=1e-15)
    micro = replace(event, sensitivity=None, examples_per_unit=8)
    assert micro.multiplier_under(REPLACE_ONE) == micro.effective_multiplier


@pytest.mark.parametrize("count, batch, expected", [(1000, 150, (7, 6, 7)), (5000, 1300, (4, 3, 4)),
                                                    (60000, 256, (234, 234, 235)), (3, 100, (1, 1, 1))])
def test_one_rule_for_the_steps_of_an_epoch(count, batch, expected):
    assert tuple(steps_of_epoch(*arguments) for arguments in (
        ("poisson", count, batch), ("shuffle", count, batch), ("shuffle", count, batch, True))) == expected
    for kind in ("balls-in-bins", "fixed", "full"):
        assert steps_of_epoch(kind, count, batch) == expected[0]
