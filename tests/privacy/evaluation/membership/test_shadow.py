"""ShadowModels: balanced halves, resuming after a kill, refusal of foreign folders, bad input."""
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from mindarmour.privacy.evaluation import RMIA, LiRA, ShadowModels, Signals
from mindarmour.privacy.evaluation.membership.shadow_models import balanced_halves

DIMENSIONS, CLASSES = 5, 2


def train_centres(inputs, labels, seed):
    """Nearest class mean, plus a little of the seed, so that no two models agree."""
    centres = np.stack([inputs[labels == label].mean(axis=0) for label in range(CLASSES)])
    centres += np.random.default_rng(seed).normal(0, 0.01, centres.shape)
    return lambda x: -((x[:, None] - centres) ** 2).sum(axis=2)


def records(count=60, seed=0):
    return np.random.default_rng(seed).normal(size=(count, DIMENSIONS)), np.arange(count) % CLASSES


def make(folder, train=train_centres, **changes):
    settings = {"dataset": records(), "num_models": 6, "seed": 0, "population": records(30, 1), **changes}
    return ShadowModels(train, cache_dir=folder, **settings)


class Counting:
    """A recipe that counts its trainings and breaks at one of them."""

    def __init__(self, break_at=None):
        self.calls, self._break_at = [], break_at

    def __call__(self, inputs, labels, seed):
        if len(self.calls) == self._break_at:
            raise RuntimeError("out of power")
        self.calls.append(seed)
        return train_centres(inputs, labels, seed)


def test_each_record_is_in_half_of_the_training_sets(tmp_path):
    seen = []

    def train(inputs, labels, seed):
        seen.append(inputs)
        return train_centres(inputs, labels, seed)

    store = make(tmp_path, train).fit(progress=False)
    assert (store.keep.sum(axis=0) == 3).all()
    for index, inputs in enumerate(seen):
        np.testing.assert_array_equal(inputs, records()[0][store.keep[index]])
    assert len({len(inputs) for inputs in seen}) > 1, "halves per record, not per model"


def test_seed_decides_the_halves_and_the_models(tmp_path):
    first, same, other = (make(tmp_path / name, seed=seed).fit(progress=False)
                          for name, seed in (("a", 0), ("b", 0), ("c", 1)))
    np.testing.assert_array_equal(first.keep, same.keep)
    np.testing.assert_array_equal(first.logits(2), same.logits(2))
    assert (first.keep != other.keep).any()


def test_halves_are_independent_of_data_drawn_from_the_same_seed():
    noise = np.random.default_rng(0).random(4000)
    chosen = noise < 0.1
    shares = balanced_halves(8, 4000, 0)[:, chosen].mean(axis=1)
    # standard deviation 0.025 for 400 records; the first model had them all when the streams were one
    assert np.abs(shares - 0.5).max() < 0.1


def test_a_broken_run_goes_on_where_it_stopped(tmp_path):
    broken, rest, nothing = Counting(break_at=4), Counting(), Counting()
    with pytest.raises(RuntimeError, match="out of power"):
        make(tmp_path, broken).fit(progress=False)
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("shadow_*.npz")}
    store = make(tmp_path, rest).fit(progress=False)
    assert len(broken.calls) == 4 and len(rest.calls) == 2
    assert not set(broken.calls) & set(rest.calls)
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("shadow_*.npz")}.items() >= before.items()
    make(tmp_path, nothing).fit(progress=False)
    assert nothing.calls == []
    np.testing.assert_array_equal(store.logits(5), make(tmp_path / "whole").fit(progress=False).logits(5))


KILLED_RUN = """
import sys, time
sys.path.insert(0, {tests!r})
import test_shadow as t
def train(inputs, labels, seed):
    with open({log!r}, "a") as file:
        file.write(f"{{seed}}\\n")
    time.sleep(0.02)
    return t.train_centres(inputs, labels, seed)
t.make({folder!r}, train, num_models=40, dataset=t.records(3000)).fit(progress=False)
"""


