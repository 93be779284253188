"""LeakageMonitor during real training: readings, stop rule, and no influence on the run."""
from types import SimpleNamespace

import mindspore as ms
import mindspore.dataset as ds
import numpy as np
import pytest
from mindspore import nn

from mindarmour.privacy.evaluation import AttackResult, ConfidenceAttack, LeakageMonitor

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


@pytest.mark.parametrize("rule, limit", [("auc", 0.8), ("auc_lower", 0.8), ("tpr@10%fpr_lower", 0.3)])
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
    monitor = LeakageMonitor(arrays(0), small, metrics=["tpr@1%fpr"])
    train(2, [monitor])
    assert [reading["tpr@1%fpr"] for reading in monitor.history] == [None, None]


@pytest.mark.parametrize("rule", ["tpr@1%fpr_lower", "tpr@1%fpr", "tpr@0%fpr_lower"])
def test_a_rule_that_can_never_fire_is_refused(rule):
    small = [part[:50] for part in arrays(1)]
    with pytest.raises(ValueError, match="never does"):
        LeakageMonitor(arrays(0), small, stop_if={rule: 0.5})


class Stopping:
    """The part of a run's context that the monitor uses."""

    def __init__(self):
        self.epoch, self.stopped = 0, False

    def original_args(self):
        return SimpleNamespace(cur_epoch_num=self.epoch, network=lambda batch: batch)

    def request_stop(self):
        self.stopped = True


def stops(monitor, readings):
    run = Stopping()
    while run.epoch < readings and not run.stopped:
        run.epoch += 1
        monitor.on_train_epoch_end(run)
    return run.stopped


def draw(shift, rng, n=60):
    scores = np.concatenate([rng.normal(shift, 1, n), rng.normal(0, 1, n)])
    return AttackResult(scores, np.repeat([True, False], n))


@pytest.mark.parametrize("rules, shift", [({"auc_lower": 0.5}, 0.0), ({"auc_lower": 0.6}, 0.358),
                                          ({"auc_lower": 0.5, "advantage_lower": 0.0}, 0.0)])
def test_stops_by_chance_no_more_often_than_the_confidence_says(rules, shift):
    # many looks at a leak that is exactly at the limit; a rule on uncorrected intervals stops nearly always
    rng, runs, stopped = np.random.default_rng(0), 30 if len(rules) > 1 else 120, 0
    probes = [(np.eye(2)[:1] + number, np.zeros(1, int)) for number in (1, 2)]
    for _ in range(runs):
        monitor = LeakageMonitor(*probes, attack=lambda signals: draw(shift, rng), metrics=["auc"], stop_if=rules)
        stopped += stops(monitor, 20 if len(rules) > 1 else 40)
    assert stopped / runs <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / runs)


def test_the_error_is_shared_out_over_readings_and_rules():
    probes = [(np.eye(2)[:1] + number, np.zeros(1, int)) for number in (1, 2)]
    result = draw(0.5, np.random.default_rng(0))
    rules = {"auc_lower": 0.9, "auc_upper": 1.0, "advantage_lower": 0.9}
    monitor = LeakageMonitor(*probes, attack=lambda signals: result, stop_if=rules, confidence=0.9)
    assert not stops(monitor, 4)
    shares = []
    for number, reading in enumerate(monitor.history, 1):
        shares.append(0.1 / (number * (number + 1) * 3))
        assert reading["auc_lower_corrected"] == pytest.approx(result.ci("auc", 1 - 2 * shares[-1])[0])
        assert reading["auc_upper_corrected"] == pytest.approx(result.ci("auc", 1 - 2 * shares[-1])[1])
    assert 3 * sum(shares) < 0.1


def test_a_real_leak_stops_at_once_and_a_growing_one_in_time():
    probes = [(np.eye(2)[:1] + number, np.zeros(1, int)) for number in (1, 2)]
    rng = np.random.default_rng(0)
    monitor = LeakageMonitor(*probes, attack=lambda signals: draw(2.0, rng), stop_if={"auc_lower": 0.6})
    assert stops(monitor, 3) and monitor.history[-1]["auc_lower_corrected"] > 0.6


def test_an_attack_without_intervals_cannot_stop_by_one():
    probes = [(np.eye(2)[:1] + number, np.zeros(1, int)) for number in (1, 2)]
    attack = lambda signals: AttackResult(np.arange(4.0), [1, 0, 1, 0], without_intervals="out of fold")  # noqa: E731
    with pytest.raises(ValueError, match="out of fold"):
        stops(LeakageMonitor(*probes, attack=attack, stop_if={"auc_lower": 0.6}), 1)


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
