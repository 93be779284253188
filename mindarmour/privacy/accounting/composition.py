"""From ledger entries to one composed cost: the fold that every accountant shares.

Per-step samplers cost per step; samplers whose claim is per epoch cost once for each epoch that the steps made
necessary or that was started, at the least noise of that epoch, however many of its steps ran.

Each kind of event has one fold, in `FOLDS`.
"""
from __future__ import annotations

import math
from collections import Counter
from collections.abc import ItemsView, Iterable
from functools import lru_cache
from typing import Callable, NamedTuple, Optional, cast

import numpy as np

from mindarmour.privacy.accounting.correlated import CorrelatedEvent, charge_of
from mindarmour.privacy.accounting.costs import Cost, curves_at, rounded_down
from mindarmour.privacy.accounting.curves.rdp import DEFAULT_ORDERS
from mindarmour.privacy.accounting.curves.truncation import Overflow, exceeding, overflow_of
from mindarmour.privacy.accounting.events import (
    ADD_OR_REMOVE,
    BALLS_IN_BINS,
    CYCLIC_POISSON,
    FIXED_SIZE,
    FULL,
    PARTITIONS,
    PER_EPOCH,
    POISSON,
    REPLACE_ONE,
    SHUFFLE,
    ZERO_OUT,
    Event,
    Randomness,
    ReleaseEvent,
    Sampling,
    StepEvent,
)
from mindarmour.privacy.accounting.ledger import LedgerEntry

# Up to this many distinct noise levels are accounted exactly; more are rounded down onto a logarithmic grid,
# which is sound (more noise is post-processing) and costs about 0.3 percent of epsilon.
EXACT_LEVELS = 64
# The best order of a plain Gaussian is the root of 2 ln(1 / delta) / mu^2; this is 2 ln(1 / delta) at 1e-11.
_BEST_ORDER = 50.0


