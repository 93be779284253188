"""Signals: collection from every kind of model, files, bad input."""
import subprocess
import sys

import mindspore as ms
import mindspore.dataset as ds
import numpy as np
import pytest
from mindspore import nn
from sklearn.linear_model import LogisticRegression

from mindarmour.privacy.evaluation import Signals, collect_signals
from mindarmour.privacy.evaluation.membership.signals import logit_scaled_confidence


class Small(nn.Cell):
    """Dropout tells evaluation from training state; a frozen child has a state of its own."""

    def __init__(self):
        super().__init__()
        self.dense = nn.Dense(4, 3)
        self.dropout = nn.Dropout(p=0.5)

    def construct(self, x):
        return self.dropout(self.dense(x))


def records(count=10, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, 4)).astype(np.float32), rng.integers(0, 3, count).astype(np.int32)


def expected_logits(net, inputs):
    return inputs @ net.dense.weight.asnumpy().T + net.dense.bias.asnumpy()


@pytest.mark.parametrize("wrap", [lambda net: net, ms.train.Model], ids=["cell", "model"])
def test_collects_logits_in_evaluation_state(mode, wrap):
    net = Small()
    net.set_train(True)
    net.dense.set_train(False)
    members, others = records(7), records(5, 1)
    signals = collect_signals(wrap(net), members, others, batch_size=4, progress=False)
    np.testing.assert_allclose(signals.logits, expected_logits(net, np.concatenate([members[0], others[0]])), atol=1e-5)
    assert signals.is_member.tolist() == [True] * 7 + [False] * 5
    assert signals.labels.tolist() == [*members[1], *others[1]]
    assert (net.training, net.dropout.training, net.dense.training) == (True, True, False), "state given back"


def test_double_precision_inputs_are_narrowed():
    inputs, labels = records()
    net = Small()
    signals = collect_signals(net, (inputs.astype(np.float64), labels), None, progress=False)
    np.testing.assert_allclose(signals.logits, expected_logits(net, inputs), atol=1e-5)


def test_sees_parameters_as_they_are_now(mode):
    net = Small()
    before = collect_signals(net, records(), None, progress=False)
    net.dense.bias.set_data(net.dense.bias + 1)
    after = collect_signals(net, records(), None, progress=False)
    np.testing.assert_allclose(after.logits, before.logits + 1, atol=1e-5)


@pytest.mark.parametrize("make", [
    lambda x, y: ds.NumpySlicesDataset((x, y), ["image", "label"], shuffle=False),
    lambda x, y: ds.NumpySlicesDataset((x, y), ["image", "label"], shuffle=False).batch(4),
    lambda x, y: ds.NumpySlicesDataset((x, y), ["image", "label"], shuffle=False).batch(1),
    lambda x, y: ds.NumpySlicesDataset((x, y), ["data", "target"], shuffle=False).batch(10),
    lambda x, y: ds.NumpySlicesDataset((x, np.zeros(10), y), ["image", "weight", "label"], shuffle=False).batch(3),
    lambda x, y: ds.NumpySlicesDataset((x, y[:, None]), ["image", "label"], shuffle=False).batch(5),
])
def test_reads_every_shape_of_data_set(make):
    x, y = records()
    signals = collect_signals(lambda batch: batch[:, :3], make(x, y), None, progress=False)
    np.testing.assert_allclose(signals.logits, x[:, :3])
    assert signals.labels.tolist() == y.tolist()


def test_scikit_learn_probabilities_become_logits():
    x, y = records(200)
    classifier = LogisticRegression().fit(x[y != 1], y[y != 1])
    signals = collect_signals(classifier, (x, y), None, progress=False)
    probability = classifier.predict_proba(x)
    np.testing.assert_allclose(np.exp(signals.logits[:, [0, 2]]), probability, rtol=1e-9)
    assert (signals.logits[:, 1] < -700).all(), "a class that was never seen"
    assert (signals.losses[y == 1] > 700).all()


def test_augmentations_become_views():
    x, y = records()
    signals = collect_signals(lambda batch: batch[:, :3], (x, y), None, augmentations=[np.negative, lambda b: 2 * b],
                              batch_size=3, progress=False)
    np.testing.assert_allclose(signals.views, np.stack([-x[:, :3], 2 * x[:, :3]], axis=1))
    assert signals.queries.shape == (10, 3, 3)


def test_losses_do_not_overflow():
    signals = Signals(np.array([[1e4, 0.0], [0.0, 1e4]]), np.array([0, 0]), np.array([1, 0]))
    assert signals.losses.tolist() == [0.0, 1e4]
    np.testing.assert_allclose(logit_scaled_confidence(signals.logits, signals.labels), [1e4, -1e4])


def test_logit_scaled_confidence_is_the_log_odds():
    logits, labels = np.random.default_rng(0).normal(size=(20, 2, 5)), np.arange(20) % 5
    p = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
    true = np.take_along_axis(p, labels[:, None, None], axis=2)[..., 0]
    np.testing.assert_allclose(logit_scaled_confidence(logits, labels), np.log(true / (1 - true)))


def test_file_holds_everything(tmp_path):
    path = tmp_path / "signals.npz"
    signals = collect_signals(lambda batch: batch[:, :3], records(4), records(3, 1), ids=([3, 4, 5, 6], [0, 1, 2]),
                              augmentations=[np.negative], progress=False, path=path)
    loaded = Signals.load(path)
    for name in ("logits", "labels", "is_member", "ids", "views"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(signals, name))
    with np.load(path) as file:
        np.testing.assert_allclose(file["losses"], signals.losses)
    np.savez(tmp_path / "short.npz", logits=np.zeros((2, 2)))
    with pytest.raises(ValueError, match="lacks is_member, labels"):
        Signals.load(tmp_path / "short.npz")


