"""From ledger entries to one composed cost: the fold that every accountant shares.

Per-step samplers cost per step; samplers whose claim is per epoch cost once for each started epoch, at the
largest multiplier-squared-inverse of that epoch, however many of its steps ran.
"""
import math
from collections import Counter
from functools import lru_cache
from typing import NamedTuple, Optional

import numpy as np

from mindarmour.privacy.accounting.curves.allocation import rdp_random_allocation, rdp_replaced_allocation
from mindarmour.privacy.accounting.curves.rdp import (
    DEFAULT_ORDERS,
    rdp_gaussian,
    rdp_sampled_gaussian,
    rdp_without_replacement,
)
from mindarmour.privacy.accounting.curves.truncation import Overflow, overflow_of
from mindarmour.privacy.accounting.events import (
    ADD_OR_REMOVE,
    BALLS_IN_BINS,
    FIXED_SIZE,
    FULL,
    PER_EPOCH,
    POISSON,
    REPLACE_ONE,
    SHUFFLE,
    ZERO_OUT,
    ReleaseEvent,
)

# Up to this many distinct noise levels are accounted exactly; more are rounded down onto a logarithmic grid,
# which is sound (more noise is post-processing) and costs about 0.3 percent of epsilon.
EXACT_LEVELS = 64
GRID_RATIO = 1.002


class Cost(NamedTuple):
    """One mechanism, hashable so that its curve is computed once.

    Args:
        kind (str): One of 'poisson', 'balls-in-bins', 'fixed', and 'full' for a plain Gaussian mechanism.
        rate (float): Sampling rate; the number of bins for 'balls-in-bins'.
        multiplier (float): Effective noise multiplier under `relation`.
        relation (str): Neighbouring relation.
        spread (float): Diameter of the contributions over their radius, for replace-one: 2 for units of one
            example, 1 when `multiplier` already covers the worst placement.
        overflow (Overflow, optional): Cut batches.
    """

    kind: str
    rate: float
    multiplier: float
    relation: str
    spread: float = 1.0
    overflow: Optional[Overflow] = None


