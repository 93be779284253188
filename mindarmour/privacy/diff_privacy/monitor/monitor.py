"""Privacy monitors: callbacks that say what has been spent, under which assumptions."""
from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Optional

from mindarmour.privacy.accounting import Sampling
from mindarmour.privacy.accounting.events import ADD_OR_REMOVE, POISSON, SHUFFLE, ZERO_OUT
from mindarmour.privacy.accounting.sampling import steps_of_epoch
from mindarmour.privacy.diff_privacy.monitor.arguments import (
    DEFAULT_INTERVAL,
    DEFAULT_MODE,
    DEFAULT_MULTIPLIER,
    DEFAULT_RATE,
    MonitorArguments,
    Targets,
)
from mindarmour.privacy.diff_privacy.monitor.base import Monitor


class PrivacyMonitorFactory:
    """Creates privacy monitors by name."""

    @staticmethod
    def create(policy: str, *args: Any, **kwargs: Any) -> Monitor:
        """Create a monitor.

        Args:
            policy (str): 'rdp' for `RDPMonitor`, 'zcdp' for `ZCDPMonitor`, 'pld' for `PLDMonitor`, 'all' for a
                `PLDMonitor` that prints the figures of the other two beside its own.
            *args, **kwargs: The monitor's arguments.

        Raises:
            ValueError: Unknown policy.

        Examples:
            >>> from mindarmour.privacy.diff_privacy import PrivacyMonitorFactory
            >>> rdp = PrivacyMonitorFactory.create('rdp', num_samples=60000, batch_size=256, noise_decay_mode=None)
        """
        kinds = {"rdp": RDPMonitor, "zcdp": ZCDPMonitor, "pld": PLDMonitor,
                 "all": partial(PLDMonitor, beside=("rdp", "zcdp"))}
        if policy not in kinds:
            raise ValueError(f"policy must be one of {', '.join(map(repr, kinds))}, but got {policy!r}.")
        return kinds[policy](*args, **kwargs)


class RDPMonitor(Monitor):
    """Accounts by Rényi differential privacy and prints `epoch: E step: S, delta is D, eps is E`.

    With a DPModel it reads what really ran (multiplier, decay, units, sampling, the adaptive bound's share); an
    argument that contradicts it raises. Used without a DPModel it accounts for its arguments, assuming Poisson
    sampling and units of one example.

    Args:
        num_samples (int): Records in the training set; users, where a sampler draws users.
        batch_size (int): Expected batch size, below `num_samples`; users, where a sampler draws users.
        initial_noise_multiplier (float): Noise multiplier of the first step, > 0.
        max_eps (float, optional): Budget on epsilon, with `target_delta`.
        target_delta (float, optional): Delta in (0, 1) at which epsilon is computed. Advised: below 1/num_samples.
        max_delta (float, optional): Budget on delta in (0, 1), with `target_eps`.
        target_eps (float, optional): Epsilon at which delta is computed. Exactly one target must be None.
        orders (sequence, optional): Rényi orders above 1; default a grid from 1.02 to 1024.
        noise_decay_mode (str, optional): None, 'Time', 'Step' or 'Exp'.
        noise_decay_rate (float): In (0, 1).
        per_print_times (int): Steps between two prints. Unless given, a model's run prints once an epoch.
        dataset_sink_mode (bool): Kept for the documented signature; the monitor counts every step either way.
        stop_at_budget (bool): Stop training before the step that would pass the budget. Off by default: the budget
            then only warns, once.
        examples_per_user (int, optional): The most examples that one user owns: prints beside each figure what the run
            costs such a user. Budgets stay with the figure for one example.

    Guarantee:
        The printed epsilon is an upper bound under the relation and sampling printed with it.

    References:
        Mironov 2017, "Rényi differential privacy". Mironov, Talwar, Zhang 2019, "Rényi differential privacy of the
        sampled Gaussian mechanism".
    """

    accountant = "rdp"

    def __init__(self, num_samples: int, batch_size: int, initial_noise_multiplier: float = DEFAULT_MULTIPLIER,
                 max_eps: Optional[float] = 10.0, target_delta: Optional[float] = 1e-3,
                 max_delta: Optional[float] = None, target_eps: Optional[float] = None,
                 orders: Optional[Sequence[float]] = None, noise_decay_mode: Optional[str] = DEFAULT_MODE,
                 noise_decay_rate: float = DEFAULT_RATE, per_print_times: int = DEFAULT_INTERVAL,
                 dataset_sink_mode: bool = False, stop_at_budget: bool = False,
                 examples_per_user: Optional[int] = None) -> None:
        arguments = MonitorArguments(num_samples, batch_size, initial_noise_multiplier, noise_decay_mode,
                                     noise_decay_rate, per_print_times, dataset_sink_mode)
        super().__init__(arguments, Targets(target_delta, target_eps, max_eps, max_delta, stop_at_budget), orders,
                         examples_per_user=examples_per_user)

    def _assumed_sampling(self) -> Sampling:
        return _poisson(self._arguments)


