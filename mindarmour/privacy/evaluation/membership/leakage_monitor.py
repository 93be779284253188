"""Reading the leakage while the model trains."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Optional

from mindspore.train.callback import Callback

from mindarmour.privacy.evaluation.membership import roc
from mindarmour.privacy.evaluation.membership.attack_result import AttackResult
from mindarmour.privacy.evaluation.membership.intervals import why_no_interval_for
from mindarmour.privacy.evaluation.membership.records import read_records
from mindarmour.privacy.evaluation.membership.score_attacks import LossAttack
from mindarmour.privacy.evaluation.membership.signals import collect_signals
from mindarmour.utils import _validate
from mindarmour.utils.logger import LogUtil

_TAG = "LeakageMonitor"
_ENDS = {"_lower": 0, "_upper": 1}


@dataclass(frozen=True)
class _Rule:
    """Stop where the metric, or an end of its interval, exceeds the limit.

    Args:
        metric (str): Name of the metric.
        end (str): '' for the value, '_lower' or '_upper' for an end.
        limit (float): In [0, 1].
    """

    metric: str
    end: str
    limit: float

    @property
    def name(self) -> str:
        """As in `stop_if`."""
        return self.metric + self.end


class LeakageMonitor(Callback):
    """Attacks the network on two probe sets every few epochs and can stop training when it leaks.

    The first reading comes at the end of epoch `every`; each is logged at INFO and appended to `history`. The probe
    sets should hold a few hundred records each: with n records the interval of the AUC is about 1.1 / sqrt(n) wide.

    Guarantee: no differential privacy. The readings are computed from members without noise, so publishing them, or
    stopping by them, is outside the guarantee of the run. Each interval in `history` holds for one reading. A stop
    rule on an interval's end looks at every reading: there the k-th reading's interval is wider, with an error of
    (1 - confidence) / (k (k + 1)) shared out over the rules, so that whatever the number of readings a run that
    never leaks more than the limits goes on with a probability of at least `confidence`. A rule on a value itself,
    such as 'auc', has no such protection.

    Args:
        members (Dataset or tuple): Records of the training set (see `collect_signals`).
        non_members (Dataset or tuple): Records outside of it.
        every (int): Epochs between readings.
        attack (Callable): From `Signals` to `AttackResult`; default `LossAttack()`.
        metrics (Sequence[str]): Metrics to read (see `AttackResult.metric`).
        stop_if (dict): Stop when a reading exceeds a limit: 'auc' the value, 'auc_lower' the lower end of its
            interval, 'auc_upper' the upper end; likewise for the other metrics. None never stops. A rule that the
            probes or the attack can never support is refused.
        confidence (float): Of the intervals, in (0, 1).
        network (Cell): What to attack; default the network of the `Model` that trains. Needed if the `Model` was
            made of a train cell.
        batch_size (int): Records per forward pass.

    Examples:
        >>> monitor = LeakageMonitor(members, non_members, stop_if={"auc_lower": 0.6})    # doctest: +SKIP
        >>> model.train(10, dataset, callbacks=[monitor])                                 # doctest: +SKIP
        >>> monitor.history[-1]["auc"], monitor.history[-1]["auc_interval"]               # doctest: +SKIP
    """

    def __init__(self, members: Any, non_members: Any, *, every: int = 1, attack: Optional[Callable] = None,
                 metrics: Sequence[str] = ("auc", "tpr@1%fpr"), stop_if: Optional[dict] = None,
                 confidence: float = 0.95, network: Any = None, batch_size: int = 256) -> None:
        super().__init__()
        self._probes = read_records("members", members), read_records("non_members", non_members)
        self._every = _validate.integer("every", every, low=1)
        self._attack = LossAttack() if attack is None else attack
        if not callable(self._attack):
            raise TypeError(f"attack must be a function from Signals to AttackResult, but got "
                            f"{type(attack).__name__}.")
        self._limits = _checked_limits(stop_if, len(self._probes[1][1]))
        self._metrics = tuple(dict.fromkeys([*_checked_metrics(metrics), *(rule.metric for rule in self._limits)]))
        self._confidence = _validate.real("confidence", confidence, low=0, high=1)
        self._network = network
        self._batch_size = _validate.integer("batch_size", batch_size, low=1)
        self.history: list[dict[str, Any]] = []

    def on_train_epoch_end(self, run_context: Any) -> None:
        """Take a reading, and ask to stop if it exceeds a limit."""
        params = run_context.original_args()
        if params.cur_epoch_num % self._every:
            return
        reading = self.read(params.network if self._network is None else self._network, params.cur_epoch_num)
        exceeded = [rule.name for rule in self._limits if self._exceeds(rule, reading)]
        if exceeded:
            reading["stopped_by"] = exceeded
            LogUtil.get_instance().warn(_TAG, "epoch %d: %s above the limit, training stops.", params.cur_epoch_num,
                                        ", ".join(exceeded))
            run_context.request_stop()

    def read(self, network: Any, epoch: int) -> dict[str, Any]:
        """One reading of `network`, appended to `history` and returned as a dict."""
        signals = collect_signals(network, *self._probes, batch_size=self._batch_size, progress=False)
        result = self._attack(signals)
        reading: dict[str, Any] = {"epoch": epoch}
        for name in self._metrics:
            reading[name] = result.metric(name)
            reading[f"{name}_interval"] = result.ci(name, self._confidence)
        self.history.append(reading)
        for rule in self._limits:
            if rule.end:
                reading[f"{rule.name}_corrected"] = self._corrected_end(result, rule)
        text = ", ".join(f"{name} {roc.display(reading[name])} {roc.display(reading[f'{name}_interval'])}"
                         for name in self._metrics)
        LogUtil.get_instance().info(_TAG, "epoch %d: %s", epoch, text)
        return reading

    def _corrected_end(self, result: AttackResult, rule: _Rule) -> Optional[float]:
        """End of the rule's interval at this reading, the error shared out over readings and rules."""
        if result.without_intervals:
            raise ValueError(f"stop_if must not name {rule.name!r} with this attack, whose results have no intervals: "
                             f"{result.without_intervals}.")
        number, rules = len(self.history), sum(bool(other.end) for other in self._limits)
        error = (1 - self._confidence) / (number * (number + 1) * rules)
        # one end alone is looked at, so it may take the error of both
        interval = result.ci(rule.metric, 1 - 2 * error) if error < 0.5 else None
        return None if interval is None else interval[_ENDS[rule.end]]

    @staticmethod
    def _exceeds(rule: _Rule, reading: dict) -> bool:
        value = reading[f"{rule.name}_corrected"] if rule.end else reading[rule.metric]
        return value is not None and value > rule.limit


def _checked_metrics(metrics: Sequence[str]) -> Sequence[str]:
    _validate.instance("metrics", metrics, (list, tuple))
    for name in metrics:
        roc.parse_metric(name)
    return metrics


def _checked_limits(stop_if: Optional[dict], non_members: int) -> list[_Rule]:
    """The rules of `stop_if`, each of which can fire."""
    limits = []
    for name, limit in _validate.instance("stop_if", {} if stop_if is None else stop_if, dict).items():
        _validate.instance("the keys of stop_if", name, str)
        end = next((end for end in _ENDS if name.endswith(end)), "")
        metric = name[:len(name) - len(end)]
        roc.parse_metric(metric)
        reason = why_no_interval_for(metric, non_members)
        if reason and (end or roc.fpr_of_metric(metric) != 0):
            raise ValueError(f"stop_if must name rules that can fire, but {name!r} never does: {reason}, and there are "
                             f"{non_members}.")
        limits.append(_Rule(metric, end, _validate.real(f"stop_if[{name!r}]", limit, low=0, high=1, closed="both")))
    return limits
