"""Privacy monitors: callbacks that say what has been spent, under which assumptions."""
import math
import warnings

from mindspore.train import Callback
from tqdm import tqdm

from mindarmour.privacy.accounting import Ledger, Sampling, StepEvent
from mindarmour.privacy.accounting.events import ADD_OR_REMOVE, POISSON, SHUFFLE, ZERO_OUT
from mindarmour.privacy.accounting.spent import Accountant, privacy_spent_delta
from mindarmour.privacy.diff_privacy.mechanisms.mechanisms import decayed_multiplier
from mindarmour.privacy.diff_privacy.monitor.arguments import (
    DEFAULT_MODE,
    DEFAULT_MULTIPLIER,
    DEFAULT_RATE,
    MonitorArguments,
    check_targets,
)
from mindarmour.privacy.diff_privacy.parallel import is_main_rank
from mindarmour.privacy.errors import BudgetExceededError, PrivacyWarning

_MAX_EPOCHS = 10000
# Above this epsilon an attacker's odds may grow by more than a factor of e^20: no protection worth the name.
_NEARLY_UNPROTECTED = 20.0


def _say(text):
    """Print without tearing a progress bar, on one rank only."""
    if is_main_rank():
        tqdm.write(text)


class PrivacyMonitorFactory:
    """Creates privacy monitors by name."""

    @staticmethod
    def create(policy, *args, **kwargs):
        """Create a monitor.

        Args:
            policy (str): 'rdp' for `RDPMonitor`, 'zcdp' for `ZCDPMonitor`.
            *args, **kwargs: The monitor's arguments.

        Raises:
            ValueError: Unknown policy.

        Examples:
            >>> from mindarmour.privacy.diff_privacy import PrivacyMonitorFactory
            >>> rdp = PrivacyMonitorFactory.create('rdp', num_samples=60000, batch_size=256, noise_decay_mode=None)
        """
        kinds = {"rdp": RDPMonitor, "zcdp": ZCDPMonitor}
        if policy not in kinds:
            raise ValueError(f"policy must be one of {', '.join(map(repr, kinds))}, but got {policy!r}.")
        return kinds[policy](*args, **kwargs)


