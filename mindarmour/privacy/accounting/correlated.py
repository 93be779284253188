"""Steps whose noise is correlated with that of earlier steps, and what a whole stream of them costs.

The noise of such steps is one stream: a strategy C, and independent draws Z of which step after step adds a row of
C^-1 Z. All of it together is one Gaussian release of C G + Z (see `strategies`). So there is no cost of a step, only
of a stream: the composition counts how many steps each pass over the data contributed, in any order, and asks here.

References:
    Choquette-Choo et al. 2023, "(Amplified) banded matrix factorization", theorem 4 (groups that take turns).
"""
from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, ClassVar, NamedTuple, Optional

import numpy as np

from mindarmour.privacy.accounting.events import (
    CYCLIC_POISSON,
    FIXED_ORDER,
    FULL,
    PARTITIONS,
    Event,
    Randomness,
    Sampling,
    StepEvent,
    event_kind,
)
from mindarmour.privacy.accounting.sampling import settle
from mindarmour.privacy.accounting.strategies.families import Buffered, InverseToeplitz, Strategy, Toeplitz
from mindarmour.privacy.accounting.strategies.sensitivity import energy_of_starts, reshuffled_energy
from mindarmour.utils import _validate

_FAMILIES: dict[str, type[Strategy]] = {family.__name__: family for family in (Toeplitz, InverseToeplitz, Buffered)}


@event_kind("correlated")
@dataclass(frozen=True)
class CorrelatedEvent(Event):
    """One step whose noise belongs to a stream of correlated noise.

    Equal events are steps of one stream. Streams that are recorded as one though they were two cost no less than the
    two do, so a number that is not unique is safe; one stream must not be recorded as two.

    Args:
        sampling (Sampling): Who took part.
        noise_multiplier (float): Standard deviation of the independent draws Z, divided by the clipping bound.
        strategy (Strategy): C.
        stream (int): Number of the stream: steps that the ledger held when it began.
        examples_per_unit (int, optional): See `sensitivity_of`.
        noise_source (Randomness): As for a StepEvent.

    Raises:
        TypeError: A value of the wrong type.
        ValueError: A number outside its range, or a sampling for which no cost of correlated noise is proven.

    Examples:
        >>> from mindarmour.privacy.accounting import LedgerEntry, Sampling, privacy_spent
        >>> from mindarmour.privacy.accounting.correlated import CorrelatedEvent
        >>> from mindarmour.privacy.accounting.strategies import decaying
        >>> sampling = Sampling("fixed-order", 1000, 100, "zero-out", steps_per_epoch=10)
        >>> event = CorrelatedEvent(sampling, 8.0, decaying(0.9))
        >>> round(privacy_spent((LedgerEntry(event, 20, 1),), 1e-5).epsilon, 3)
        1.778
    """

    sampling: Sampling
    noise_multiplier: float
    strategy: Strategy
    stream: int = 0
    examples_per_unit: Optional[int] = 1
    noise_source: Randomness = Randomness.SECURE

    count_multiplier: ClassVar[None] = None  # a bound that moves is refused beside correlated noise

    def __post_init__(self) -> None:
        _validate.instance("strategy", self.strategy, tuple(_FAMILIES.values()), "Strategy")
        settle(self, stream=_validate.integer("stream", self.stream, low=0))
        step = StepEvent(self.sampling, self.noise_multiplier, examples_per_unit=self.examples_per_unit,
                         noise_source=self.noise_source)
        settle(self, noise_multiplier=step.noise_multiplier, examples_per_unit=step.examples_per_unit,
               noise_source=step.noise_source, _step=step)
        require_proven(self.sampling, self.strategy)

    @property
    def step(self) -> StepEvent:
        """The same step with independent noise: what a strategy of one band does."""
        if self.strategy.bands > 1:
            return self._step  # type: ignore[attr-defined, no-any-return]
        return StepEvent(self.sampling, self.noise_multiplier / float(self.strategy.column(1)[0]),
                         examples_per_unit=self.examples_per_unit, noise_source=self.noise_source)

    @property
    def unit(self) -> str:
        """What one clipping factor applied to, in words."""
        return self.step.unit

    @property
    def note(self) -> str:
        """What a statement has to add."""
        return "" if self.strategy.bands == 1 else f"correlated noise ({type(self.strategy).__name__})"

    @property
    def noise(self) -> str:
        """The multiplier of the draws is no effective one."""
        return f"{self.noise_multiplier:g}, correlated"

    def to_fields(self) -> dict[str, Any]:
        """Plain data; the strategy in full."""
        return {**super().to_fields(), "strategy": {"family": type(self.strategy).__name__, **asdict(self.strategy)}}  # type: ignore[call-overload]

    @classmethod
    def from_fields(cls, sampling: Sampling, values: dict[str, Any]) -> CorrelatedEvent:
        """The event that `to_fields` wrote; every value is checked again."""
        numbers = dict(values["strategy"])
        family = _validate.choice("family", numbers.pop("family"), tuple(_FAMILIES))
        return cls(sampling=sampling, **{**values, "strategy": _FAMILIES[family](**numbers)})


