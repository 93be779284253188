"""What the monitors share: where the events come from, printing, warning, stopping."""
from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Callable, Optional

from mindspore.train import Callback, RunContext
from tqdm import tqdm

from mindarmour.privacy.accounting import Ledger, PrivacySpent, Sampling, StepEvent
from mindarmour.privacy.accounting.accountant import Accountant
from mindarmour.privacy.accounting.events import FULL, POISSON, SHUFFLE, Event
from mindarmour.privacy.accounting.ledger import LedgerEntry
from mindarmour.privacy.accounting.lower_bound import shuffle_lower_bound
from mindarmour.privacy.accounting.sampling import steps_of_epoch
from mindarmour.privacy.diff_privacy.monitor.arguments import DEFAULT_INTERVAL, MonitorArguments, Targets
from mindarmour.privacy.diff_privacy.noise.mechanisms import decayed_multiplier
from mindarmour.privacy.diff_privacy.parallel.ranks import is_main_rank
from mindarmour.privacy.diff_privacy.train.step import TrainStep
from mindarmour.privacy.errors import BudgetExceededError, PrivacyWarning

_MAX_EPOCHS = 10_000
_MAX_STEPS = 1_000_000
# Above this epsilon an attacker's odds may grow by more than a factor of e^20: no protection worth the name.
_NEARLY_UNPROTECTED = 20.0
# An adaptive bound that costs more than this part of the noise multiplier is pointed out.
_COSTLY_BOUND = 0.95