def test_a_killed_run_loses_at_most_the_model_in_work(tmp_path):
    folder, log = tmp_path / "store", tmp_path / "log"
    code = KILLED_RUN.format(tests=os.path.dirname(__file__), log=str(log), folder=str(folder))
    kills = 0
    for delay in np.random.default_rng(0).uniform(0.02, 0.25, 12):
        seen = len(log.read_text().split()) if log.exists() else 0
        process = subprocess.Popen([sys.executable, "-c", code])
        while process.poll() is None and (not log.exists() or len(log.read_text().split()) == seen):
            time.sleep(0.005)
        time.sleep(delay)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.wait()
        readable = [np.load(path)["logits"].shape for path in folder.glob("shadow_*.npz")]
        assert all(shape == (3000, 1, CLASSES) for shape in readable), "no half-written file under a final name"
    assert kills >= 3
    store = make(folder, num_models=40, dataset=records(3000)).fit(progress=False)
    trained = log.read_text().split()
    # each kill can cost the one model that was being trained, and nothing that was finished
    assert len(trained) - len(set(trained)) <= kills
    assert store.missing() == []
    whole = make(tmp_path / "whole", num_models=40, dataset=records(3000)).fit(progress=False)
    np.testing.assert_array_equal(store.logits(17), whole.logits(17))


def test_an_unreadable_file_is_trained_again(tmp_path):
    make(tmp_path).fit(progress=False)
    (tmp_path / "shadow_0003.npz").write_bytes(b"not an archive")
    again = Counting()
    assert make(tmp_path, again).missing() == [3]
    make(tmp_path, again).fit(progress=False)
    assert len(again.calls) == 1


@pytest.mark.parametrize("changes, name", [
    ({"num_models": 8}, "num_models"), ({"seed": 1}, "seed"), ({"tag": "dp"}, "tag"),
    ({"population": None}, "population"),
    ({"dataset": records(60, 5)}, "dataset"), ({"augmentations": [np.negative]}, "views"),
])
def test_a_folder_of_other_shadow_models_is_refused(tmp_path, changes, name):
    make(tmp_path)
    with pytest.raises(ValueError, match=f"another {name}"):
        make(tmp_path, **changes)


def test_cost_is_estimated_before_and_after_the_first_model(tmp_path, capfd):
    def slow(inputs, labels, seed):
        time.sleep(0.05)
        return train_centres(inputs, labels, seed)

    store = make(tmp_path, slow)
    assert store.cost_estimate().models_to_train == 6
    assert store.cost_estimate().seconds is None
    store.fit()
    output = "".join(capfd.readouterr())
    assert "6 models to train; the first one tells" in output
    assert "5 models to train" in output and "MiB" in output
    done = store.cost_estimate()
    assert done.models_to_train == 0 and done.seconds == 0
    assert 0.05 <= done.seconds_per_model < 5
    size = sum(path.stat().st_size for path in tmp_path.glob("shadow_*.npz"))
    assert done.disk_bytes == pytest.approx(size, rel=0.01)


def test_shadow_models_stand_in_for_the_audited_one(tmp_path):
    store = make(tmp_path, augmentations=[np.negative]).fit(progress=False)
    signals = store.signals(2, ids=np.array([5, 1, 8]))
    np.testing.assert_array_equal(signals.is_member, store.keep[2, [5, 1, 8]])
    np.testing.assert_array_equal(signals.logits, store.logits(2)[[5, 1, 8], 0])
    assert signals.views.shape == (3, 1, CLASSES)
    assert not store.population_signals(0).is_member.any()
    members, others = store.split(3)
    assert len(members) == len(others) == 30 and not set(members) & set(others)
    np.testing.assert_array_equal(store.subset(members)[0], records()[0][members])


def test_a_mindspore_network_can_be_trained(tmp_path):
    from mindspore import nn

    def train(inputs, labels, seed):
        return nn.Dense(DIMENSIONS, CLASSES)

    data = records()[0].astype(np.float32), records()[1]
    store = make(tmp_path, train, dataset=data, population=None, num_models=2).fit(progress=False)
    assert store.logits(1).shape == (60, 1, CLASSES)


def test_plan_is_readable(tmp_path):
    make(tmp_path, tag="mlp-64")
    assert json.loads((tmp_path / "plan.json").read_text())["tag"] == "mlp-64"