class Composition:
    """What a ledger amounts to: how often each distinct mechanism ran. Counts only, so order cannot matter.

    Args:
        relation (str): Neighbouring relation that everything is stated under.
        assume_poisson (bool): Treat shuffled partitions as if batches had been drawn independently.
        orders (tuple[float]): Rényi orders of `curves`, all above 1.
    """

    def __init__(self, relation, assume_poisson=False, orders=DEFAULT_ORDERS):
        self.relation = relation
        self.orders = orders
        self.assumed = False
        self._assume_poisson = assume_poisson
        self._exact = Counter()
        self._rounded = Counter()
        self._releases = Counter()
        self._epochs = {}

    def copy(self):
        """An independent copy, for looking ahead."""
        other = Composition(self.relation, self._assume_poisson, self.orders)
        other.assumed = self.assumed
        for name in ("_exact", "_rounded", "_releases", "_epochs"):
            setattr(other, name, getattr(self, name).copy())
        return other

    def extend(self, entries):
        """Compose with ledger entries."""
        for entry in entries:
            if isinstance(entry.event, ReleaseEvent):
                self._releases[entry.event] += entry.steps
            else:
                self._add_steps(entry)
        return self

    @property
    def costs(self):
        """Items (Cost, count), with multipliers rounded down once there are too many."""
        return (self._exact if len(self._exact) <= EXACT_LEVELS else self._rounded).items()

    @property
    def releases(self):
        """Items (ReleaseEvent, count)."""
        return self._releases.items()

    @property
    def rounded(self):
        """Whether multipliers were rounded down."""
        return len(self._exact) > EXACT_LEVELS

    @property
    def curves(self):
        """RDP at `orders` by two arguments, [2, orders].

        Both bound the same run. They differ only when Poisson batches were cut: the first leaves out a part of
        total variation `excess`, the second holds as it is.
        """
        total = np.zeros((2, len(self.orders)))
        if self._exact:
            known, (costs, counts) = _curves_at(self.orders), zip(*self.costs)
            total += np.tensordot(np.array(counts, float), np.array([known(cost) for cost in costs]), 1)
        return total + sum(count * event.rdp(self.orders) for event, count in self.releases)

    @property
    def excess(self):
        """Total variation left out of the first curve, summed over the steps."""
        return sum(count * cost.overflow.excess for cost, count in self._exact.items() if cost.overflow)

    @property
    def released(self):
        """Sums of the stated epsilon and delta of all releases."""
        return (sum(count * event.epsilon for event, count in self.releases),
                sum(count * event.delta for event, count in self.releases))

    @property
    def squared_mu(self):
        """Squared inverse multiplier of the whole run, if nothing were amplified."""
        return sum(count * inverse_square(cost.multiplier) for cost, count in self._exact.items())

    @property
    def displaced(self):
        """(squared mu, probability) of what cut batches add to `squared_mu`, and of any batch being cut at all.

        A record that displaces another one moves the sum by twice the bound (add-or-remove only).
        """
        cut = [(count, cost) for cost, count in self._exact.items() if cost.overflow and cost.overflow.distance > 1]
        added = sum(count * (cost.overflow.distance ** 2 - 1) * inverse_square(cost.multiplier) for count, cost in cut)
        return added, sum(count * cost.overflow.probability for count, cost in cut)

    @property
    def unprotected(self):
        """Some step had no noise, or some release no bound."""
        return math.isinf(self.squared_mu) or math.isinf(self.released[0])

    @property
    def participations_known(self):
        """Every record took part a known number of times, in Gaussian mechanisms and nothing else."""
        return not self._releases and all(cost.kind in (FULL, BALLS_IN_BINS) for cost in self._exact)

    @property
    def exact(self):
        """Plain Gaussian mechanisms only: their composition is known exactly."""
        return not self._releases and all(cost.kind == FULL for cost in self._exact)

    def _add_steps(self, entry):
        sampling = entry.event.sampling
        multiplier = restated_multiplier(entry.event, self.relation)
        if sampling.kind == SHUFFLE and self._assume_poisson:
            self.assumed = True
            spread = _spread(entry.event.unit, self.relation)
            self._count(Cost(POISSON, sampling.rate, multiplier, self.relation, spread), entry.steps)
        elif sampling.kind in PER_EPOCH:
            self._add_to_epoch((entry.epoch, sampling, entry.event.unit), multiplier)
        else:
            self._count(_step_cost(entry.event, multiplier, self.relation), entry.steps)

    def _add_to_epoch(self, key, multiplier):
        """An epoch costs once, whatever part of it ran, at the least noise that any of its steps had."""
        before = self._epochs.get(key, math.inf)
        if multiplier >= before:
            return
        _, sampling, unit = key
        if key in self._epochs:
            self._count(_epoch_cost(sampling, unit, before, self.relation), -sampling.passes_per_epoch)
        self._epochs[key] = multiplier
        self._count(_epoch_cost(sampling, unit, multiplier, self.relation), sampling.passes_per_epoch)

    def _count(self, cost, count):
        for counter, item in ((self._exact, cost), (self._rounded, rounded_down(cost))):
            counter[item] += count
            if counter[item] == 0:
                del counter[item]


def restated_multiplier(event, relation):
    """Effective multiplier of an event when the claim is made under `relation`.

    Replacing a record is removing one and adding another, so what moved by one bound moves by two. A
    sensitivity of 2 (micro-batches) already is the diameter of the ball of contributions.
    """
    if relation == REPLACE_ONE and event.sampling.relation != REPLACE_ONE and event.sensitivity == 1:
        return event.effective_multiplier / 2
    return event.effective_multiplier


def inverse_square(multiplier):
    """Squared mu of one Gaussian step; infinite without noise."""
    square = multiplier ** 2
    return 1 / square if square > 0 else math.inf


def rounded_down(cost, ratio=GRID_RATIO):
    """The cost with its multiplier on a logarithmic grid, never above the true one."""
    if cost.multiplier == 0:
        return cost
    level = math.floor(math.log(cost.multiplier) / math.log(ratio) + 1e-9)
    return cost._replace(multiplier=min(cost.multiplier, ratio ** level))


@lru_cache(maxsize=8)
def _curves_at(orders):
    """`curves_of` at fixed orders, remembered without hashing them each time."""
    return lru_cache(maxsize=8192)(lambda cost: curves_of(cost, orders))