class Monitor(Callback):
    """Base of the monitors.

    Args:
        arguments (MonitorArguments): What the user said about the run.
        targets (Targets): What is computed, and the budget.
        orders (sequence, optional): Rényi orders.
        beside (tuple[str]): Other accountants whose figures are printed too.
        examples_per_user (int, optional): State it for users who own up to so many examples, too.
    """

    accountant = "rdp"

    def __init__(self, arguments: MonitorArguments, targets: Targets, orders: Optional[Sequence[float]] = None,
                 beside: Sequence[str] = (), examples_per_user: Optional[int] = None) -> None:
        super().__init__()
        self._arguments = arguments
        self._targets = targets
        delta = 0.5 if targets.delta is None else targets.delta
        self._account = Accountant(delta, self.accountant, orders=orders)
        self._beside = [Accountant(delta, name) for name in beside]
        self._of_users = None if examples_per_user is None else Accountant(
            delta, self.accountant, orders=orders, unit="user", examples_per_user=examples_per_user)
        # never below PLD and much faster: while it keeps the budget, PLD does
        self._quick = Accountant(delta) if self.accountant == "pld" else None
        self._own_ledger = Ledger()
        self._source: Optional[TrainStep] = None
        self._steps_per_epoch = steps_of_epoch(self._assumed_sampling().kind, arguments.num_samples,
                                               arguments.batch_size)
        self._before = (self._own_ledger, 0)
        self._cleared: Optional[tuple] = None
        self._latest: Optional[PrivacySpent] = None
        self._warned = False
        self._explained = False
        self._brief: Optional[PrivacySpent] = None  # what the last print left unexplained

    # -- where the events come from ---------------------------------------------------------------------------

    @property
    def ledger(self) -> Ledger:
        """The ledger this monitor reads: the model's, or its own when it is used without a DPModel."""
        return self._own_ledger if self._source is None else self._source.ledger

    def _attach(self, cb_params: Any) -> None:
        """Read from the DPModel's train step if there is one; raise if its plan contradicts the arguments."""
        source = getattr(cb_params, "train_network", None)
        if source is None or not hasattr(source, "next_event"):
            return
        self._arguments.check_against(source.plan)
        self._source = source
        self._steps_per_epoch = cb_params.batch_num
        source.guard(partial(self._permit, source))

    def _permit(self, source: TrainStep, event: StepEvent) -> None:
        """Asked before each step of a model, whoever calls for it; raises where the budget must be kept."""
        planned = source is self._source and event == source.next_event()
        if not planned:
            self._cleared = None  # it counted steps as planned
        if not self._targets.stop or (planned and self.steps_left()):
            return
        entries = source.ledger.preview(event)
        if not self._keeps_budget(entries):
            raise BudgetExceededError(self._targets.value_of(self.spent(entries)), self._targets.limit,
                                      source.ledger.steps)

    def _assumed_sampling(self) -> Sampling:
        """Sampling assumed for the arguments alone."""
        raise NotImplementedError

    def _event_at(self, step: int) -> StepEvent:
        arguments = self._arguments
        if self._source is not None:
            plan = self._source.plan
            return plan.event(step, self._source.rows or arguments.batch_size * plan.rows_together)
        multiplier = decayed_multiplier(arguments.noise_decay_mode, arguments.initial_noise_multiplier,
                                        arguments.noise_decay_rate, step)
        return StepEvent(self._assumed_sampling(), multiplier)

    def _runs(self, first: int, steps: int) -> list[tuple[StepEvent, int]]:
        """Pairs (event, steps) of planned steps."""
        decay = (self._arguments.noise_decay_mode if self._source is None
                 else self._source.plan.noise_mech.decay_policy)
        if decay is None:
            return [(self._event_at(first), steps)]
        return [(self._event_at(step), 1) for step in range(first, first + steps)]

    def _record_own(self) -> None:
        if self._source is not None:
            return
        event = self._event_at(self._own_ledger.steps)
        if event.sampling.steps_per_epoch and self._own_ledger.steps % event.sampling.steps_per_epoch == 0:
            self._own_ledger.start_epoch()
        self._own_ledger.record(event)

    # -- what has been spent ----------------------------------------------------------------------------------

    def spent(self, entries: Optional[Sequence[LedgerEntry]] = None) -> PrivacySpent:
        """Privacy spent by the steps executed so far (or by the given ledger entries).

        Returns:
            PrivacySpent, with the epsilon at the target delta, or the delta at the target epsilon.
        """
        return self._spent_by(self._account, self.ledger.entries if entries is None else entries)

    def _spent_by(self, account: Accountant, entries: Sequence[LedgerEntry]) -> PrivacySpent:
        if self._targets.delta is not None:
            return account.spent(entries)
        return account.delta_at(entries, self._targets.epsilon)

    def _keeps_budget(self, entries: Sequence[LedgerEntry]) -> bool:
        if self._quick is not None and self._targets.kept_by(self._spent_by(self._quick, entries)):
            return True
        return self._targets.kept_by(self.spent(entries))

    def summary(self, ended: bool = False) -> str:
        """What has been spent of the budget and what is left of it, in a few words for a progress bar.

        Args:
            ended (bool): Whether training has ended, so that nothing is left to run.
        """
        fresh = self._latest is None or self.accountant != "pld"  # PLD takes seconds: the last printed figure serves
        spent = self.spent() if fresh else self._latest
        text = f"{self._targets.name} {self._targets.value_of(spent):.3g}"
        if self._targets.limit is None:
            return text
        text = f"{text} of {self._targets.limit:g}"
        if ended:
            return text
        left = self.steps_left()
        return f"{text}, {left} step{'' if left == 1 else 's'} left"

    def steps_left(self) -> int:
        """Further steps, as planned, after which the budget still holds; at most a million.

        Raises:
            ValueError: There is no budget (max_eps with target_delta, max_delta with target_eps).
        """
        self._targets.require_limit("count the steps left")
        now, plan, others = self.ledger.steps, None if self._source is None else self._source.plan, self._of_others()
        if self._cleared is None or self._cleared[0] is not plan or self._cleared[3] != others \
                or not 0 <= now - self._cleared[1] <= self._cleared[2]:
            self._cleared = (plan, now, _largest(lambda steps: self._keeps_budget(self._after(steps)), _MAX_STEPS),
                             others)
        return self._cleared[1] + self._cleared[2] - now

    def _of_others(self) -> int:
        """Steps in the ledger that the attached model did not make: they do not follow its plan."""
        return 0 if self._source is None else self.ledger.steps - self._source.steps_made

    def epochs_left(self) -> int:
        """Whole epochs that `steps_left` makes; raises what it raises."""
        return self.steps_left() // self._steps_per_epoch

    def _after(self, steps: int) -> Sequence[LedgerEntry]:
        """Ledger entries after so many more steps."""
        made = self.ledger.steps if self._source is None else self._source.steps_made
        return self.ledger.ahead(self._runs(made, steps), self._steps_per_epoch)

    def max_epoch_suggest(self) -> int:
        """The last epoch of this training after which the budget still holds, from 0 to 10000.

        Uses what the attached model runs, or the monitor's own arguments. What was spent on the Parameters before
        this training began takes its part of the budget. Nothing that has been spent changes.

        Raises:
            ValueError: The budget that belongs to the target (max_eps to target_delta, max_delta to target_eps)
                is None.
        """
        self._targets.require_limit("suggest a number of epochs")
        return _largest(lambda epochs: self._keeps_budget(self._run_of(epochs)), _MAX_EPOCHS)

    def _run_of(self, epochs: int) -> Sequence[LedgerEntry]:
        """Entries of so many epochs of this training, behind what was spent before it began."""
        before, made = self._before
        return before.ahead(self._runs(made, epochs * self._steps_per_epoch), self._steps_per_epoch)

    # -- callbacks --------------------------------------------------------------------------------------------

    def begin(self, run_context: RunContext) -> None:
        """Attach to the model; with `stop_at_budget`, refuse a run whose first step is above the budget."""
        self._attach(run_context.original_args())
        self._before = (Ledger(self.ledger.segments),
                        self.ledger.steps if self._source is None else self._source.steps_made)
        self._cleared, self._explained, self._brief = None, False, None
        if self._targets.stop and not self._keeps_budget(self._after(1)):
            raise BudgetExceededError(self._targets.value_of(self.spent(self._after(1))), self._targets.limit,
                                      self.ledger.steps)

    def step_end(self, run_context: RunContext) -> None:
        """Count the step; print at each `per_print_times`-th step of the run; stop before the budget is passed.

        What the figure means is printed with the first one and when training ends; between them is one line a print.
        """
        cb_params = run_context.original_args()
        if self._source is None:
            self._attach(cb_params)
        self._record_own()
        if cb_params.cur_step_num % self._interval(cb_params) == 0:
            self._print(cb_params)
        if self._targets.stop and self.steps_left() == 0:
            _say(f"Training stops after step {self.ledger.steps}: {self._targets.value_of(self.spent()):.6g} of the "
                 f"budget {self._targets.limit:.6g} is spent, and the next step would exceed it.")
            run_context.request_stop()

    def end(self, run_context: RunContext) -> None:
        """Print the final figures and what they mean, whatever the printing interval."""
        cb_params = run_context.original_args()
        if not self.ledger.steps:
            return
        if cb_params.cur_step_num % self._interval(cb_params):
            self._explained = False
            self._print(cb_params)
        elif self._brief is not None:
            _say("\n".join(f"    {line}" for line in self._meaning(self._brief)))

    def _interval(self, cb_params: Any) -> int:
        """Steps between two prints: an epoch of the model's, unless it was given."""
        told = self._arguments.per_print_times
        return told if self._source is None or told is not DEFAULT_INTERVAL else cb_params.batch_num

    def on_eval_begin(self, run_context: RunContext) -> None:
        """Nothing: evaluation is no training step, and by default would count as one."""

    on_eval_step_end = on_eval_end = on_eval_begin

    def _print(self, cb_params: Any) -> None:
        spent = self._latest = self.spent()
        if math.isnan(spent.epsilon) or math.isnan(spent.delta):
            raise ValueError(f"The privacy spent cannot be computed: eps is {spent.epsilon}, delta is {spent.delta}.")
        step = (cb_params.cur_step_num - 1) % cb_params.batch_num + 1
        line = (f"epoch: {cb_params.cur_epoch_num} step: {step}, delta is {spent.delta:.6g}, eps is "
                f"{spent.epsilon:.6g}")
        self._brief = spent if self._explained else None
        _say(line if self._explained else "\n    ".join([line, *self._meaning(spent)]))
        self._explained = True
        if not self._warned and is_main_rank() and not self._targets.kept_by(spent):
            self._warned = True
            warnings.warn(f"The privacy spent, {self._targets.value_of(spent):.6g}, has passed the budget of "
                          f"{self._targets.limit:.6g}.", PrivacyWarning, stacklevel=2)

    def _meaning(self, spent: PrivacySpent) -> Iterator[str]:
        """Lines below a figure."""
        figures = [spent, *(self._spent_by(account, self.ledger.entries) for account in self._beside)]
        yield from (self._statement(figure, len(figures) > 1) for figure in figures)
        yield from self._remarks(spent)

    def _statement(self, spent: PrivacySpent, with_figure: bool) -> str:
        """One line: what a figure means."""
        figure = f"{self._targets.name} {self._targets.value_of(spent):.6g}, " if with_figure else ""
        unit = self.ledger.entries[-1].event.unit
        note = f"; {spent.note}" if spent.note else ""
        return (f"{figure}{spent.kind} ({spent.accountant}): {spent.relation}, {spent.sampling} sampling, one unit = "
                f"{unit}{note}")

    def _remarks(self, spent: PrivacySpent) -> Iterator[str]:
        """Lines about all figures."""
        event = self.ledger.entries[-1].event
        if self._of_users is not None:
            yield self._for_users(self._of_users)
        if event.sampling.kind == SHUFFLE and isinstance(event, StepEvent):
            if self._beside and self._targets.delta is not None:
                yield self._statement(shuffle_lower_bound(self.ledger.entries, self._targets.delta), True)
            yield f"with Poisson sampling it would be {self._poisson_figure()} (assumption, not this run)"
        if getattr(event, "count_multiplier", None) is not None:
            yield self._cost_of_adapting(event)
        if spent.delta * self._arguments.num_samples >= 1:
            yield (f"a delta of {spent.delta:.3g} is not below 1/{self._arguments.num_samples}: publishing one of the "
                   f"{self._arguments.num_samples} records as it stands, drawn at random, would pass as well")
        if spent.epsilon > _NEARLY_UNPROTECTED:
            yield f"This is next to no protection: {_advice(event)}"

    def _for_users(self, account: Accountant) -> str:
        """What the run costs whoever owns several examples."""
        try:
            spent = self._spent_by(account, self.ledger.entries)
        except ValueError as error:  # no theorem holds for these steps
            return f"for users who own several examples nothing is known: {error}"
        return f"{self._targets.name} is {self._targets.value_of(spent):.6g} {spent.note.split(';')[0]}"

    def _poisson_figure(self) -> str:
        """What the same steps would cost if each record had joined each batch independently."""
        account = Accountant(0.5 if self._targets.delta is None else self._targets.delta, assume=POISSON)
        return f"{self._targets.name} {self._targets.value_of(self._spent_by(account, self.ledger.entries)):.4g}"

    def _cost_of_adapting(self, event: StepEvent) -> str:
        """What the noised count of unclipped units takes of the budget."""
        alone = _without_count(event)
        entries = tuple(LedgerEntry(_without_count(e.event), e.steps, e.epoch) for e in self.ledger.entries)
        text = (f"the adaptive bound lowers the effective noise multiplier from {alone.effective_multiplier:.4g} to "
                f"{event.effective_multiplier:.4g}; without it {self._targets.name} would be "
                f"{self._targets.value_of(self.spent(entries)):.4g}")
        if event.effective_multiplier < _COSTLY_BOUND * alone.effective_multiplier:
            text += ". Raise fraction_stddev, or use ClipMechanismsFactory.recommended()"
        return text


def _advice(event: Event) -> str:
    """What would help against a large epsilon, and has not been done yet."""
    return ", ".join(advice for applies, advice in (
        (True, "raise the noise multiplier"),
        (getattr(event, "examples_per_unit", 1) != 1, "use micro_batches=None"),
        (event.sampling.kind in (SHUFFLE, FULL), "use PoissonSampler")) if applies)


def _without_count(event: Event) -> Event:
    return replace(event, count_multiplier=None) if isinstance(event, StepEvent) else event


def _say(text: str) -> None:
    """Print once, whatever the number of ranks; tqdm.write is print that keeps a progress bar whole."""
    if is_main_rank():
        tqdm.write(text)


def _largest(holds: Callable[[int], bool], limit: int) -> int:
    """Largest whole number up to `limit` at which a predicate holds that stays false for larger ones."""
    low, step = 0, 1
    while low + step <= limit and holds(low + step):
        low, step = low + step, 2 * step
    high = min(low + step, limit + 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low