def test_progress_bar_is_shown_unless_switched_off(capsys):
    collect_signals(lambda batch: batch[:, :3], records(), None)
    assert "Signals" in capsys.readouterr().err
    collect_signals(lambda batch: batch[:, :3], records(), None, progress=False)
    assert capsys.readouterr().err == ""


def test_judging_arrays_does_not_import_mindspore():
    code = ("import sys, numpy as np; from mindarmour.privacy import evaluation as e;"
            "s = e.Signals(np.eye(2), np.array([0, 0]), np.array([1, 0])); e.LossAttack()(s).ci('auc');"
            "e.collect_signals(lambda x: x, (np.eye(2), np.arange(2)), None, progress=False);"
            "assert 'mindspore' not in sys.modules and 'sklearn' not in sys.modules")
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def fake(**changes):
    fields = {"logits": np.zeros((4, 3)), "labels": np.array([0, 1, 2, 0]), "is_member": np.array([1, 1, 0, 0])}
    return {**fields, **changes}


@pytest.mark.parametrize("changes, error, text", [
    ({"logits": np.full((4, 3), np.nan)}, ValueError, "logits must be finite"),
    ({"logits": np.full((4, 3), np.inf)}, ValueError, "logits must be finite"),
    ({"logits": np.zeros(4)}, ValueError, r"shape \[records, classes\]"),
    ({"logits": np.zeros((4, 1))}, ValueError, "two classes"),
    ({"logits": np.zeros((0, 3)), "labels": np.zeros(0, int), "is_member": np.zeros(0, bool)}, ValueError, "a record"),
    ({"logits": np.full((4, 3), "a")}, TypeError, "real numbers"),
    ({"labels": np.eye(3)[[0, 1, 2, 0]]}, ValueError, "one-hot"),
    ({"labels": np.array([0, 1, 2, 3])}, ValueError, "from 0 to 2"),
    ({"labels": np.array([0, 1, 2, -1])}, ValueError, "from 0 to 2"),
    ({"labels": np.array([0.0, 1.0, 2.0, 0.0])}, TypeError, "whole numbers"),
    ({"labels": np.array([0, 1])}, ValueError, "one entry per record"),
    ({"is_member": np.array([1, 0])}, ValueError, "is_member"),
    ({"ids": np.array([0, 1, 2])}, ValueError, "ids"),
    ({"ids": np.array([0, 1, 2, 2])}, ValueError, "ids must not repeat"),
    ({"ids": np.array([0.0, 1.0, 2.0, 3.0])}, TypeError, "ids must be whole"),
    ({"views": np.zeros((4, 2, 5))}, ValueError, "views must have shape"),
])
def test_bad_signals_are_one_clear_error(changes, error, text):
    with pytest.raises(error, match=text):
        Signals(**fake(**changes))


def identity(batch):
    return batch[:, :3]


@pytest.mark.parametrize("members, error, text", [
    ((np.zeros((0, 4)), np.zeros(0, int)), ValueError, "at least one record"),
    ((np.zeros((3, 4)), np.zeros(2, int)), ValueError, "one label per record"),
    ((np.zeros((3, 4)), np.eye(3)), ValueError, "one-hot"),
    ((np.zeros((3, 4)), np.zeros(3)), TypeError, "whole numbers"),
    ((np.zeros((3, 4)),), ValueError, "a pair"),
    ("digits", TypeError, "members must be of type"),
])
def test_bad_records_are_one_clear_error(members, error, text):
    with pytest.raises(error, match=text):
        collect_signals(identity, members, None, progress=False)


@pytest.mark.parametrize("make, error, text", [
    (lambda x, y: ds.NumpySlicesDataset((x,), ["image"]), ValueError, "columns"),
    (lambda x, y: ds.NumpySlicesDataset((x, y, y), ["a", "b", "c"]), ValueError, "columns"),
    (lambda x, y: ds.NumpySlicesDataset((x, np.eye(3, dtype=np.float32)[y]), ["image", "label"]), ValueError,
     "one-hot"),
    (lambda x, y: ds.NumpySlicesDataset((x, np.eye(3, dtype=np.float32)[y]), ["image", "label"]).batch(5), ValueError,
     "one-hot"),
    (lambda x, y: ds.NumpySlicesDataset((x, y), ["image", "label"]).batch(99, drop_remainder=True), ValueError,
     "empty"),
])
def test_bad_data_sets_are_one_clear_error(make, error, text):
    with pytest.raises(error, match=text):
        collect_signals(identity, make(*records()), None, progress=False)


@pytest.mark.parametrize("model, error, text", [
    (3, TypeError, "model_or_cell must be"),
    (lambda batch: batch[:, 0], ValueError, "one row of logits per record"),
    (lambda batch: batch[:2], ValueError, "one row of logits per record"),
    (lambda batch: np.full((len(batch), 3), np.nan), ValueError, "finite"),
])
def test_bad_models_are_one_clear_error(model, error, text):
    with pytest.raises(error, match=text):
        collect_signals(model, records(), None, progress=False)


@pytest.mark.parametrize("keywords, error", [({"batch_size": 0}, ValueError), ({"batch_size": 2.0}, TypeError),
                                             ({"augmentations": [1]}, TypeError), ({"ids": ([0, 1], [])}, ValueError)])
def test_bad_settings_are_refused(keywords, error):
    with pytest.raises(error):
        collect_signals(identity, records(), None, progress=False, **keywords)


def test_no_records_at_all_are_refused():
    with pytest.raises(ValueError, match="must not both be None"):
        collect_signals(identity, None, None)
