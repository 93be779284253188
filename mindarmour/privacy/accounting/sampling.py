"""Who takes part in a step, as typed facts, and the one rule for the steps of an epoch.

References:
    Poisson and shuffled sampling differ: Chua et al. 2024, "How private are DP-SGD implementations?"
"""
from __future__ import annotations

import math
import numbers
from dataclasses import dataclass
from enum import Enum
from typing import Any, Optional, TypeVar, Union

from mindarmour.utils import _validate

_W = TypeVar("_W", bound="Word")


class Word(str, Enum):
    """A fixed vocabulary whose members equal, print and hash like their plain strings."""

    __str__ = str.__str__
    def __repr__(self) -> str:
        return str.__repr__(self)
    __format__ = str.__format__

    @classmethod
    def checked(cls: type[_W], name: str, value: Any) -> _W:
        """The member that `value` names.

        Raises:
            TypeError: `value` is no string.
            ValueError: It names no member.
        """
        if not isinstance(value, str):
            raise TypeError(f"{name} must be one of {', '.join(map(repr, cls))}, but got {value!r} "
                            f"({type(value).__name__}).")
        try:
            return cls(str(value))
        except ValueError:
            raise ValueError(f"{name} must be one of {', '.join(map(repr, cls))}, but got {value!r}.") from None


class Relation(Word):
    """What neighbouring data sets differ in, from the strongest statement to the weakest."""

    ADD_OR_REMOVE = "add-or-remove"
    ZERO_OUT = "zero-out"
    REPLACE_ONE = "replace-one"


class SamplingKind(Word):
    """How the records of a batch were chosen."""

    POISSON = "poisson"
    BALLS_IN_BINS = "balls-in-bins"
    SHUFFLE = "shuffle"
    FIXED_SIZE = "fixed"
    FULL = "full"
    FIXED_ORDER = "fixed-order"
    CYCLIC_POISSON = "cyclic-poisson"


class Randomness(Word):
    """Where the randomness of an event came from, from the strongest to the weakest."""

    SECURE = "secure"
    DEVICE = "device"
    SEEDED = "seeded"


def weakest_randomness(*sources: str) -> Randomness:
    """The weakest of several sources: an event is as predictable as the worst randomness its guarantee needs."""
    order = list(Randomness)
    return max((Randomness.checked("noise_source", source) for source in sources), key=order.index)


ADD_OR_REMOVE, ZERO_OUT, REPLACE_ONE = RELATIONS = tuple(Relation)
POISSON, BALLS_IN_BINS, SHUFFLE, FIXED_SIZE, FULL, FIXED_ORDER, CYCLIC_POISSON = SAMPLINGS = tuple(SamplingKind)
PARTITIONS = (SHUFFLE, FIXED_ORDER)
PER_EPOCH = (BALLS_IN_BINS, *PARTITIONS, CYCLIC_POISSON)


