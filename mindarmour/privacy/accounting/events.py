"""What happened in one training step or release, as far as privacy is concerned.

An event is a mathematical definition, not an implementation: the accountants fold over events and never ask anybody
else. All multipliers are relative: a noise multiplier is the standard deviation of the noise divided by the clipping
bound, so that an event says the same whatever the bound was. Numbers and enumerations decide the cost; texts are
labels, made for the reader, and nothing is computed from them.

A further kind of event derives from `Event`, carries `@event_kind(name)`, and adds its fold to
`composition.FOLDS`; nothing else asks for the class of an event.

References:
    Joint release of gradient and count: Andrew et al. 2021, "Differentially private learning with adaptive
    clipping", theorem 1.
"""
from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any, Callable, ClassVar, Optional, TypeVar, Union

import numpy as np

from mindarmour.privacy.accounting.sampling import (
    ADD_OR_REMOVE,
    BALLS_IN_BINS,
    CYCLIC_POISSON,
    FIXED_ORDER,
    FIXED_SIZE,
    FULL,
    PARTITIONS,
    PER_EPOCH,
    POISSON,
    RELATIONS,
    REPLACE_ONE,
    SAMPLINGS,
    SHUFFLE,
    ZERO_OUT,
    Randomness,
    Relation,
    Sampling,
    SamplingKind,
    settle,
    weakest_randomness,
)
from mindarmour.utils import _validate

__all__ = [
    "ADD_OR_REMOVE", "BALLS_IN_BINS", "CYCLIC_POISSON", "EVENT_KINDS", "FIXED_ORDER", "FIXED_SIZE", "FULL",
    "ONE_RECORD", "PARTITIONS", "PER_EPOCH", "POISSON", "RELATIONS", "REPLACE_ONE", "SAMPLINGS", "SHUFFLE", "ZERO_OUT",
    "Event", "Randomness", "Relation", "ReleaseEvent", "Sampling", "SamplingKind", "StepEvent", "basic_composition",
    "event_kind", "sensitivity_of", "unit_text", "weakest_randomness",
]


def sensitivity_of(examples_per_unit: Optional[int], relation: str) -> float:
    """L2 sensitivity of a sum of clipped units, divided by the clipping bound: the only rule there is.

    Args:
        examples_per_unit (int, optional): How many of what neighbours differ in (examples; users, if users are
            drawn) share one clipping factor; None for several, it is not known how many. The views of one example
            and the examples of one user count as one.
        relation (Relation): Neighbouring relation.

    Returns:
        float. 1 where a unit appears or vanishes as a whole. 2 where it moves from one point of the ball to
        another: the clipped mean of several examples when one of them changes, or a unit that is replaced.

    Examples:
        >>> from mindarmour.privacy.accounting.events import sensitivity_of
        >>> sensitivity_of(1, "add-or-remove"), sensitivity_of(1, "replace-one"), sensitivity_of(8, "zero-out")
        (1.0, 2.0, 2.0)
    """
    examples = _examples_per_unit(examples_per_unit)
    replaced = Relation.checked("relation", relation) == REPLACE_ONE
    return 1.0 if examples == 1 and not replaced else 2.0


def unit_text(sampling: Sampling, examples_per_unit: Optional[int]) -> str:
    """What one clipping factor applied to, in words made from the facts."""
    what, several = ("user", "users") if sampling.examples_per_user else ("example", "examples")
    if examples_per_unit is None:
        return "micro-batch"
    if examples_per_unit > 1:
        return f"micro-batch of {examples_per_unit} {several}"
    if sampling.examples_per_user:
        count = sampling.examples_per_user
        return f"user (up to {count} example{'' if count == 1 else 's'})"
    return what if sampling.views == 1 else f"{what} ({sampling.views} views)"


class Event:
    """What every kind of event offers to ledger, statement and file."""

    kind: ClassVar[str]
    sampling: Sampling
    noise_source: Randomness

    @property
    def unit(self) -> str:
        """What the guarantee hides, in words."""
        raise NotImplementedError

    @property
    def note(self) -> str:
        """What a statement has to add, in words."""
        raise NotImplementedError

    @property
    def noise(self) -> Union[float, str]:
        """The figure of a table of events: an effective noise multiplier, or words."""
        raise NotImplementedError

    def to_fields(self) -> dict[str, Any]:
        """Everything but the sampling, as plain data for a file."""
        # ReleaseEvent's unit is a field of its own, others compute it
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "sampling"}  # type: ignore[arg-type]

    @classmethod
    def from_fields(cls, sampling: Sampling, values: dict[str, Any]) -> Event:
        """The event that `to_fields` wrote; every value is checked again."""
        return cls(sampling=sampling, **values)  # type: ignore[call-arg]


