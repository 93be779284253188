"""LeakageMonitor during real training: readings, stop rule, and no influence on the run."""
import mindspore as ms
import mindspore.dataset as ds
import numpy as np
import pytest
from mindspore import nn

from mindarmour.privacy.evaluation import ConfidenceAttack, LeakageMonitor

FEATURES, CLASSES, COUNT = 40, 4, 120


def arrays(seed):
    """Labels that cannot be learned, only remembered."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(COUNT, FEATURES)).astype(np.float32), rng.integers(0, CLASSES, COUNT).astype(np.int32)


def train(epochs, callbacks):
    ms.set_seed(0)
    net = nn.SequentialCell(nn.Dense(FEATURES, 64), nn.ReLU(), nn.Dense(64, CLASSES))
    model = ms.train.Model(net, nn.CrossEntropyLoss(), nn.Adam(net.trainable_params(), 0.01))
    data = ds.NumpySlicesDataset(arrays(0), ["image", "label"], shuffle=False).batch(40)
    model.train(epochs, data, callbacks=callbacks, dataset_sink_mode=False)
    return net


def test_reads_a_growing_leak_and_leaves_training_alone(mode):
    monitor = LeakageMonitor(arrays(0), arrays(1), every=2)
    watched, alone = train(6, [monitor]), train(6, [])
    assert [reading["epoch"] for reading in monitor.history] == [2, 4, 6]
    values = [reading["auc"] for reading in monitor.history]
    assert values[0] < values[2] and values[2] > 0.85
    low, high = monitor.history[0]["auc_interval"]
    assert low < values[0] < high
    for one, other in zip(watched.get_parameters(), alone.get_parameters()):
        np.testing.assert_allclose(one.asnumpy(), other.asnumpy(), atol=1e-6)


@pytest.mark.parametrize("rule, limit", [("auc", 0.8), ("auc_lower", 0.8), ("tpr@10%fpr_lower", 0.6)])
def test_stops_when_a_reading_exceeds_the_limit(rule, limit):
    monitor = LeakageMonitor(arrays(0), arrays(1), stop_if={rule: limit})
    train(15, [monitor])
    assert 1 < len(monitor.history) < 15
    assert monitor.history[-1]["stopped_by"] == [rule]
    assert all("stopped_by" not in reading for reading in monitor.history[:-1])


def test_does_not_stop_without_a_leak():
    monitor = LeakageMonitor(arrays(2), arrays(1), stop_if={"auc_lower": 0.6})
    train(3, [monitor])
    assert len(monitor.history) == 3
    assert all(abs(reading["auc"] - 0.5) < 0.12 for reading in monitor.history)


def test_a_rate_the_probes_cannot_support_is_not_available():
    small = [part[:50] for part in arrays(1)]
    monitor = LeakageMonitor(arrays(0), small, metrics=["tpr@1%fpr"], stop_if={"tpr@1%fpr_lower": 0.0})
    train(2, [monitor])
    assert [reading["tpr@1%fpr"] for reading in monitor.history] == [None, None]


def test_network_and_attack_can_be_chosen():
    net = nn.Dense(FEATURES, CLASSES)
    monitor = LeakageMonitor(arrays(0), arrays(1), attack=ConfidenceAttack(), network=net, metrics=["auc"])
    train(2, [monitor])
    assert monitor.history[0]["auc"] == monitor.history[1]["auc"], "this network does not train"


@pytest.mark.parametrize("changes, error, text", [
    ({"every": 0}, ValueError, "every"), ({"every": 1.5}, TypeError, "every"),
    ({"attack": "loss"}, TypeError, "attack"),
    ({"metrics": "auc"}, TypeError, "metrics"), ({"metrics": ["f1"]}, ValueError, "metric"),
    ({"stop_if": {"f1_lower": 0.5}}, ValueError, "metric"), ({"stop_if": ["auc"]}, TypeError, "stop_if"),
    ({"stop_if": {"auc": float("nan")}}, ValueError, "stop_if"), ({"stop_if": {"auc": 60}}, ValueError, "stop_if"),
    ({"confidence": 0}, ValueError, "confidence"), ({"batch_size": -1}, ValueError, "batch_size"),
    ({"members": (np.zeros((0, 2)), np.zeros(0, int))}, ValueError, "members"),
])
def test_bad_arguments_are_refused(changes, error, text):
    with pytest.raises(error, match=text):
        LeakageMonitor(**{"members": arrays(0), "non_members": arrays(1), **changes})