class PLDMonitor(Monitor):
    """Accounts by privacy loss distributions: the tightest figure, at up to some seconds for each print.

    Where no privacy loss distribution can be computed (balls-in-bins sampling, or without the extra
    `mindarmour[pld]`) the figure is the bound by Rényi differential privacy, and the printed line says so.

    Args:
        num_samples, ..., stop_at_budget, examples_per_user: As for `RDPMonitor`, without `orders`.
        beside (tuple[str]): Other accountants, 'rdp' or 'zcdp', whose figures are printed beside this one's.

    Guarantee:
        As for `RDPMonitor`; the figure is never above that monitor's.

    References:
        Koskela, Jälkö, Honkela 2020, "Computing tight differential privacy guarantees using FFT".

    Examples:
        >>> from mindarmour.privacy.diff_privacy import PrivacyMonitorFactory
        >>> pld = PrivacyMonitorFactory.create('pld', num_samples=60000, batch_size=256, target_delta=1e-5)
    """

    accountant = "pld"

    def __init__(self, num_samples: int, batch_size: int, initial_noise_multiplier: float = DEFAULT_MULTIPLIER,
                 max_eps: Optional[float] = 10.0, target_delta: Optional[float] = 1e-3,
                 max_delta: Optional[float] = None, target_eps: Optional[float] = None,
                 noise_decay_mode: Optional[str] = DEFAULT_MODE, noise_decay_rate: float = DEFAULT_RATE,
                 per_print_times: int = DEFAULT_INTERVAL, dataset_sink_mode: bool = False, stop_at_budget: bool = False,
                 beside: Sequence[str] = (), examples_per_user: Optional[int] = None) -> None:
        arguments = MonitorArguments(num_samples, batch_size, initial_noise_multiplier, noise_decay_mode,
                                     noise_decay_rate, per_print_times, dataset_sink_mode)
        super().__init__(arguments, Targets(target_delta, target_eps, max_eps, max_delta, stop_at_budget),
                         beside=beside, examples_per_user=examples_per_user)

    def _assumed_sampling(self) -> Sampling:
        return _poisson(self._arguments)


class ZCDPMonitor(Monitor):
    """Accounts by zero-concentrated differential privacy, by participations of a record.

    zCDP is not amplified by sampling: each participation of a record costs 1 / (2 multiplier^2). In a shuffled
    partition that is once an epoch; with Poisson sampling it may be every step, and `RDPMonitor` is far tighter.

    Args:
        num_samples (int): Records in the training set; users, where a sampler draws users.
        batch_size (int): Expected batch size, below `num_samples`; users, where a sampler draws users.
        initial_noise_multiplier (float): Noise multiplier of the first step, > 0.
        max_eps (float, optional): Budget on epsilon.
        target_delta (float): Delta in (0, 1) at which epsilon is computed.
        noise_decay_mode (str, optional): None, 'Time', 'Step' or 'Exp'.
        noise_decay_rate (float): In (0, 1).
        per_print_times (int): Steps between two prints. Unless given, a model's run prints once an epoch.
        dataset_sink_mode (bool): Kept for the documented signature.
        stop_at_budget (bool): Stop training before the step that would pass the budget.
        examples_per_user (int, optional): The most examples that one user owns: prints beside each figure what the run
            costs such a user. Budgets stay with the figure for one example.

    References:
        Bun & Steinke 2016, "Concentrated differential privacy". Canonne, Kamath, Steinke 2020, "The discrete
        Gaussian for differential privacy", for the conversion.
    """

    accountant = "zcdp"

    def __init__(self, num_samples: int, batch_size: int, initial_noise_multiplier: float = DEFAULT_MULTIPLIER,
                 max_eps: Optional[float] = 10.0, target_delta: Optional[float] = 1e-3,
                 noise_decay_mode: Optional[str] = DEFAULT_MODE, noise_decay_rate: float = DEFAULT_RATE,
                 per_print_times: int = DEFAULT_INTERVAL, dataset_sink_mode: bool = False, stop_at_budget: bool = False,
                 examples_per_user: Optional[int] = None) -> None:
        arguments = MonitorArguments(num_samples, batch_size, initial_noise_multiplier, noise_decay_mode,
                                     noise_decay_rate, per_print_times, dataset_sink_mode)
        super().__init__(arguments, Targets(target_delta, None, max_eps, None, stop_at_budget),
                         examples_per_user=examples_per_user)

    def _assumed_sampling(self) -> Sampling:
        arguments = self._arguments
        return Sampling(SHUFFLE, arguments.num_samples, arguments.batch_size, ZERO_OUT,
                        steps_per_epoch=steps_of_epoch(SHUFFLE, arguments.num_samples, arguments.batch_size))


def _poisson(arguments: MonitorArguments) -> Sampling:
    return Sampling(POISSON, arguments.num_samples, arguments.batch_size, ADD_OR_REMOVE)