@pytest.mark.parametrize("changes, error, text", [
    ({"num_models": 5}, ValueError, "even"), ({"num_models": 0}, ValueError, "num_models"),
    ({"num_models": 4.0}, TypeError, "num_models"), ({"seed": -1}, ValueError, "seed"),
    ({"seed": "a"}, TypeError, "seed"),
    ({"batch_size": 0}, ValueError, "batch_size"), ({"tag": 1}, TypeError, "tag"),
    ({"train": 1}, TypeError, "train_fn"),
    ({"dataset": (np.zeros((4, 2)), np.eye(4))}, ValueError, "one-hot"),
    ({"dataset": (np.zeros((0, 2)), np.zeros(0, int))}, ValueError, "at least one record"),
    ({"dataset": (np.zeros((4, 2)), np.array([0, 1, -1, 0]))}, ValueError, "classes from 0"),
    ({"population": "digits"}, TypeError, "population"),
])
def test_bad_arguments_are_refused(tmp_path, changes, error, text):
    with pytest.raises(error, match=text):
        make(tmp_path, **changes)


def test_outputs_with_nan_are_refused(tmp_path):
    store = make(tmp_path, lambda inputs, labels, seed: lambda x: np.full((len(x), CLASSES), np.nan))
    with pytest.raises(ValueError, match="finite"):
        store.fit(progress=False)
    assert len(store.missing()) == 6


def test_attacks_need_trained_shadow_models(tmp_path):
    signals = Signals(np.zeros((2, CLASSES)), np.array([0, 1]), np.array([1, 0]))
    with pytest.raises(ValueError, match=r"Call fit\(\) first"):
        LiRA()(signals, make(tmp_path))


def audited(ids, labels=None, views=None):
    ids = np.asarray(ids)
    labels = ids % CLASSES if labels is None else labels
    rng = np.random.default_rng(0)
    return Signals(rng.normal(size=(len(ids), CLASSES)), labels, np.arange(len(ids)) % 2, ids, views)


@pytest.mark.parametrize("signals, text", [
    (audited([0, 1, 60]), "0 to 59"), (audited([-1, 1, 2], np.zeros(3, int)), "0 to 59"),
    (audited([0, 1, 2], np.array([0, 0, 0])), "labels differ"),
    (audited([0, 1], views=np.zeros((2, 1, CLASSES))), "augmented views"),
])
def test_mismatched_ids_are_one_clear_error(tmp_path, signals, text):
    store = make(tmp_path).fit(progress=False)
    for attack in (lambda: LiRA()(signals, store), lambda: RMIA(a=0.5)(signals, store, store.population_signals(0))):
        with pytest.raises(ValueError, match=text):
            attack()


def test_too_few_shadow_models_are_one_clear_error(tmp_path):
    store = make(tmp_path, num_models=2).fit(progress=False)
    signals, population = audited([0, 1, 2, 3]), store.population_signals(0)
    with pytest.raises(ValueError, match="at least 4 shadow models"):
        LiRA()(signals, store)
    with pytest.raises(ValueError, match="a='auto' needs at least 4"):
        RMIA("offline")(store.signals(1), store, population)
    with pytest.raises(ValueError, match="at least 2 shadow models"):
        RMIA("offline", a=0.5)(signals, store, population, exclude=[0])
    assert len(RMIA("offline", a=0.5)(signals, store, population).scores) == 4


def test_excluding_leaves_too_few_on_one_side(tmp_path):
    store = make(tmp_path).fit(progress=False)
    with pytest.raises(ValueError, match="in and out of at least 2"):
        LiRA()(store.signals(0), store, exclude=[0, 1])


def test_rmia_needs_the_population_of_the_store(tmp_path):
    store = make(tmp_path).fit(progress=False)
    with pytest.raises(ValueError, match="in that order"):
        RMIA()(audited([0, 1]), store, audited(range(3)))
    without = make(tmp_path / "without", population=None).fit(progress=False)
    with pytest.raises(ValueError, match="population must be given to ShadowModels"):
        RMIA()(audited([0, 1]), without, audited(range(3)))


@pytest.mark.parametrize("index, error", [(6, ValueError), (-1, ValueError), (0.5, TypeError)])
def test_bad_model_numbers_are_refused(tmp_path, index, error):
    store = make(tmp_path).fit(progress=False)
    with pytest.raises(error):
        store.signals(index)
    with pytest.raises(error):
        LiRA()(audited([0, 1]), store, exclude=[index])
