"""Ledger files: read back exactly, old ones too; what is damaged, newer or untrue is refused."""
import copy
import json
import math
from pathlib import Path

import pytest
from ledger_documents import document_of, packed

from mindarmour.privacy.accounting import Ledger, Sampling, StepEvent, ledger_file, privacy_spent
from mindarmour.privacy.accounting.events import ADD_OR_REMOVE, REPLACE_ONE, ZERO_OUT, ReleaseEvent
from mindarmour.privacy.accounting.ledger_file import MARK, VERSION
from mindarmour.privacy.errors import LedgerMismatchError

FILES = Path(__file__).parent / "files"
SAMPLING = {"kind": "poisson", "num_examples": 60000, "batch_size": 256, "relation": "add-or-remove"}


def old(values, kind=0, steps=500, epoch=0, sampling=None, epochs=0):
    """A file of version 1 with one row."""
    return ledger_file.from_bytes(packed({"samplings": [sampling or SAMPLING], "segments": [
        {"run": "a", "data": None, "note": "", "epochs": epochs, "rows": [[kind, 0, steps, epoch, *values]]}]}))


def test_a_file_of_the_first_version_says_what_it_said():
    expected = json.loads((FILES / "version1.json").read_text())
    ledger = ledger_file.load(FILES / "version1.ledger")
    assert ledger.steps == expected["steps"]
    assert [segment.run for segment in ledger.segments] == ["00aa", "11bb"]
    assert ledger.segments[1].note == "weights from a public model"
    for accountant, epsilon in expected["all"].items():
        assert privacy_spent(ledger.entries, 1e-5, accountant).epsilon == pytest.approx(epsilon, rel=1e-7)
    for key, epsilons in expected["entries"].items():
        accountant, relation = key.split()
        relation = None if relation == "None" else relation
        read = [privacy_spent((entry,), 1e-5, accountant, relation=relation).epsilon for entry in ledger.entries]
        assert read == pytest.approx(epsilons, rel=1e-6)  # integrals are finer than they were
    assert not any(entry.event.note for entry in ledger.entries)
    units = [entry.event.unit for entry in ledger.entries]
    assert units[3:5] == ["micro-batch of 8 examples", "example (4 views)"] and units[-3:] == [
        "label", "record", "whole update"]


def test_files_of_version_3_0_say_what_they_said():
    first, second = (ledger_file.load(FILES / f"version{number}.ledger") for number in (1, 2))
    assert second.entries == first.entries and [s.note for s in second.segments] == [s.note for s in first.segments]
    correlated = ledger_file.load(FILES / "version2_correlated.ledger")
    assert privacy_spent(correlated.entries, 1e-5).epsilon == pytest.approx(1.7777856763050446, rel=1e-6)


def test_unknown_training_stays_unknown():
    ledger = ledger_file.load(FILES / "version1_unknown_training.ledger")
    spent = privacy_spent(ledger.entries, 1e-5)
    assert spent.epsilon == math.inf and "unknown training" in spent.note
    assert ledger.steps == 6


def test_a_unit_that_the_suite_never_wrote_is_read_in_the_weakest_way():
    spent = privacy_spent(ledger_file.load(FILES / "version1_foreign_unit.ledger").entries, 1e-5)
    weakest = Ledger()
    weakest.record(StepEvent(Sampling("poisson", 60000, 256, ADD_OR_REMOVE, max_batch_size=384), 1.1,
                             examples_per_unit=None), 500)
    assert spent.epsilon == pytest.approx(privacy_spent(weakest.entries, 1e-5).epsilon, rel=1e-12)
    assert "'image'" in spent.note and "several examples" in spent.note


@pytest.mark.parametrize("unit, sensitivity, examples, noted", [
    ("example", 1.0, 1, False), ("micro-batch", 2.0, None, False), ("micro-batch of 8 examples", 2.0, 8, False),
    ("batch, clipped as one vector", 2.0, None, False), ("example", 2.0, None, True), ("record", 1.0, None, True),
    ("Example", 1.0, None, True), ("example (4 views)", 1.0, None, True),
    ("micro-batch of 8 examples", 1.0, None, True), ("micro-batch of 1 examples", 1.0, 1, False),
    ("micro-batch of 08 examples", 2.0, None, True)])
def test_units_of_the_first_version(unit, sensitivity, examples, noted):
    event = old([1.1, sensitivity, None, unit, "secure"]).entries[0].event
    assert event.examples_per_unit == examples and bool(event.note) == noted
    assert event.noise_multiplier == 1.1


def test_a_sensitivity_of_the_first_version_beyond_any_unit_is_less_noise():
    event = old([3.0, 6.0, None, "whatever", "secure"]).entries[0].event
    assert event.effective_multiplier == pytest.approx(3.0 / 6.0)


@pytest.mark.parametrize("values", [
    [-1.1, 1.0, None, "example", "secure"], [math.nan, 1.0, None, "example", "secure"],
    [math.inf, 1.0, None, "example", "secure"], ["1.1", 1.0, None, "example", "secure"],
    [True, 1.0, None, "example", "secure"], [1.1, 0.0, None, "example", "secure"],
    [1.1, -1.0, None, "example", "secure"], [1.1, 1.0, -3.0, "example", "secure"], [1.1, 1.0, None, 7, "secure"],
    [1.1, 1.0, None, "example", "trusted"], [1.1, 1.0, None, "example"], []])