class _Monitor(Callback):
    """What the monitors share: where the events come from, printing, warning, stopping."""

    accountant = None

    def __init__(self, arguments, stop_at_budget, delta=None, epsilon=None, max_epsilon=None, max_delta=None):
        super().__init__()
        self._arguments = arguments
        self._stop_at_budget = stop_at_budget
        self._target_delta = delta
        self._target_epsilon = epsilon
        self._max_epsilon = max_epsilon
        self._max_delta = max_delta
        self._account = None if delta is None else Accountant(delta, self.accountant)
        self._own_ledger = Ledger()
        self._source = None
        self._warned = False

    # -- where the events come from ---------------------------------------------------------------------------

    @property
    def ledger(self):
        """The ledger this monitor reads: the model's, or its own when it is used without a DPModel."""
        return self._own_ledger if self._source is None else self._source.ledger

    def _attach(self, cb_params):
        """Read from the DPModel's train step if there is one; raise if its plan contradicts the arguments."""
        source = getattr(cb_params, "train_network", None)
        if source is None or not hasattr(source, "next_event"):
            return
        self._arguments.check_against(source.plan)
        self._source = source

    def _next_event(self):
        if self._source is not None:
            return self._source.next_event(rows=self._arguments.batch_size)
        return self._event_at(self._own_ledger.steps)

    def _assumed_sampling(self):
        """Sampling assumed for the arguments alone."""
        raise NotImplementedError

    def _record_own(self):
        if self._source is not None:
            return
        event = self._next_event()
        if event.sampling.steps_per_epoch and self._own_ledger.steps % event.sampling.steps_per_epoch == 0:
            self._own_ledger.start_epoch()
        self._own_ledger.record(event)

    # -- what has been spent ----------------------------------------------------------------------------------

    def spent(self, entries=None):
        """Privacy spent by the steps executed so far (or by the given ledger entries).

        Returns:
            PrivacySpent, with the epsilon at the target delta, or the delta at the target epsilon.
        """
        entries = self.ledger.entries if entries is None else entries
        if self._account is not None:
            return self._account.spent(entries)
        return privacy_spent_delta(entries, self._target_epsilon, self.accountant)

    def _against_budget(self, spent):
        """(value, limit) of the quantity that has a budget."""
        if self._target_delta is not None:
            return spent.epsilon, self._max_epsilon
        return spent.delta, self._max_delta

    def _exceeds(self, spent):
        value, limit = self._against_budget(spent)
        return limit is not None and value > limit

    def summary(self):
        """What has been spent of the budget, in a few words for a progress bar."""
        spent = self.spent()
        value, limit = self._against_budget(spent)
        name = "eps" if self._target_delta is not None else "delta"
        return f"{name} {value:.3g}" + ("" if limit is None else f" of {limit:g}")

    def max_epoch_suggest(self):
        """The last epoch after which the budget still holds, from 0 to 10000.

        Uses what the attached model runs, or the monitor's own arguments. Nothing that has been spent changes.

        Raises:
            ValueError: The budget that belongs to the target (max_eps to target_delta, max_delta to target_eps)
                is None.
        """
        name, limit = (("max_eps", self._max_epsilon) if self._target_delta is not None
                       else ("max_delta", self._max_delta))
        if limit is None:
            raise ValueError(f"{name} must be given to suggest a number of epochs, but got None.")
        low, high = 0, _MAX_EPOCHS + 1
        step = 1
        while low + step <= _MAX_EPOCHS and not self._exceeds(self.spent(self._run_of(low + step))):
            low, step = low + step, step * 2
        high = min(low + step, high)
        while high - low > 1:
            middle = (low + high) // 2
            if self._exceeds(self.spent(self._run_of(middle))):
                high = middle
            else:
                low = middle
        return low

    def _run_of(self, epochs):
        """Entries of a fresh run of so many epochs."""
        ledger, steps = Ledger(), self._arguments.num_samples // self._arguments.batch_size
        for epoch in range(epochs):
            ledger.start_epoch()
            if self._arguments.noise_decay_mode is None:
                ledger.record(self._event_at(0), steps)
            else:
                for step in range(epoch * steps, (epoch + 1) * steps):
                    ledger.record(self._event_at(step))
        return ledger.entries

    def _event_at(self, step):
        arguments = self._arguments
        if self._source is not None:
            return self._source.plan.event(step, self._source.rows or arguments.batch_size)
        multiplier = decayed_multiplier(arguments.noise_decay_mode, arguments.initial_noise_multiplier,
                                        arguments.noise_decay_rate, step)
        return StepEvent(self._assumed_sampling(), multiplier)

    # -- callbacks --------------------------------------------------------------------------------------------

    def begin(self, run_context):
        """Attach to the model; with `stop_at_budget`, refuse a run whose first step is above the budget."""
        self._attach(run_context.original_args())
        if self._stop_at_budget:
            spent = self.spent(self.ledger.preview(self._next_event()))
            if self._exceeds(spent):
                value, limit = self._against_budget(spent)
                raise BudgetExceededError(value, limit, self.ledger.steps)

    def step_end(self, run_context):
        """Count the step; print at each `per_print_times`-th step of the run; stop before the budget is passed."""
        cb_params = run_context.original_args()
        if self._source is None:
            self._attach(cb_params)
        self._record_own()
        if cb_params.cur_step_num % self._arguments.per_print_times == 0:
            self._print(cb_params)
        if self._stop_at_budget and self._exceeds(self.spent(self.ledger.preview(self._next_event()))):
            value, limit = self._against_budget(self.spent())
            _say(f"Training stops after step {self.ledger.steps}: {value:.6g} of the budget {limit:.6g} is spent, "
                 f"and the next step would exceed it.")
            run_context.request_stop()

    def end(self, run_context):
        """Print the final figures, whatever the printing interval."""
        cb_params = run_context.original_args()
        if self.ledger.steps and cb_params.cur_step_num % self._arguments.per_print_times:
            self._print(cb_params)

    def _print(self, cb_params):
        spent = self.spent()
        if math.isnan(spent.epsilon) or math.isnan(spent.delta):
            raise ValueError(f"The privacy spent cannot be computed: eps is {spent.epsilon}, delta is {spent.delta}.")
        step = (cb_params.cur_step_num - 1) % cb_params.batch_num + 1
        _say(f"epoch: {cb_params.cur_epoch_num} step: {step}, delta is {spent.delta:.6g}, eps is {spent.epsilon:.6g}\n"
             f"    {self._assumptions(spent)}")
        if not self._warned and is_main_rank() and self._exceeds(spent):
            self._warned = True
            value, limit = self._against_budget(spent)
            warnings.warn(f"The privacy spent, {value:.6g}, has passed the budget of {limit:.6g}.", PrivacyWarning,
                          stacklevel=2)

    def _assumptions(self, spent):
        """One line: what the figure means."""
        event = self.ledger.entries[-1].event
        text = (f"{spent.kind} ({spent.accountant}): {spent.relation}, {spent.sampling} sampling, one unit = "
                f"{event.unit}")
        if spent.note:
            text += f"; {spent.note}"
        if event.sampling.kind == SHUFFLE:
            text += f"; with Poisson sampling it would be {self._poisson_figure()} (assumption, not this run)"
        if spent.epsilon > _NEARLY_UNPROTECTED:
            text += ". This is next to no protection: raise the noise multiplier, use micro_batches=None and " \
                    "PoissonSampler"
        return text

    def _poisson_figure(self):
        """What the same steps would cost if each record had joined each batch independently."""
        if self._target_delta is None:
            return "smaller"
        return f"eps {Accountant(self._target_delta, assume=POISSON).epsilon_after(self.ledger.entries):.4g}"


