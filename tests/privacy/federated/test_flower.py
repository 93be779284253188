"""DP-FedAvg inside Flower's own messages; skipped where Flower is not installed (see docs/federated.md)."""
import numpy as np
import pytest

pytest.importorskip("flwr", reason="Flower and MindSpore 2.10 need an environment of their own")

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from mindarmour.privacy.federated import PrivateRounds
from mindarmour.privacy.federated.flower import DPFedAvg

START = ArrayRecord({"weight": ArrayRecord([np.zeros((3, 2), np.float32)])["0"],
                     "bias": ArrayRecord([np.ones(2, np.float32)])["0"]})


@pytest.fixture(autouse=True)
def inside_a_run(monkeypatch):
    """Messages are made inside a run of Flower; its numbers are all they ask for."""
    for name in ("_run_id", "_node_id", "_task_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)


class Clients:
    """A grid of so many nodes."""

    def __init__(self, count):
        self._ids = list(range(100, 100 + count))

    def get_node_ids(self):
        return self._ids


def round_of(strategy, arrays, change, grid=None):
    """One round in which every client that is asked answers with `change` of what it got."""
    messages = list(strategy.configure_train(1, arrays, ConfigRecord(), grid or Clients(8)))
    return strategy.aggregate_train(1, [change(message) for message in messages]), messages


def answer(message, arrays):
    content = RecordDict({"arrays": arrays, "metrics": MetricRecord({"loss": 3.0, "num-examples": 7})})
    return Message(content=content, reply_to=message)


def moved_by(amount):
    def change(message):
        record = message.content["arrays"]
        parts = ArrayRecord([array + np.float32(amount) for array in record.to_numpy_ndarrays()])
        return answer(message, ArrayRecord(dict(zip(record, parts.values()))))
    return change


def test_updates_of_the_clients_are_clipped_and_averaged_and_metrics_are_dropped():
    strategy = DPFedAvg(PrivateRounds(8, 8, 0.5, 1e-9))
    (arrays, metrics), messages = round_of(strategy, START, moved_by(100.0))
    assert metrics is None and len(messages) == 8 and list(arrays) == ["weight", "bias"]
    moved = [new - old for new, old in zip(arrays.to_numpy_ndarrays(), START.to_numpy_ndarrays())]
    assert np.sqrt(sum(np.square(part).sum() for part in moved)) == pytest.approx(0.5, rel=1e-5)
    (arrays, _), _ = round_of(DPFedAvg(PrivateRounds(8, 8, 0.5, 1e-9)), START, moved_by(0.01))
    assert arrays.to_numpy_ndarrays()[1] == pytest.approx(1.01, abs=1e-5)


def test_a_client_with_other_names_or_shapes_counts_as_zero():
    odd = [lambda message: answer(message, ArrayRecord([np.ones(2, np.float32)])),
           lambda message: answer(message, ArrayRecord(dict(zip(START, ArrayRecord([np.ones(2)] * 2).values())))),
           moved_by(np.nan)]
    for change in odd:
        (arrays, _), _ = round_of(DPFedAvg(PrivateRounds(8, 8, 0.5, 1e-9)), START, change)
        for new, old in zip(arrays.to_numpy_ndarrays(), START.to_numpy_ndarrays()):
            np.testing.assert_allclose(new, old, atol=1e-6)


def test_who_is_asked_follows_the_claim_and_a_client_answers_once():
    strategy = DPFedAvg(PrivateRounds(8, 2, 0.5, 1.0))
    sizes = {len(round_of(strategy, START, moved_by(0.1))[1]) for _ in range(40)}
    assert len(sizes) > 2, "Poisson rounds differ in size"
    assert strategy.rounds.ledger.steps == 40
    strategy = DPFedAvg(PrivateRounds(8, 8, 0.5, 1.0))
    messages = list(strategy.configure_train(1, START, ConfigRecord(), Clients(8)))
    with pytest.raises(ValueError, match="answered twice"):
        strategy.aggregate_train(1, [moved_by(0.1)(messages[0]), moved_by(0.1)(messages[0])])
    with pytest.raises(ValueError, match="must follow configure_train"):
        DPFedAvg(PrivateRounds(8, 8, 0.5, 1.0)).aggregate_train(1, [])


def test_arrays_of_the_checkpoint_come_back_under_their_names(tmp_path):
    strategy = DPFedAvg(PrivateRounds(8, 8, 0.5, 1.0, checkpoint=tmp_path / "server.npz"))
    assert strategy.resumed(START) is START
    (arrays, _), _ = round_of(strategy, START, moved_by(0.1))
    again = DPFedAvg(PrivateRounds(8, 8, 0.5, 1.0, checkpoint=tmp_path / "server.npz"))
    assert list(again.resumed(START)) == ["weight", "bias"] and again.rounds_left(5) == 4
    for one, other in zip(again.resumed(START).to_numpy_ndarrays(), arrays.to_numpy_ndarrays()):
        assert np.array_equal(one, other)


@pytest.mark.parametrize("name", ["fraction_train", "weighted_by_key", "train_metrics_aggr_fn", "min_train_nodes"])
def test_what_the_claim_decides_is_no_argument(name):
    with pytest.raises(ValueError, match=name):
        DPFedAvg(PrivateRounds(8, 8, 0.5, 1.0), **{name: 1})