@dataclass(frozen=True)
class Sampling:
    """How a step's examples were chosen, and under which neighbouring relation the claim holds.

    Args:
        kind (SamplingKind): One of `SAMPLINGS`, or its text. 'full' means that every record may take part in every
            step: no amplification of any kind. 'fixed-order' is a partition that is the same in every epoch;
            'cyclic-poisson' draws each step from the next of `groups` groups.
        num_examples (int): Records in the data set, a public number; users, if users are drawn.
        batch_size (float): Expected number of them in a batch, a fixed public number.
        relation (Relation): Neighbouring relation, one of `RELATIONS`, or its text.
        passes_per_epoch (int): How often one epoch visits each record (kinds in `PER_EPOCH`).
        steps_per_epoch (int, optional): Steps of one pass (kinds in `PER_EPOCH`); of all turns of the groups.
        max_batch_size (int, optional): Poisson batches above this size are cut down to it at random; None if
            they never are. With several shards, the size of one shard's part of a batch.
        shards (int): Disjoint shards of (almost) equal size, one a rank, from which the parts of a batch are drawn.
        views (int): Rows that stand for one record, its augmented views; together they form its unit.
        examples_per_user (int, optional): Users are drawn, and each brings up to so many of his examples, which
            form one unit; neighbours then differ in a user. None: examples are drawn.
        noise_source (Randomness): Where the randomness of the draws came from; an event is no stronger.
        reason (str): Why no more than 'full' is claimed, for the statement; nothing is computed from it.
        groups (int): Disjoint groups that take turns, each record in one of them ('cyclic-poisson').

    Raises:
        TypeError: A fact of the wrong type; bools are no numbers.
        ValueError: A fact that cannot be true.
    """

    kind: SamplingKind
    num_examples: int
    batch_size: float
    relation: Relation
    passes_per_epoch: int = 1
    steps_per_epoch: Optional[int] = None
    max_batch_size: Optional[int] = None
    shards: int = 1
    views: int = 1
    examples_per_user: Optional[int] = None
    noise_source: Randomness = Randomness.SECURE
    reason: str = ""
    groups: int = 1

    def __post_init__(self) -> None:
        settle(self, kind=SamplingKind.checked("kind", self.kind),
               relation=Relation.checked("relation", self.relation),
               num_examples=_validate.integer("num_examples", self.num_examples, low=1),
               noise_source=Randomness.checked("noise_source", self.noise_source),
               reason=_validate.instance("reason", self.reason, str))
        settle(self, batch_size=_plain("batch_size", self.batch_size, self.num_examples),
               shards=_validate.integer("shards", self.shards, low=1, high=self.num_examples))
        for name in ("passes_per_epoch", "views", "groups"):
            settle(self, **{name: _validate.integer(name, getattr(self, name), low=1)})
        for name in ("steps_per_epoch", "max_batch_size", "examples_per_user"):
            if getattr(self, name) is not None:
                settle(self, **{name: _validate.integer(name, getattr(self, name), low=1)})
        if self.kind == FIXED_SIZE and self.relation != REPLACE_ONE:
            raise ValueError(f"relation must be 'replace-one' for fixed-size batches, the only one their claim holds "
                             f"under, but got {self.relation!r}.")
        if self.kind in PER_EPOCH:
            self._check_pass()
        if self.kind != CYCLIC_POISSON and self.groups != 1:
            raise ValueError(f"groups must be 1 for {self.kind} sampling, where no groups take turns, but got "
                             f"{self.groups}.")

    def _check_pass(self) -> None:
        if self.steps_per_epoch is None:
            raise ValueError(f"{self.kind} sampling is accounted per epoch: steps_per_epoch must be a positive int, "
                             f"but got None.")
        if self.kind == CYCLIC_POISSON:
            self._check_turns()
            return
        # each rank pads its last batch
        most = max(1, math.ceil((self.num_examples + self.shards - 1) / self.batch_size))
        if self.steps_per_epoch > most:
            raise ValueError(f"steps_per_epoch must be at most {most}, the batches of {self.batch_size} that "
                             f"{self.num_examples} records make, but got {self.steps_per_epoch}.")

    def _check_turns(self) -> None:
        if self.groups * self.batch_size > self.num_examples:
            raise ValueError(f"groups must be at most {int(self.num_examples / self.batch_size)}, the batches of "
                             f"{self.batch_size} that {self.num_examples} records make, but got {self.groups}.")
        if self.steps_per_epoch is not None and self.steps_per_epoch % self.groups:
            raise ValueError(f"steps_per_epoch must be a multiple of the {self.groups} groups that take turns, but got "
                             f"{self.steps_per_epoch}.")

    @property
    def rows(self) -> int:
        """Rows of a batch that form one of what is drawn: an example's views, a user's examples with theirs."""
        return self.views * (self.examples_per_user or 1)

    @property
    def rate(self) -> float:
        """Probability that a given record takes part in a given step; where groups take turns, in one of its group."""
        return self.groups * self.batch_size / self.num_examples

    @property
    def epoch_length(self) -> Optional[int]:
        """Steps of one epoch; None if epochs do not matter."""
        if self.kind not in PER_EPOCH or self.steps_per_epoch is None:
            return None
        return self.passes_per_epoch * self.steps_per_epoch

    @property
    def steps_per_charge(self) -> Optional[int]:
        """Steps after which each record may come again, so that a new charge is due; None if steps are charged."""
        return self.groups if self.kind == CYCLIC_POISSON else self.epoch_length


def settle(instance: Any, **values: Any) -> None:
    """Set checked values of a frozen dataclass while it is constructed."""
    for name, value in values.items():
        object.__setattr__(instance, name, value)


def _plain(name: str, value: Any, high: int) -> Union[int, float]:
    """A number in (0, high]; a whole one stays an int, so that files keep its text."""
    number = _validate.real(name, value, low=0, high=high, closed="high")
    return int(value) if isinstance(value, numbers.Integral) else number


def steps_of_epoch(kind: str, num_examples: int, batch_size: float, padded: bool = False) -> int:
    """Steps that one epoch takes, for samplers, monitors, calibration, planning and command line alike.

    Args:
        kind (SamplingKind): One of `SAMPLINGS`.
        num_examples (int): Records that are sampled from.
        batch_size (float): Expected batch size.
        padded (bool): A partition pads its last batch instead of dropping the records that are left over.

    Returns:
        int. A partition drops its remainder, unless padded; the other samplers round. Never below 1.

    Examples:
        >>> from mindarmour.privacy.accounting.sampling import steps_of_epoch
        >>> [steps_of_epoch(kind, 1000, 96) for kind in ("poisson", "shuffle")]
        [10, 10]
        >>> steps_of_epoch("poisson", 1000, 150), steps_of_epoch("shuffle", 1000, 150)
        (7, 6)
    """
    if kind not in PARTITIONS:
        return max(1, round(num_examples / batch_size))
    batches = math.ceil(num_examples / batch_size) if padded else int(num_examples // batch_size)
    return max(1, batches)
