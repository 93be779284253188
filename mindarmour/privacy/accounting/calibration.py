"""What it takes to stay inside a budget.

Every function searches on the monotone cost of a planned run and answers on the safe side: the result keeps the
budget, and a result that is slightly better by the stated tolerance would not.

References:
    Kulynych et al. 2024, "Attack-aware noise calibration for differential privacy" (advantage and rates).
"""
from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Optional, Union, cast

from mindarmour.privacy.accounting import pld
from mindarmour.privacy.accounting.accountant import Accountant
from mindarmour.privacy.accounting.correlated import CorrelatedEvent
from mindarmour.privacy.accounting.curves.rdp import check_delta
from mindarmour.privacy.accounting.events import Sampling, StepEvent
from mindarmour.privacy.accounting.ledger import Ledger
from mindarmour.privacy.accounting.planning import plan_sampling, planned_entries
from mindarmour.privacy.accounting.sampling import CYCLIC_POISSON, steps_of_epoch
from mindarmour.utils import _validate

_LARGEST_MULTIPLIER = 1e30
_SMALLEST_MULTIPLIER = 1e-3
_MOST_STEPS = 10 ** 12
_PLD_TOLERANCE = 2e-3


def noise_multiplier_for(epsilon: float, delta: float, sampling: Sampling, steps: int, accountant: str = "rdp",
                         unit: str = "example", tolerance: float = 1e-4) -> float:
    """Smallest noise multiplier that keeps a run inside a budget.

    Args:
        epsilon (float): Budget, above 0.
        delta (float): In (0, 1).
        sampling (Sampling): Who takes part, see `plan_sampling`.
        steps (int): Length of the run.
        accountant (str): 'rdp', 'zcdp' or 'pld'.
        unit (str): 'example' or 'micro-batch'.
        tolerance (float): Relative precision.

    Returns:
        float.

    Raises:
        ValueError: If no noise multiplier up to 1e30 is enough.

    Examples:
        >>> from mindarmour.privacy.accounting.calibration import noise_multiplier_for
        >>> from mindarmour.privacy.accounting.planning import plan_sampling
        >>> round(noise_multiplier_for(3.0, 1e-5, plan_sampling("poisson", 60000, 256), 14062), 3)
        1.014
    """
    epsilon = _budget(epsilon)
    judge = Accountant(check_delta(delta), accountant)
    steps = _validate.integer("steps", steps, low=1)
    # PLD never says more than RDP, so the quick search bounds the slow one from above
    start = 1.0 if accountant != "pld" else noise_multiplier_for(epsilon, delta, sampling, steps, "rdp", unit)
    tolerance = tolerance if accountant != "pld" else max(tolerance, _PLD_TOLERANCE)
    return smallest_multiplier(lambda z: judge.epsilon_after(planned_entries(sampling, z, steps, unit)), epsilon,
                               tolerance, start)


def noise_multiplier_for_event(epsilon: float, delta: float, event: Union[StepEvent, CorrelatedEvent], steps: int,
                               steps_per_epoch: int, accountant: str = "rdp", tolerance: float = 1e-4) -> float:
    """Smallest noise multiplier with which steps like `event` keep a budget, whatever else they release.

    Args:
        epsilon (float): Budget, above 0.
        delta (float): In (0, 1).
        event (StepEvent): One step; its own noise multiplier does not matter.
        steps (int): Length of the run.
        steps_per_epoch (int): Steps after which the sampler starts over.
        accountant (str): 'rdp', 'zcdp' or 'pld'.
        tolerance (float): Relative precision; PLD is given 0.002 at least.

    Returns:
        float.

    Raises:
        ValueError: If no noise multiplier up to 1e30 is enough, or if what else is released costs more than the
            budget by itself.
    """
    epsilon, judge = _budget(epsilon), Accountant(check_delta(delta), accountant)
    steps = _validate.integer("steps", steps, low=1)

    def cost(multiplier):
        return judge.epsilon_after(Ledger().ahead([(replace(event, noise_multiplier=multiplier), steps)],
                                                  steps_per_epoch))

    if event.count_multiplier is not None and cost(_LARGEST_MULTIPLIER) > epsilon:
        raise ValueError(f"epsilon must be above what the count of the adaptive bound costs by itself, "
                         f"{cost(_LARGEST_MULTIPLIER):.4g}, but got {epsilon}. Raise it or fraction_stddev.")
    if accountant != "pld":
        return smallest_multiplier(cost, epsilon, tolerance)
    # PLD never says more than RDP, so the quick search bounds the slow one from above
    start = noise_multiplier_for_event(epsilon, delta, event, steps, steps_per_epoch)
    return smallest_multiplier(cost, epsilon, max(tolerance, _PLD_TOLERANCE), start)