EVENT_KINDS: dict[str, type[Event]] = {}
_E = TypeVar("_E", bound=type)


def event_kind(name: str) -> Callable[[_E], _E]:
    """Class decorator that registers a kind of event under the name that ledger files use."""
    def register(cls: _E) -> _E:
        cls.kind = name
        EVENT_KINDS[name] = cls
        return cls
    return register


@event_kind("step")
@dataclass(frozen=True)
class StepEvent(Event):
    """One noised step.

    Args:
        sampling (Sampling): Who took part.
        noise_multiplier (float): Standard deviation of the noise on the clipped sum, divided by the clipping
            bound of that step; 0 for a step without noise.
        sensitivity (float, optional): L2 sensitivity of the clipped sum under `sampling.relation`, divided by the
            bound. It follows from `examples_per_unit` and the relation; a given value is compared with that.
        count_multiplier (float, optional): Adaptive clipping also releases how many units stayed unclipped:
            standard deviation of that count's noise divided by the count's sensitivity.
        examples_per_unit (int, optional): See `sensitivity_of`.
        noise_source (Randomness): 'secure', 'seeded' (reproducible: no protection against whoever knows the seed) or
            'device'; the weakest of all randomness that the guarantee needs, joined with that of the sampling.
        note (str): What statements have to add; nothing is computed from it.

    Raises:
        TypeError: A value of the wrong type; bools and texts are no numbers.
        ValueError: A negative, infinite or undefined number, or a sensitivity that does not follow from the facts.

    Examples:
        >>> from mindarmour.privacy.accounting import Sampling, StepEvent
        >>> event = StepEvent(Sampling("poisson", 60000, 256, "zero-out"), 1.1, examples_per_unit=8)
        >>> event.sensitivity, event.unit
        (2.0, 'micro-batch of 8 examples')
    """

    sampling: Sampling
    noise_multiplier: float
    sensitivity: Optional[float] = None
    count_multiplier: Optional[float] = None
    examples_per_unit: Optional[int] = 1
    noise_source: Randomness = Randomness.SECURE
    note: str = ""  # pyright: ignore[reportIncompatibleMethodOverride]  # a field does what the property promises

    def __post_init__(self) -> None:
        _validate.instance("sampling", self.sampling, Sampling)
        settle(self, noise_multiplier=_validate.real("noise_multiplier", self.noise_multiplier, low=0, closed="low"),
               examples_per_unit=_examples_per_unit(self.examples_per_unit),
               noise_source=weakest_randomness(self.noise_source, self.sampling.noise_source),
               note=_validate.instance("note", self.note, str))
        if self.count_multiplier is not None:
            settle(self, count_multiplier=_validate.real("count_multiplier", self.count_multiplier, low=0,
                                                         closed="low"))
        rule = sensitivity_of(self.examples_per_unit, self.sampling.relation)
        if self.sensitivity is not None and _validate.real("sensitivity", self.sensitivity, low=0) != rule:
            raise ValueError(f"sensitivity must be {rule} for {self.unit} as unit under {self.sampling.relation}, but "
                             f"got {self.sensitivity!r}. Leave it out, or state examples_per_unit.")
        settle(self, sensitivity=rule)

    @property
    def unit(self) -> str:
        """What one clipping factor applied to, in words."""
        return unit_text(self.sampling, self.examples_per_unit)

    @property
    def noise(self) -> float:
        """The effective multiplier."""
        return self.effective_multiplier

    @property
    def effective_multiplier(self) -> float:
        """`multiplier_under` the recorded relation."""
        return self.multiplier_under(self.sampling.relation)

    def multiplier_under(self, relation: str) -> float:
        """Multiplier of the one Gaussian mechanism that costs as much as everything this step released.

        Gaussian mechanisms on the same data compose into one whose squared inverse multiplier is the sum of
        theirs. What moved by one bound moves by two when a unit is replaced; the count moves as much further.

        Args:
            relation (Relation): Under which the claim is made; the recorded one or one that follows from it.

        Returns:
            float, 0 when the step had no noise at all.
        """
        if self.noise_multiplier == 0 or self.count_multiplier == 0:
            return 0.0
        sensitivity = sensitivity_of(self.examples_per_unit, relation)
        inverse = sensitivity / self.noise_multiplier
        if self.count_multiplier is not None:
            further = sensitivity / sensitivity_of(self.examples_per_unit, self.sampling.relation)
            inverse = math.hypot(inverse, further / self.count_multiplier)
        return 1 / max(inverse, 1 / _ENDLESS)

    def spread_under(self, relation: str) -> float:
        """How many times the radius of the ball of contributions fits into what the multiplier is relative to.

        Units that appear and vanish as a whole lie opposite each other at worst when one replaces the other: the
        multiplier is relative to the diameter. Otherwise it already covers the worst placement.
        """
        return sensitivity_of(self.examples_per_unit, relation) / sensitivity_of(self.examples_per_unit, ADD_OR_REMOVE)


