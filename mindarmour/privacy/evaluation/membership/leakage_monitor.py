"""Reading the leakage while the model trains."""
from __future__ import annotations

from mindspore.train.callback import Callback

from mindarmour.privacy.evaluation.membership import roc
from mindarmour.privacy.evaluation.membership.records import read_records
from mindarmour.privacy.evaluation.membership.score_attacks import LossAttack
from mindarmour.privacy.evaluation.membership.signals import collect_signals
from mindarmour.utils import _validate
from mindarmour.utils.logger import LogUtil

_TAG = "LeakageMonitor"
_ENDS = {"_lower": 0, "_upper": 1}


class LeakageMonitor(Callback):
    """Attacks the network on two probe sets every few epochs and can stop training when it leaks.

    The first reading comes at the end of epoch `every`; each is logged at INFO and appended to `history`. The probe
    sets should hold a few hundred records each: with n records the interval of the AUC is about 1.1 / sqrt(n) wide.

    Guarantee: none. The readings are computed from members without noise, so publishing them, or stopping by them,
    is outside the differential privacy guarantee of the run. Each interval holds for one reading: with many readings
    a stop rule fires by chance more often than `confidence` says, so raise `confidence` for long runs.

    Args:
        members (Dataset or tuple): Records of the training set (see `collect_signals`).
        non_members (Dataset or tuple): Records outside of it.
        every (int): Epochs between readings.
        attack (Callable): From `Signals` to `AttackResult`; default `LossAttack()`.
        metrics (Sequence[str]): Metrics to read (see `AttackResult.metric`).
        stop_if (dict): Stop when a reading exceeds a limit: 'auc' the value, 'auc_lower' the lower end of its
            interval, 'auc_upper' the upper end; likewise for the other metrics. None never stops.
        confidence (float): Of the intervals, in (0, 1).
        network (Cell): What to attack; default the network of the `Model` that trains. Needed if the `Model` was
            made of a train cell.
        batch_size (int): Records per forward pass.

    Examples:
        >>> monitor = LeakageMonitor(members, non_members, stop_if={"auc_lower": 0.6})    # doctest: +SKIP
        >>> model.train(10, dataset, callbacks=[monitor])                                 # doctest: +SKIP
        >>> monitor.history[-1]["auc"], monitor.history[-1]["auc_interval"]               # doctest: +SKIP
    """

    def __init__(self, members, non_members, *, every=1, attack=None, metrics=("auc", "tpr@1%fpr"), stop_if=None,
                 confidence=0.95, network=None, batch_size=256):
        super().__init__()
        self._probes = read_records("members", members), read_records("non_members", non_members)
        self._every = _validate.integer("every", every, low=1)
        self._attack = LossAttack() if attack is None else attack
        if not callable(self._attack):
            raise TypeError(f"attack must be a function from Signals to AttackResult, but got "
                            f"{type(attack).__name__}.")
        self._limits = _checked_limits(stop_if)
        self._metrics = tuple(dict.fromkeys([*_checked_metrics(metrics), *(name for name, _, _ in self._limits)]))
        self._confidence = _validate.real("confidence", confidence, low=0, high=1)
        self._network = network
        self._batch_size = _validate.integer("batch_size", batch_size, low=1)
        self.history = []

    def on_train_epoch_end(self, run_context):
        """Take a reading, and ask to stop if it exceeds a limit."""
        params = run_context.original_args()
        if params.cur_epoch_num % self._every:
            return
        reading = self.read(params.network if self._network is None else self._network, params.cur_epoch_num)
        exceeded = [f"{name}{end}" for name, end, limit in self._limits if _exceeds(reading, name, end, limit)]
        if exceeded:
            reading["stopped_by"] = exceeded
            LogUtil.get_instance().warn(_TAG, "epoch %d: %s above the limit, training stops.", params.cur_epoch_num,
                                        ", ".join(exceeded))
            run_context.request_stop()

    def read(self, network, epoch):
        """One reading of `network`, appended to `history` and returned as a dict."""
        signals = collect_signals(network, *self._probes, batch_size=self._batch_size, progress=False)
        result = self._attack(signals)
        reading = {"epoch": epoch}
        for name in self._metrics:
            reading[name] = result.metric(name)
            reading[f"{name}_interval"] = result.ci(name, self._confidence)
        self.history.append(reading)
        text = ", ".join(f"{name} {roc.display(reading[name])} {roc.display(reading[f'{name}_interval'])}"
                         for name in self._metrics)
        LogUtil.get_instance().info(_TAG, "epoch %d: %s", epoch, text)
        return reading


def _checked_metrics(metrics):
    _validate.instance("metrics", metrics, (list, tuple))
    for name in metrics:
        roc.parse_metric(name)
    return metrics


def _checked_limits(stop_if):
    """(metric, '' or '_lower' or '_upper', limit) per entry."""
    limits = []
    for name, limit in _validate.instance("stop_if", {} if stop_if is None else stop_if, dict).items():
        _validate.instance("the keys of stop_if", name, str)
        end = next((end for end in _ENDS if name.endswith(end)), "")
        metric = name[:len(name) - len(end)]
        roc.parse_metric(metric)
        limits.append((metric, end, _validate.real(f"stop_if[{name!r}]", limit, low=0, high=1, closed="both")))
    return limits


def _exceeds(reading, name, end, limit):
    value = reading[f"{name}_interval"] if end else reading[name]
    if value is None:
        return False
    return (value[_ENDS[end]] if end else value) > limit