def test_steps_of_the_first_version_that_cannot_be_true_are_refused(values):
    with pytest.raises(LedgerMismatchError, match="cannot be true"):
        old(values)


@pytest.mark.parametrize("change", [
    {"steps": -500}, {"steps": 1.5}, {"steps": "5"}, {"steps": None}, {"epoch": -1}, {"kind": 2}, {"kind": "step"},
    {"sampling": {**SAMPLING, "passes_per_epoch": 0}}, {"sampling": {**SAMPLING, "max_batch_size": -5}},
    {"sampling": {**SAMPLING, "batch_size": 70000}}, {"sampling": {**SAMPLING, "relation": "bounded"}},
    {"sampling": {**SAMPLING, "colour": "red"}}, {"epochs": -1}])
def test_rows_of_the_first_version_that_cannot_be_true_are_refused(change):
    with pytest.raises(LedgerMismatchError, match="cannot be true"):
        old([1.1, 1.0, None, "example", "secure"], **change)


def test_rows_without_steps_cost_nothing():
    assert old([1.1, 1.0, None, "example", "secure"], steps=0).entries == ()


def every_event():
    ledger = Ledger()
    poisson = Sampling("poisson", 60000, 256, ADD_OR_REMOVE, max_batch_size=384, shards=2)
    for event in (StepEvent(poisson, 1.1), StepEvent(poisson, 1 / 3, count_multiplier=25.0, examples_per_unit=8),
                  StepEvent(poisson, 2.0, examples_per_unit=None, noise_source="seeded", note="a remark"),
                  StepEvent(Sampling("shuffle", 1000, 99.5, ZERO_OUT, 2, 10, views=3), 6.0),
                  StepEvent(Sampling("balls-in-bins", 1000, 100, ADD_OR_REMOVE, 1, 10, examples_per_user=4), 2.0),
                  StepEvent(Sampling("fixed", 1000, 100, REPLACE_ONE), 6.0, noise_source="device"),
                  ReleaseEvent(0.5, 1e-9, "randomised response", "label"), ReleaseEvent(math.inf)):
        ledger.record(event, 25)
    ledger.start_epoch()
    ledger.spend_on("fingerprint")
    ledger.acknowledge("a note")
    return ledger


def test_every_kind_of_event_is_read_back_exactly(tmp_path):
    ledger = every_event()
    ledger_file.save(ledger, tmp_path / "a.ledger")
    again = ledger_file.load(tmp_path / "a.ledger")
    assert again.segments == ledger.segments and again.entries == ledger.entries
    assert ledger_file.to_bytes(again) == ledger_file.to_bytes(ledger)
    assert document_of(ledger_file.to_bytes(ledger))["version"] == VERSION


def test_a_file_of_a_later_version_is_refused():
    document = document_of(ledger_file.to_bytes(every_event()))
    for version in (VERSION + 1, 99):
        with pytest.raises(LedgerMismatchError, match=f"version {version}.*upgrade"):
            ledger_file.from_bytes(packed({**document, "version": version}))
    for version in ("2", None, -1, 1.5, True, 0):
        with pytest.raises(LedgerMismatchError):
            ledger_file.from_bytes(packed({**document, "version": version}))


def test_a_file_of_this_version_is_checked_like_what_is_recorded():
    document = document_of(ledger_file.to_bytes(every_event()))
    names = document["kinds"]["step"]
    row = document["segments"][0]["rows"][0]
    assert row[:2] == ["step", 0]
    changes = [(2, -1), (2, 0.5), (3, -1), (0, "stop"), (1, 99)]
    changes += [(4 + names.index(name), value) for name, value in (
        ("noise_multiplier", -1), ("noise_multiplier", "1"), ("sensitivity", 0.5), ("examples_per_unit", 0),
        ("noise_source", "magic"), ("count_multiplier", -1), ("examples_per_unit", 8))]
    for place, value in changes:
        edited = copy.deepcopy(document)
        edited["segments"][0]["rows"][0][place] = value
        with pytest.raises(LedgerMismatchError, match="cannot be true"):
            ledger_file.from_bytes(packed(edited))
    for edited in ([], "ledger", None, {}, {**document, "segments": None}, {**document, "kinds": {}},
                   {**document, "samplings": []}):
        with pytest.raises(LedgerMismatchError):
            ledger_file.from_bytes(packed(edited))


def test_a_file_that_was_cut_or_edited_is_refused():
    data = ledger_file.to_bytes(every_event())
    assert ledger_file.from_bytes(b"before" + data + b"after").steps == 200
    for length in range(0, len(data), 97):
        with pytest.raises(LedgerMismatchError):
            ledger_file.from_bytes(data[:length])
    for place in range(len(MARK) + 8, len(data), 61):
        with pytest.raises(LedgerMismatchError):
            ledger_file.from_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1:])