class RDPMonitor(_Monitor):
    """Accounts by Rényi differential privacy and prints `epoch: E step: S, delta is D, eps is E`.

    With a DPModel it reads what really ran (multiplier, decay, units, sampling, the adaptive bound's share); an
    argument that contradicts it raises. Used without a DPModel it accounts for its arguments, assuming Poisson
    sampling and units of one example.

    Args:
        num_samples (int): Records in the training set.
        batch_size (int): Expected batch size, below `num_samples`.
        initial_noise_multiplier (float): Noise multiplier of the first step, > 0.
        max_eps (float, optional): Budget on epsilon, with `target_delta`.
        target_delta (float, optional): Delta in (0, 1) at which epsilon is computed. Advised: below 1/num_samples.
        max_delta (float, optional): Budget on delta in (0, 1), with `target_eps`.
        target_eps (float, optional): Epsilon at which delta is computed. Exactly one target must be None.
        orders (sequence, optional): Rényi orders above 1; default a grid from 1.02 to 1024.
        noise_decay_mode (str, optional): None, 'Time', 'Step' or 'Exp'.
        noise_decay_rate (float): In (0, 1).
        per_print_times (int): Steps between two prints.
        dataset_sink_mode (bool): Kept for the documented signature; the monitor counts every step either way.
        stop_at_budget (bool): Stop training before the step that would pass the budget. Off by default: the budget
            then only warns, once.

    Guarantee:
        The printed epsilon is an upper bound under the relation and sampling printed with it.

    References:
        Mironov 2017, "Rényi differential privacy". Mironov, Talwar, Zhang 2019, "Rényi differential privacy of the
        sampled Gaussian mechanism".
    """

    accountant = "rdp"

    def __init__(self, num_samples, batch_size, initial_noise_multiplier=DEFAULT_MULTIPLIER, max_eps=10.0,
                 target_delta=1e-3, max_delta=None, target_eps=None, orders=None, noise_decay_mode=DEFAULT_MODE,
                 noise_decay_rate=DEFAULT_RATE, per_print_times=50, dataset_sink_mode=False, stop_at_budget=False):
        arguments = MonitorArguments(num_samples, batch_size, initial_noise_multiplier, noise_decay_mode,
                                     noise_decay_rate, per_print_times, dataset_sink_mode)
        check_targets(max_eps, target_delta, max_delta, target_eps, stop_at_budget)
        super().__init__(arguments, stop_at_budget, target_delta, target_eps, max_eps, max_delta)

    def _assumed_sampling(self):
        arguments = self._arguments
        return Sampling(POISSON, arguments.num_samples, arguments.batch_size, ADD_OR_REMOVE)


class ZCDPMonitor(_Monitor):
    """Accounts by zero-concentrated differential privacy, by participations of a record.

    zCDP is not amplified by sampling: each participation of a record costs 1 / (2 multiplier^2). In a shuffled
    partition that is once an epoch; with Poisson sampling it may be every step, and `RDPMonitor` is far tighter.

    Args:
        num_samples (int): Records in the training set.
        batch_size (int): Expected batch size, below `num_samples`.
        initial_noise_multiplier (float): Noise multiplier of the first step, > 0.
        max_eps (float, optional): Budget on epsilon.
        target_delta (float): Delta in (0, 1) at which epsilon is computed.
        noise_decay_mode (str, optional): None, 'Time', 'Step' or 'Exp'.
        noise_decay_rate (float): In (0, 1).
        per_print_times (int): Steps between two prints.
        dataset_sink_mode (bool): Kept for the documented signature.
        stop_at_budget (bool): Stop training before the step that would pass the budget.

    References:
        Bun & Steinke 2016, "Concentrated differential privacy". Canonne, Kamath, Steinke 2020, "The discrete
        Gaussian for differential privacy", for the conversion.
    """

    accountant = "zcdp"

    def __init__(self, num_samples, batch_size, initial_noise_multiplier=DEFAULT_MULTIPLIER, max_eps=10.0,
                 target_delta=1e-3, noise_decay_mode=DEFAULT_MODE, noise_decay_rate=DEFAULT_RATE, per_print_times=50,
                 dataset_sink_mode=False, stop_at_budget=False):
        arguments = MonitorArguments(num_samples, batch_size, initial_noise_multiplier, noise_decay_mode,
                                     noise_decay_rate, per_print_times, dataset_sink_mode)
        check_targets(max_eps, target_delta, None, None, stop_at_budget)
        super().__init__(arguments, stop_at_budget, target_delta, None, max_eps)

    def _assumed_sampling(self):
        arguments = self._arguments
        return Sampling(SHUFFLE, arguments.num_samples, arguments.batch_size, ZERO_OUT,
                        steps_per_epoch=arguments.num_samples // arguments.batch_size)