def steps_for(epsilon: float, delta: float, sampling: Sampling, noise_multiplier: float, accountant: str = "rdp",
              unit: str = "example") -> int:
    """Largest number of steps that keeps the budget; 0 if not even one does. Arguments as above."""
    within = _within(_budget(epsilon), Accountant(check_delta(delta), accountant))
    multiplier = _multiplier(noise_multiplier)
    return _largest(lambda steps: within(planned_entries(sampling, multiplier, steps, unit)), _MOST_STEPS)


def epochs_for(epsilon: float, delta: float, sampling: Sampling, noise_multiplier: float, accountant: str = "rdp",
               unit: str = "example") -> int:
    """Last epoch that keeps the budget; 0 if not even one does. Arguments as for `steps_for`."""
    within = _within(_budget(epsilon), Accountant(check_delta(delta), accountant))
    multiplier = _multiplier(noise_multiplier)
    per_epoch = plan_steps(sampling)
    return _largest(lambda n: within(planned_entries(sampling, multiplier, n * per_epoch, unit)), _MOST_STEPS)


def batch_size_for(epsilon: float, delta: float, sampling: Sampling, noise_multiplier: float,
                   steps: Optional[int] = None, epochs: Optional[int] = None, accountant: str = "rdp",
                   unit: str = "example") -> int:
    """Largest batch size that keeps the budget over `steps` steps or `epochs` epochs (one of them is given).

    Args:
        sampling (Sampling): Its batch size is ignored.

    Raises:
        ValueError: If not even a batch of one example keeps the budget.
    """
    if (steps is None) == (epochs is None):
        raise ValueError(f"steps or epochs must be given, not both and not neither, but got {steps!r} and "
                         f"{epochs!r}.")
    within = _within(_budget(epsilon), Accountant(check_delta(delta), accountant))
    multiplier, examples = _multiplier(noise_multiplier), sampling.num_examples

    def fits(batch_size):
        plan = plan_sampling(sampling.kind, examples, batch_size, sampling.relation, unit)
        length = epochs * plan_steps(plan) if epochs is not None else steps
        return within(planned_entries(plan, multiplier, cast(int, length), unit))  # one of them was given

    largest = _largest(fits, examples)
    if largest == 0:
        raise ValueError(f"epsilon must leave room for batches of one example, but got {epsilon!r}. Raise it or "
                         f"the noise multiplier, or train for less long.")
    return largest


def plan_steps(sampling: Sampling) -> int:
    """Steps of one epoch of a `Sampling`."""
    if sampling.kind == CYCLIC_POISSON and sampling.steps_per_epoch is not None:
        return sampling.steps_per_epoch
    return steps_of_epoch(sampling.kind, sampling.num_examples, sampling.batch_size)


def delta_for(epsilon: float, sampling: Sampling, noise_multiplier: float, steps: int, accountant: str = "rdp",
              unit: str = "example") -> float:
    """Smallest delta of a run at `epsilon`."""
    epsilon = _validate.real("epsilon", epsilon, low=0, closed="low")
    entries = planned_entries(sampling, _multiplier(noise_multiplier), steps, unit)
    return Accountant(0.5, accountant).delta_at(entries, epsilon).delta


def attack_accountant() -> str:
    """Accountant for bounds on attacks unless another is asked for: PLD where it is installed, far tighter there."""
    return "pld" if pld.available() else "rdp"


def noise_multiplier_for_advantage(advantage: float, sampling: Sampling, steps: int, accountant: Optional[str] = None,
                                   unit: str = "example", tolerance: float = 1e-3) -> float:
    """Smallest noise multiplier under which no membership attack gains more than `advantage`.

    Args:
        advantage (float): True minus false positive rate, in (0, 1).
        accountant (str, optional): 'pld' is far tighter than 'rdp' here; None takes it where it is installed.

    Guarantee: against every attack on one record of a run with `sampling`, whatever the attacker knows.
    """
    advantage = _validate.real("advantage", advantage, low=0, high=1)
    judge = Accountant(0.5, accountant or attack_accountant())
    return smallest_multiplier(lambda z: judge.advantage(planned_entries(sampling, z, steps, unit)), advantage,
                               tolerance)


def noise_multiplier_for_rates(true_positive_rate: float, false_positive_rate: float, sampling: Sampling, steps: int,
                               accountant: Optional[str] = None, unit: str = "example",
                               tolerance: float = 1e-3) -> float:
    """Smallest noise multiplier under which no attack exceeds `true_positive_rate` at `false_positive_rate`."""
    high = _validate.real("true_positive_rate", true_positive_rate, low=0, high=1)
    low = _validate.real("false_positive_rate", false_positive_rate, low=0, high=1)
    if high <= low:
        raise ValueError(f"true_positive_rate must be above false_positive_rate = {low}, since guessing reaches "
                         f"that, but got {high}.")
    judge = Accountant(0.5, accountant or attack_accountant())
    return smallest_multiplier(
        lambda z: judge.true_positive_rate(planned_entries(sampling, z, steps, unit), low), high, tolerance)