# More noise than this counts as this much: squares stay inside the range of float.
_ENDLESS = 1e100

# A release of one record (local differential privacy) or of one client's whole update: nothing is sampled,
# and the neighbour is any other record or update.
ONE_RECORD = Sampling(FULL, 1, 1, REPLACE_ONE)


@event_kind("release")
@dataclass(frozen=True)
class ReleaseEvent(Event):
    """One release with a proven (epsilon, delta) guarantee.

    Args:
        epsilon (float): Of this one release. infinity for a release without any guarantee.
        delta (float): 0 for pure differential privacy.
        mechanism (str): What was run, in words.
        unit (str): What the guarantee hides, in words; nothing is computed from it.
        sampling (Sampling): Who took part, and under which neighbouring relation the guarantee holds.
        noise_source (Randomness): As for a StepEvent.

    Raises:
        TypeError: A value of the wrong type.
        ValueError: A number outside its range, or a sampling that is not 'full' under replace-one.
    """

    epsilon: float
    delta: float = 0.0
    mechanism: str = ""
    unit: str = "record"  # pyright: ignore[reportIncompatibleMethodOverride]  # as above
    sampling: Sampling = ONE_RECORD
    noise_source: Randomness = Randomness.SECURE

    def __post_init__(self) -> None:
        unbounded = isinstance(self.epsilon, (float, np.floating)) and self.epsilon == math.inf
        settle(self, epsilon=math.inf if unbounded else _validate.real("epsilon", self.epsilon, low=0, closed="low"),
               delta=_validate.real("delta", self.delta, low=0, high=1, closed="low"),
               noise_source=Randomness.checked("noise_source", self.noise_source))
        for name in ("mechanism", "unit"):
            _validate.instance(name, getattr(self, name), str)
        _validate.instance("sampling", self.sampling, Sampling)
        if self.sampling.kind != FULL or self.sampling.relation != REPLACE_ONE:
            raise ValueError(f"sampling must be of kind 'full' under replace-one, the relation that every ledger "
                             f"can be stated under, but got {self.sampling}.")

    @property
    def note(self) -> str:
        """A release adds nothing to a statement."""
        return ""

    @property
    def noise(self) -> str:
        """The guarantee stands in place of a multiplier."""
        return f"epsilon {self.epsilon:g}"

    def rdp(self, orders: Any) -> np.ndarray:
        """Renyi divergence of the randomised response that stands for the mechanism, once delta is set aside.

        Args:
            orders (array_like): Renyi orders above 1.

        Returns:
            numpy.ndarray, one divergence per order, at most min(epsilon, order * epsilon ** 2 / 2).
        """
        orders = np.asarray(orders, np.float64)
        if math.isinf(self.epsilon):
            return np.full_like(orders, math.inf)
        log_yes, log_no = -np.logaddexp(0, -self.epsilon), -np.logaddexp(0, self.epsilon)
        with np.errstate(over="ignore"):
            same = orders * log_yes + (1 - orders) * log_no
            other = orders * log_no + (1 - orders) * log_yes
            return np.maximum(np.logaddexp(same, other), 0) / (orders - 1)


def basic_composition(entries: Any) -> tuple[float, float]:
    """Sum of what the releases of a ledger state: sound for any mechanisms, chosen adaptively.

    Args:
        entries (iterable): Ledger entries whose events are all ReleaseEvents.

    Returns:
        tuple, (epsilon, delta).

    Raises:
        TypeError: An entry is a training step, whose cost is no (epsilon, delta) pair.
    """
    epsilon = delta = 0.0
    for entry in entries:
        if not isinstance(entry.event, ReleaseEvent):
            raise TypeError("basic_composition adds releases only, but the ledger also holds training steps; "
                            "use privacy_spent for both.")
        epsilon += entry.steps * entry.event.epsilon
        delta += entry.steps * entry.event.delta
    return epsilon, delta


def _examples_per_unit(value: Any) -> Optional[int]:
    return None if value is None else _validate.integer("examples_per_unit", value, low=1)