def require_proven(sampling: Sampling, strategy: Strategy) -> None:
    """Raise unless the cost of this strategy is proven for this sampling.

    Raises:
        ValueError: Says which theorem is missing and what to use instead.
    """
    kind, bands = sampling.kind, strategy.bands
    if bands == 1 or kind == FULL:
        return
    if sampling.passes_per_epoch > 1:
        raise ValueError("sampling must visit each record once an epoch for correlated noise, but the data set repeats "
                         "its records. Leave repeat() out and train for more epochs.")
    if kind == CYCLIC_POISSON and bands > sampling.groups:
        raise ValueError(f"strategy must have at most as many bands as groups take turns, {sampling.groups}, but has "
                         f"{bands}: amplification is proven for steps of one group whose columns do not overlap. Use "
                         f"optimal_toeplitz with {sampling.groups} bands, or more groups.")
    if kind not in (*PARTITIONS, CYCLIC_POISSON):
        raise ValueError(f"sampling must not be {kind!r} for correlated noise of more than one band: no bound is "
                         f"proven for records that may come again at the next step. Use CyclicPoissonSampler with a "
                         f"banded strategy, FixedOrder or ShufflePartition.")


class Charge(NamedTuple):
    """What a stream costs: so many mechanisms with the noise multiplier divided by `sensitivity`."""

    rounds: int
    sensitivity: float
    amplified: bool


def charge_of(event: CorrelatedEvent, passes: Mapping[int, int]) -> Charge:
    """Cost of a stream.

    Args:
        event (CorrelatedEvent): What each of its steps did.
        passes (mapping): Number of an epoch to the steps that the stream made in it.

    Returns:
        Charge. Groups that take turns are amplified while every epoch but the last held whole turns: otherwise a
        group came again too early.
    """
    sampling, made = event.sampling, [passes[epoch] for epoch in sorted(passes)]
    steps = sum(made)
    whole_turns = all(count % sampling.groups == 0 for count in made[:-1])
    if sampling.kind == CYCLIC_POISSON and sampling.max_batch_size is None and whole_turns:
        rounds = sum(-(-count // sampling.groups) for count in made)
        return Charge(rounds, event.strategy.column_norm(min(steps, int(event.strategy.bands))), True)
    return Charge(1, math.sqrt(_energy(event.strategy, sampling.kind, _passes(sampling, made))), False)


def _passes(sampling: Sampling, made: list[int]) -> tuple[int, ...]:
    """Steps of the stretches in which a record takes part at most once."""
    if sampling.kind == FULL:
        return (sum(made),)
    length = sampling.steps_per_charge or 1
    return tuple(part for count in made for part in (*[length] * (count // length), count % length) if part)


@lru_cache(maxsize=128)
def _energy(strategy: Strategy, kind: str, passes: tuple[int, ...]) -> float:
    column = strategy.column(sum(passes))
    if kind == FULL:
        return float(np.sum(np.cumsum(column) ** 2))
    if kind == FIXED_ORDER:
        # whoever stands first in a pass takes part even in those that were broken off
        return energy_of_starts(column, np.cumsum((0, *passes[:-1])).tolist())
    return reshuffled_energy(column, passes)