def bayes_budget(risk: float, prior: float) -> tuple[float, float]:
    """(epsilon, delta) that is equivalent to a least Bayes risk: delta of the run at epsilon must not exceed it.

    Args:
        risk (float): Least probability of a wrong guess about one record's membership.
        prior (float): Of membership, in (0, 1).

    Raises:
        ValueError: Guessing by the prior alone errs as rarely.

    Examples:
        >>> from mindarmour.privacy.accounting.calibration import bayes_budget
        >>> bayes_budget(0.375, 0.5)
        (0.0, 0.25)
    """
    prior = _validate.real("prior", prior, low=0, high=1)
    guessing = min(prior, 1 - prior)
    risk = _validate.real("bayes_risk", risk, low=0, high=1)
    if risk >= guessing:
        raise ValueError(f"bayes_risk must be below {guessing:g}, the risk of guessing by the prior alone, but got "
                         f"{risk}.")
    return abs(math.log(prior) - math.log1p(-prior)), 1 - risk / guessing


def noise_multiplier_for_bayes_risk(risk: float, prior: float, sampling: Sampling, steps: int,
                                    accountant: Optional[str] = None, unit: str = "example",
                                    tolerance: float = 1e-3) -> float:
    """Smallest noise multiplier under which no attacker with this prior errs with a probability below `risk`."""
    epsilon, delta = bayes_budget(risk, prior)
    judge = Accountant(0.5, accountant or attack_accountant())
    return smallest_multiplier(lambda z: judge.delta_at(planned_entries(sampling, z, steps, unit), epsilon).delta,
                               delta, tolerance)


def smallest_multiplier(cost: Callable[[float], float], limit: float, tolerance: float, start: float = 1.0) -> float:
    """Smallest noise multiplier whose cost keeps a limit, at most `tolerance` (relative) above the exact one.

    Args:
        cost (callable): Of a multiplier; does not increase with it.
        limit (float): Largest allowed cost, above 0.
        tolerance (float): Relative precision.
        start (float): Where to begin.

    Raises:
        ValueError: If no multiplier up to 1e30 keeps the limit.
    """
    low, high = _bracket(cost, limit, start)
    for count in itertools.count(1):
        if high[0] <= low[0] * (1 + tolerance):
            return high[0]
        # between two points the logarithms are nearly on a line; every third time halve, to be sure to end
        share = 0.5 if count % 3 == 0 else _share(low[1], high[1], limit)
        guess = low[0] * (high[0] / low[0]) ** share * (1 + tolerance / 3)
        guess = min(max(guess, low[0] * (1 + tolerance / 2)), high[0] / (1 + tolerance / 2))
        point = (guess, cost(guess))
        low, high = (low, point) if point[1] <= limit else (point, high)
    raise AssertionError("unreachable")


def _bracket(cost, limit, start):
    """((multiplier, cost) that breaks the limit, (multiplier, cost) that keeps it)."""
    low = high = (start, cost(start))
    if high[1] > limit:
        while high[1] > limit:
            low, high = high, (2 * high[0], cost(2 * high[0]))
            if high[0] > _LARGEST_MULTIPLIER:
                raise ValueError(f"the budget must be reachable, but not even a noise multiplier of "
                                 f"{_LARGEST_MULTIPLIER:g} keeps it. Raise the budget or train for fewer steps.")
        return low, high
    while low[1] <= limit:
        low, high = (0.8 * low[0], cost(0.8 * low[0])), low
        if low[0] < _SMALLEST_MULTIPLIER:
            return (low[0] / 2, math.inf), high
    return low, high


def _share(cost_low, cost_high, limit):
    """Where between the ends the limit is crossed, on logarithmic axes."""
    if not math.isfinite(cost_low) or cost_high <= 0 or cost_low <= cost_high:
        return 0.5
    return math.log(cost_low / limit) / math.log(cost_low / cost_high)


def _largest(holds, limit):
    """Largest whole number up to `limit` at which a predicate holds that stays false for larger ones."""
    low, high = 0, 1
    while high <= limit and holds(high):
        low, high = high, high * 2
    high = min(high, limit + 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def _within(epsilon, accountant):
    return lambda entries: accountant.epsilon_after(entries) <= epsilon


def _budget(epsilon):
    return _validate.real("epsilon", epsilon, low=0)


def _multiplier(noise_multiplier):
    return _validate.real("noise_multiplier", noise_multiplier, low=0)