class Composition:
    """What a ledger amounts to: how often each distinct mechanism ran. Counts only, so order cannot matter.

    Args:
        relation (str): Neighbouring relation that everything is stated under.
        assume_poisson (bool): Treat shuffled partitions as if batches had been drawn independently.
        orders (tuple[float]): Rényi orders of `curves`, all above 1.
        examples_per_user (int): Neighbours differ in a user with up to so many examples; 1 for a single example.
        of_examples (bool): Neighbours differ in one example, also where steps drew users.
    """

    def __init__(self, relation: str, assume_poisson: bool = False, orders: tuple[float, ...] = DEFAULT_ORDERS,
                 examples_per_user: int = 1, of_examples: bool = False) -> None:
        self.relation = relation
        self.of_examples = of_examples
        self.examples_per_user = examples_per_user
        self.orders = orders
        self.assumed = False
        self.assume_poisson = assume_poisson
        self._exact = Counter()
        self._rounded = Counter()
        self._releases = Counter()
        self._epochs = {}
        self._streams = {}
        self._charged = {}

    def copy(self) -> Composition:
        """An independent copy, for looking ahead."""
        other = Composition(self.relation, self.assume_poisson, self.orders, self.examples_per_user, self.of_examples)
        other.assumed = self.assumed
        for name in ("_exact", "_rounded", "_releases", "_epochs", "_charged"):
            setattr(other, name, getattr(self, name).copy())
        other._streams = {event: passes.copy() for event, passes in self._streams.items()}
        return other

    def extend(self, entries: Iterable[LedgerEntry]) -> Composition:
        """Compose with ledger entries."""
        grown = set()
        for entry in entries:
            FOLDS[type(entry.event)](self, entry)
            grown.add(entry.event)
        for event in grown & self._streams.keys():
            self._charge_stream(event)
        return self

    def relation_of(self, event: Event) -> str:
        """Relation under which an event costs what it costs here.

        An example that is missing leaves its user's unit in place and moves it inside the ball, as if it were replaced.
        """
        return REPLACE_ONE if self.of_examples and event.sampling.examples_per_user else self.relation

    def count(self, cost: Cost, count: int) -> None:
        """Compose with `count` times the mechanism of a `Cost`; a negative count takes it back."""
        for counter, item in ((self._exact, cost), (self._rounded, rounded_down(cost))):
            counter[item] += count
            if counter[item] == 0:
                del counter[item]

    def count_release(self, event: ReleaseEvent, count: int) -> None:
        """Compose with `count` times a ReleaseEvent."""
        self._releases[event] += count

    def add_visits(self, key: EpochKey, cost: Cost, steps: int) -> None:
        """Compose with steps of a sampler whose claim is per epoch.

        An epoch costs once, whatever part of it ran, at the least noise that any of its steps had; steps beyond its
        length are another epoch's.

        Args:
            key (EpochKey): The epoch they belong to.
            cost (Cost): Of one pass with the noise of these steps.
            steps (int): How many, at least 1.
        """
        length = cast(int, key.sampling.steps_per_charge)  # not None for what is charged by the epoch
        made, worst = self._epochs.get(key, (0, None))
        room = -made % length
        if room:
            # the open epoch's cost is that of its least noise
            if cost.multiplier < worst.multiplier:
                self.count(worst, -key.sampling.passes_per_epoch)
                self.count(cost, key.sampling.passes_per_epoch)
                worst = cost
            beyond = max(0, steps - room)
        else:
            beyond = steps
        if beyond:
            self.count(cost, -(-beyond // length) * key.sampling.passes_per_epoch)
            worst = cost
        self._epochs[key] = (made + steps, worst)

    def add_to_stream(self, event: CorrelatedEvent, epoch: int, steps: int) -> None:
        """Compose with further steps of a stream of correlated noise; `extend` charges it once all are counted."""
        self._streams.setdefault(event, Counter())[epoch] += steps

    def _charge_stream(self, event):
        charge, relation = charge_of(event, self._streams[event]), self.relation_of(event)
        cost = _step_cost(event.step, relation) if charge.amplified else _plain_cost(event.step, relation)
        cost = cost._replace(multiplier=cost.multiplier / charge.sensitivity)
        for known, count in (self._charged.get(event, (cost, 0)), (cost, -charge.rounds)):
            if count:
                self.count(known, -count)
        self._charged[event] = (cost, charge.rounds)

    @property
    def unamplified(self) -> bool:
        """Some groups did not take turns as their claim says, so their sampling amplifies nothing."""
        return any(event.sampling.kind == CYCLIC_POISSON and cost.kind == FULL
                   for event, (cost, _) in self._charged.items())

    @property
    def costs(self) -> ItemsView[Cost, int]:
        """Items (Cost, count), with multipliers rounded down once there are too many."""
        return (self._exact if len(self._exact) <= EXACT_LEVELS else self._rounded).items()

    @property
    def releases(self) -> ItemsView[ReleaseEvent, int]:
        """Items (ReleaseEvent, count)."""
        return self._releases.items()

    @property
    def rounded(self) -> bool:
        """Whether multipliers were rounded down."""
        return len(self._exact) > EXACT_LEVELS

    @property
    def curves(self) -> np.ndarray:
        """RDP at `orders` by two arguments, [2, orders].

        Both bound the same run. They differ only when Poisson batches were cut: the first leaves out a part of
        total variation `excess`, the second holds as it is.
        """
        total = np.zeros((2, len(self.orders)))
        if self._exact:
            known, (costs, counts) = curves_at(self.orders), zip(*self.costs)
            total += np.tensordot(np.array(counts, float), np.array([known(cost) for cost in costs]), 1)
        with np.errstate(over="ignore"):
            return total + sum(count * event.rdp(self.orders) for event, count in self.releases)

    @property
    def excess(self) -> float:
        """Total variation left out of the first curve, summed over the steps."""
        return sum(count * cost.overflow.excess for cost, count in self._exact.items() if cost.overflow)

    @property
    def two_sided(self) -> bool:
        """Whether the part left out of the first curve may stand on either side of the comparison."""
        return any(cost.overflow and cost.overflow.excess and (cost.relation == REPLACE_ONE or cost.group > 1)
                   for cost in self._exact)

    @property
    def released(self) -> tuple[float, float]:
        """Sums of the stated epsilon and delta of all releases."""
        return (sum(count * event.epsilon for event, count in self.releases),
                sum(count * event.delta for event, count in self.releases))

    @property
    def squared_mu(self) -> float:
        """Squared inverse multiplier of the whole run, if nothing were amplified."""
        return sum(count * cost.squared_mu for cost, count in self._exact.items())

    @property
    def displaced(self) -> tuple[float, float]:
        """(squared mu, probability) of what cut batches add to `squared_mu`, and of any batch being cut at all.

        A record that displaces another one moves the sum by twice the bound (add-or-remove only).
        """
        cut = [(count, cost) for cost, count in self._exact.items() if cost.overflow and cost.overflow.distance > 1]
        added = sum(count * (cost.overflow.distance ** 2 - 1) * cost.squared_mu for count, cost in cut)
        return added, sum(count * cost.overflow.probability for count, cost in cut)

    @property
    def unprotected(self) -> bool:
        """Some step had no noise, or some release no bound."""
        return math.isinf(self.squared_mu) or math.isinf(self.released[0])

    @property
    def unamplified_known(self) -> bool:
        """One plain Gaussian mechanism of `squared_mu` bounds the whole run.

        A batch that may hold the record is a mixture of pairs that differ by the sensitivity or not at all, and costs
        at most what the differing pair costs. That fails where a batch is cut and the record displaces another one.
        """
        if self._releases:
            return False
        if all(cost.kind in (FULL, BALLS_IN_BINS) for cost in self._exact):
            return True
        # where Renyi orders reach the best one, their bound is no larger
        beyond = self.squared_mu * max(self.orders) ** 2 < _BEST_ORDER
        return beyond and not any(cost.overflow and cost.overflow.distance > 1 for cost in self._exact)

    @property
    def exact(self) -> bool:
        """Plain Gaussian mechanisms only: their composition is known exactly."""
        return not self._releases and all(cost.kind == FULL for cost in self._exact)


class EpochKey(NamedTuple):
    """Steps that visit records together: those of one epoch, sampling and unit."""

    epoch: int
    sampling: Sampling
    examples_per_unit: Optional[int]


def _fold_step(composition: Composition, entry: LedgerEntry) -> None:
    event = cast(StepEvent, entry.event)
    sampling, relation = event.sampling, composition.relation_of(event)
    if composition.examples_per_user > 1 and sampling.examples_per_user is None:
        composition.count(_user_cost(event, relation, composition.examples_per_user), entry.steps)
    elif sampling.kind == SHUFFLE and composition.assume_poisson:
        composition.assumed = True
        composition.count(_step_cost(event, relation), entry.steps)
    elif sampling.kind in PER_EPOCH:
        key = EpochKey(entry.epoch, sampling, event.examples_per_unit)
        composition.add_visits(key, _epoch_cost(event, relation), entry.steps)
    else:
        composition.count(_step_cost(event, relation), entry.steps)


def _fold_correlated(composition: Composition, entry: LedgerEntry) -> None:
    event = cast(CorrelatedEvent, entry.event)
    if event.strategy.bands == 1:
        _fold_step(composition, LedgerEntry(event.step, entry.steps, entry.epoch))
    elif composition.examples_per_user > 1 and event.sampling.examples_per_user is None:
        raise ValueError("unit must be 'example' for a ledger that holds correlated noise: its steps are not "
                         "independent of each other. State groups by group_size.")
    else:
        composition.add_to_stream(event, entry.epoch, entry.steps)


def _user_cost(event: StepEvent, relation: str, examples: int) -> Cost:
    """Cost of one step for a user with up to so many examples, each drawn and clipped alone.

    A batch that is cut in either data set is left out by total variation: then one of the user's examples may displace
    another user's.
    """
    sampling = event.sampling
    if (sampling.kind != POISSON or event.examples_per_unit != 1
            or REPLACE_ONE in (relation, sampling.relation)):
        raise ValueError(f"unit must be 'example' unless every step drew its examples by Poisson sampling, clipped "
                         f"each one alone and is stated under add-or-remove or zero-out, but the ledger holds a "
                         f"step of {sampling.kind} sampling with {event.unit} as unit under {relation}. State "
                         f"groups by group_size, or draw users.")
    overflow = None
    if sampling.max_batch_size is not None:
        shard = -(-sampling.num_examples // sampling.shards)
        probability = min(1.0, sampling.shards * exceeding(shard, sampling.rate, sampling.max_batch_size))
        overflow = Overflow(probability, sampling.rate, probability, 2.0) if probability else None
    return Cost(POISSON, sampling.rate, event.multiplier_under(relation), relation, overflow=overflow, group=examples)


def _fold_release(composition: Composition, entry: LedgerEntry) -> None:
    if composition.examples_per_user > 1:
        raise ValueError("unit must be 'example' for a ledger that holds releases: they are stated for one record "
                         "each. State groups by group_size.")
    composition.count_release(cast(ReleaseEvent, entry.event), entry.steps)


# How each kind of event is composed; a further kind adds its own fold.
FOLDS: dict[type[Event], Callable[[Composition, LedgerEntry], None]] = {
    StepEvent: _fold_step,
    CorrelatedEvent: _fold_correlated,
    ReleaseEvent: _fold_release,
}


def _step_cost(event: StepEvent, relation: str) -> Cost:
    """Cost of one step, drawn independently of the others."""
    sampling, multiplier = event.sampling, event.multiplier_under(relation)
    if sampling.kind == FULL:
        return Cost(FULL, 1.0, multiplier, relation)
    if sampling.kind == FIXED_SIZE:
        return Cost(FIXED_SIZE, sampling.rate, multiplier, relation)
    overflow = None
    if sampling.kind == POISSON and sampling.max_batch_size is not None:
        shard = -(-sampling.num_examples // sampling.shards)  # a record lives in one shard and overflows there
        overflow = _overflow(shard, sampling.rate, sampling.max_batch_size, relation)
    return Cost(POISSON, sampling.rate, multiplier, relation, event.spread_under(relation), overflow)


_overflow = lru_cache(maxsize=256)(overflow_of)


def _plain_cost(event: StepEvent, relation: str) -> Cost:
    """Cost of one step, or of one pass, without any amplification."""
    displaces = event.sampling.max_batch_size is not None and relation == ADD_OR_REMOVE
    return Cost(FULL, 1.0, event.multiplier_under(relation) / (2 if displaces else 1), relation)


def _epoch_cost(event: StepEvent, relation: str) -> Cost:
    """Cost of one pass over the records."""
    sampling, multiplier = event.sampling, event.multiplier_under(relation)
    if sampling.kind in PARTITIONS:
        return Cost(FULL, 1.0, multiplier, relation)
    if sampling.max_batch_size is not None and (relation == ADD_OR_REMOVE or sampling.kind == CYCLIC_POISSON):
        # a record may displace another one of its bin or group; no amplification is proven for that
        return _plain_cost(event, relation)
    if sampling.kind == CYCLIC_POISSON:
        return _step_cost(event, relation)
    return Cost(BALLS_IN_BINS, float(sampling.steps_per_epoch or 1), multiplier, relation,
                event.spread_under(relation))


class Traits(NamedTuple):
    """What a statement has to say about an entry besides its cost."""

    kind: str
    relation: str
    noise_source: Randomness
    note: str
    of_users: bool = False


def traits_of(entries: Iterable[LedgerEntry]) -> set[Traits]:
    """Set of `Traits`. A shuffled partition changes as a whole when a record is missing: zero-out at best."""
    return {_traits(entry.event) for entry in entries}


def _traits(event: Event) -> Traits:
    sampling = event.sampling
    proven = ZERO_OUT if sampling.kind in PARTITIONS and sampling.relation == ADD_OR_REMOVE else sampling.relation
    reason = sampling.reason and f"every record is taken to be in every step, because {sampling.reason}"
    return Traits(sampling.kind, proven, event.noise_source, "; ".join(filter(None, (event.note, reason))),
                  sampling.examples_per_user is not None)


def common_relation(traits: Iterable[Traits], relation: Optional[str] = None) -> str:
    """The neighbouring relation under which entries with these traits can be stated together.

    Raises:
        ValueError: If `relation` is asked for and does not follow from what was recorded.
    """
    recorded = {trait.relation for trait in traits}
    weakest = next((r for r in (REPLACE_ONE, ZERO_OUT) if r in recorded), ADD_OR_REMOVE)
    if relation is None or not recorded or relation == weakest:
        return relation or weakest
    if relation == ADD_OR_REMOVE or (relation == ZERO_OUT and weakest == REPLACE_ONE):
        raise ValueError(f"relation must follow from the recorded steps, but got {relation!r} where the ledger "
                         f"only supports {weakest!r}. Leave relation out to use that.")
    return relation
