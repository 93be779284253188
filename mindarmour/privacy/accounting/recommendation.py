"""Which noise to train with: the error in the iterates that each strategy leaves at one budget.

The error is the root mean square, over the iterates of SGD at rate 1, of the noise in a parameter, divided by the
clipping bound. It compares noise, not accuracy: learning rates must be tuned anew, usually upwards.
"""
from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from mindarmour.privacy.accounting.calibration import noise_multiplier_for_event, plan_steps
from mindarmour.privacy.accounting.correlated import CorrelatedEvent
from mindarmour.privacy.accounting.sampling import CYCLIC_POISSON, PARTITIONS, POISSON, Sampling
from mindarmour.privacy.accounting.strategies import (
    Strategy,
    Toeplitz,
    decaying,
    optimal_buffered,
    optimal_toeplitz,
)
from mindarmour.utils import _validate

INDEPENDENT = Toeplitz((1.0,))
_RATES = (0.5, 0.9, 0.95, 0.98)
_BANDS = (2, 4, 8, 16, 32, 64)


@dataclass(frozen=True)
class Choice:
    """A strategy at a budget.

    Args:
        name (str): In words.
        strategy (Strategy): Of the noise; one band for independent noise.
        sampling (Sampling): The sampling that it needs.
        noise_multiplier (float): That keeps the budget, see `CorrelatedEvent`.
        error (float): Root mean square of the noise in the iterates, divided by the clipping bound.
        buffers (int): Vectors of the size of the model that the noise keeps.
    """

    name: str
    strategy: Strategy
    sampling: Sampling
    noise_multiplier: float
    error: float
    buffers: int


def compared_strategies(sampling: Sampling, steps: int, epsilon: float, delta: float,
                        accountant: str = "rdp") -> list[Choice]:
    """What can be trained with on data that is sampled so, least error first.

    Args:
        sampling (Sampling): As `plan_sampling` returns it. Poisson sampling is compared with groups that take turns.
        steps (int): Length of the run.
        epsilon (float): Budget, above 0.
        delta (float): In (0, 1).
        accountant (str): 'rdp', 'zcdp' or 'pld'.

    Returns:
        list[Choice], independent noise among them.
    """
    _validate.instance("sampling", sampling, Sampling)
    steps = _validate.integer("steps", steps, low=2)
    choices = []
    for name, strategy, taken, buffers in _candidates(sampling, steps):
        event = CorrelatedEvent(taken, 1.0, strategy)
        multiplier = noise_multiplier_for_event(epsilon, delta, event, steps, taken.epoch_length or plan_steps(taken),
                                                accountant)
        error = multiplier * math.sqrt(float(np.mean(strategy.squared_errors(steps))))
        choices.append(Choice(name, strategy, taken, multiplier, error, buffers))
    return sorted(choices, key=lambda choice: choice.error)


def recommended_strategy(sampling: Sampling, steps: int, epsilon: float, delta: float,
                         accountant: str = "rdp") -> Choice:
    """The choice of least error; arguments as for `compared_strategies`.

    Examples:
        >>> from mindarmour.privacy.accounting.planning import plan_sampling
        >>> from mindarmour.privacy.accounting.recommendation import recommended_strategy
        >>> recommended_strategy(plan_sampling("fixed-order", 640, 20), 64, epsilon=2.0, delta=1e-5).name
        'banded, 32 bands'
    """
    return compared_strategies(sampling, steps, epsilon, delta, accountant)[0]


def _candidates(sampling: Sampling, steps: int) -> Iterator[tuple[str, Strategy, Sampling, int]]:
    yield "independent", INDEPENDENT, sampling, 0
    if sampling.kind in PARTITIONS:
        for rate in _RATES:
            yield f"decaying, rate {rate}", decaying(rate), sampling, 1
        for bands in (bands for bands in _BANDS if bands <= steps):
            yield f"banded, {bands} bands", optimal_toeplitz(steps, bands), sampling, bands - 1
        # the optimum of a fixed order serves reshuffled passes too: nothing closer is known
        length = sampling.steps_per_epoch or steps
        for buffers in (1, 2):
            yield (f"buffered, {buffers} buffer{'s' * (buffers > 1)}",
                   optimal_buffered(steps, buffers, min(length, steps), math.ceil(steps / length)), sampling, buffers)
    elif sampling.kind in (POISSON, CYCLIC_POISSON):
        most = min(steps, int(sampling.num_examples // sampling.batch_size))
        for bands in (bands for bands in _BANDS if bands <= most):
            yield f"banded, {bands} bands", optimal_toeplitz(steps, bands), _in_turns(sampling, bands), bands - 1


def _in_turns(sampling: Sampling, groups: int) -> Sampling:
    length = max(1, plan_steps(sampling) // groups) * groups
    return replace(sampling, kind=CYCLIC_POISSON, groups=groups, steps_per_epoch=length, max_batch_size=None)