def curves_of(cost, orders):
    """Both RDP curves of one amplified mechanism, [2, orders]."""
    if cost.multiplier == 0:
        return np.full((2, len(orders)), np.inf)
    if cost.kind == FULL:
        curve = rdp_gaussian(cost.multiplier, orders)
    elif cost.kind == BALLS_IN_BINS:
        curve = _allocation(cost, orders)
    elif cost.kind == FIXED_SIZE:
        curve = rdp_without_replacement(cost.rate, cost.multiplier, orders)
    else:
        curve = _poisson(cost, cost.rate, 1.0, orders)
    if cost.overflow is None or cost.overflow.probability == 0:
        return np.stack([curve, curve])
    return _truncated(cost, curve, np.asarray(orders))


def _allocation(cost, orders):
    if cost.relation == REPLACE_ONE:
        return rdp_replaced_allocation(int(cost.rate), cost.spread * cost.multiplier, orders)
    return rdp_random_allocation(int(cost.rate), cost.multiplier, orders)


def _poisson(cost, rate, distance, orders):
    multiplier = cost.multiplier / distance
    if cost.relation == REPLACE_ONE:
        return rdp_sampled_gaussian(rate, cost.spread * multiplier, orders, REPLACE_ONE)
    return rdp_sampled_gaussian(rate, multiplier, orders)


def _truncated(cost, ordinary, orders):
    """Curves of truncated Poisson sampling; see `truncation`."""
    overflow = cost.overflow
    if cost.relation == REPLACE_ONE:
        first = ordinary
    else:
        # towards the data set that holds the record nothing was left out: there the ratio is bounded instead
        reverse = math.log(overflow.probability) - (orders - 1) * np.log1p(-min(overflow.rate, 1 - 1e-16))
        first = np.logaddexp((orders - 1) * ordinary, reverse) / (orders - 1)
    worse = (orders - 1) * _poisson(cost, overflow.rate, overflow.distance, orders) + math.log(overflow.probability)
    common = (orders - 1) * ordinary + math.log1p(-min(overflow.probability, 1 - 1e-16))
    return np.stack([first, np.logaddexp(common, worse) / (orders - 1)])


def _step_cost(event, multiplier, relation):
    sampling = event.sampling
    if sampling.kind == FULL:
        return Cost(FULL, 1.0, multiplier, relation)
    if sampling.kind == FIXED_SIZE:
        return Cost(FIXED_SIZE, sampling.rate, multiplier, relation)
    overflow = None
    if sampling.max_batch_size is not None:
        shard = -(-sampling.num_examples // sampling.shards)  # a record lives in one shard and overflows there
        overflow = _overflow(shard, sampling.rate, sampling.max_batch_size, relation)
    return Cost(POISSON, sampling.rate, multiplier, relation, _spread(event.unit, relation), overflow)


def _spread(unit, relation):
    """How many times the radius of the ball of contributions fits into what the multiplier is relative to.

    Units of one example, with or without several views, lie opposite each other at worst.
    """
    return 2.0 if relation == REPLACE_ONE and unit.startswith("example") else 1.0


_overflow = lru_cache(maxsize=256)(overflow_of)


def _epoch_cost(sampling, unit, multiplier, relation):
    if sampling.kind == SHUFFLE:
        return Cost(FULL, 1.0, multiplier, relation)
    if sampling.max_batch_size is not None and relation == ADD_OR_REMOVE:
        # a record may displace another one of its bin; no amplification is proven for that
        return Cost(FULL, 1.0, multiplier / 2, relation)
    return Cost(BALLS_IN_BINS, float(sampling.steps_per_epoch), multiplier, relation, _spread(unit, relation))


class Traits(NamedTuple):
    """What a statement has to say about an entry besides its cost."""

    kind: str
    relation: str
    seeded: bool


def traits_of(entries):
    """Set of `Traits`. A shuffled partition changes as a whole when a record is missing: zero-out at best."""
    return {_traits(entry.event.sampling.kind, entry.event.sampling.relation, entry.event.noise_source)
            for entry in entries}


def _traits(kind, relation, noise_source):
    proven = ZERO_OUT if kind == SHUFFLE and relation == ADD_OR_REMOVE else relation
    return Traits(kind, proven, noise_source == "seeded")


def common_relation(traits, relation=None):
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
