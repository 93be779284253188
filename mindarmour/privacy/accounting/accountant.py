"""What a ledger has spent: one number with everything that it depends on."""
from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Optional

import numpy as np

from mindarmour.privacy.accounting import pld
from mindarmour.privacy.accounting.composition import (
    EXACT_LEVELS,
    Composition,
    common_relation,
    traits_of,
)
from mindarmour.privacy.accounting.conversion import delta_of, epsilon_of
from mindarmour.privacy.accounting.curves import tradeoff
from mindarmour.privacy.accounting.curves.gaussian import delta_of_gaussian, epsilon_of_gaussian
from mindarmour.privacy.accounting.curves.rdp import CONVERSIONS, DEFAULT_ORDERS, check_delta, check_orders
from mindarmour.privacy.accounting.curves.relations import group_curve, group_epsilon
from mindarmour.privacy.accounting.events import FIXED_SIZE, POISSON, Randomness, Relation
from mindarmour.privacy.accounting.ledger import LedgerEntry
from mindarmour.utils import _validate

GUARANTEE = "guarantee"
ASSUMPTION = "assumption"
ESTIMATE = "estimate"
LOWER_BOUND = "lower-bound"
KINDS = (GUARANTEE, ASSUMPTION, ESTIMATE, LOWER_BOUND)
ACCOUNTANTS = ("rdp", "pld", "zcdp")
_AS_A_GROUP = "bounded as a group of examples"


@dataclass(frozen=True)
class PrivacySpent:
    """A statement about privacy that can stand alone.

    Args:
        epsilon (float): Possibly infinite.
        delta (float): The probability with which epsilon may fail.
        accountant (str): Which argument gave the number: 'rdp', 'zcdp' or 'pld'.
        sampling (str): How batches were drawn; several kinds are joined by '+'.
        relation (str): Neighbouring relation.
        kind (str): 'guarantee', 'assumption' (would hold if the sampling had been what the note says),
            'estimate' (may be too small) or 'lower-bound' (the true epsilon is at least this).
        note (str): What else the reader must know; '' for nothing.
    """

    epsilon: float
    delta: float
    accountant: str
    sampling: str
    relation: str
    kind: str = GUARANTEE
    note: str = ""


class Accountant:
    """Evaluates a growing ledger cheaply: what does not change from call to call is composed once.

    Args:
        delta (float): In (0, 1).
        accountant (str): 'rdp', 'zcdp' or 'pld'.
        relation (str, optional): Neighbouring relation of the statement; None takes the one that everything
            recorded supports.
        assume (str, optional): 'poisson' treats a shuffled partition as if its batches had been drawn
            independently. The statement is then an assumption, not a guarantee.
        conversion (str): 'improved' or 'classic', see `epsilon_from_rdp` and `epsilon_from_zcdp`.
        group_size (int): How many records neighbours may differ in.
        unit (str): 'example' for what the steps drew: one example, or one user where all steps drew users. 'user' for
            a statement about users who own several examples, of steps that drew users or single examples by Poisson
            sampling.
        examples_per_user (int, optional): With unit 'user': how many examples the data set holds of any user at most.
        orders (sequence, optional): Rényi orders above 1; None takes a grid from 1.02 to 1024.

    Guarantee: an upper bound for everything that the entries describe, under adaptive composition, as long as
        noise multipliers were not chosen by looking at the data other than through what was released.

    Examples:
        >>> from mindarmour.privacy.accounting import Ledger, Sampling, StepEvent
        >>> from mindarmour.privacy.accounting.accountant import Accountant
        >>> ledger = Ledger()
        >>> ledger.record(StepEvent(Sampling("poisson", 60000, 256, "add-or-remove"), 1.1), steps=14062)
        >>> round(Accountant(delta=1e-5).epsilon_after(ledger.entries), 3)
        2.597
    """

    def __init__(self, delta: float = 1e-5, accountant: str = "rdp", relation: Optional[str] = None,
                 assume: Optional[str] = None, conversion: str = "improved", group_size: int = 1,
                 orders: Optional[Sequence[float]] = None, unit: str = "example",
                 examples_per_user: Optional[int] = None) -> None:
        self._delta = check_delta(delta)
        self._accountant = _validate.choice("accountant", accountant, ACCOUNTANTS)
        self._relation = None if relation is None else Relation.checked("relation", relation)
        self._assume = None if assume is None else _validate.choice("assume", assume, (POISSON,))
        self._conversion = _validate.choice("conversion", conversion, CONVERSIONS)
        self._group_size = _validate.integer("group_size", group_size, low=1)
        self._orders = DEFAULT_ORDERS if orders is None else tuple(check_orders(orders).tolist())
        self._examples_per_user = _examples_per_user(unit, examples_per_user, self._group_size)
        self._prefix, self._prefix_traits, self._settled = (), set(), None
        self._stronger = {}

    def epsilon_after(self, entries: Iterable[LedgerEntry]) -> float:
        """Epsilon of these entries, a tuple as `Ledger.entries` or `Ledger.preview` returns it."""
        return self.spent(entries).epsilon

    def spent(self, entries: Iterable[LedgerEntry]) -> PrivacySpent:
        """`PrivacySpent` of these entries."""
        own, *others = self._over_relations(entries, Accountant._spent)
        return replace(own, epsilon=max(spent.epsilon for spent in (own, *others)))

    def _spent(self, entries):
        total, traits = self._compose(tuple(entries))
        note, grouped = self._who(traits), self._by_groups(total, entries, lambda account: account._spent(entries))
        if self._group_size > 1:
            epsilon = self._group_epsilon(total)
        else:
            epsilon = epsilon_of(total, self._delta, self._accountant, self._conversion)
            if self._accountant == "pld":
                epsilon, by_pld = _epsilon_by_pld(total, self._delta, epsilon)
                note = _joined(note, by_pld)
            if grouped is not None and grouped.epsilon < epsilon:
                epsilon, note = grouped.epsilon, _joined(self._who(traits), _AS_A_GROUP)
        return _statement(epsilon, self._delta, self._accountant, total, traits, note)

    def delta_at(self, entries: Iterable[LedgerEntry], epsilon: float) -> PrivacySpent:
        """`PrivacySpent` of these entries with the delta that belongs to a given epsilon."""
        own, *others = self._over_relations(entries, Accountant._delta_at, epsilon)
        return replace(own, delta=max(spent.delta for spent in (own, *others)))

    def _delta_at(self, entries, epsilon):
        total, traits = self._compose(tuple(entries))
        note = self._who(traits)
        if self._group_size > 1:
            delta = float(self._curve(total, entries)(np.array([epsilon]))[0])
            return _statement(epsilon, delta, self._accountant, total, traits, note)
        grouped = self._by_groups(total, entries, lambda account: account._delta_at(entries, epsilon))
        delta = delta_of(total, epsilon, self._accountant, self._conversion)
        if self._accountant == "pld":
            delta, by_pld = _delta_by_pld(total, epsilon, delta)
            note = _joined(note, by_pld)
        if grouped is not None and grouped.delta < delta:
            delta, note = grouped.delta, _joined(self._who(traits), _AS_A_GROUP)
        return _statement(epsilon, delta, self._accountant, total, traits, note)

    def _by_groups(self, total, entries, evaluate):
        """A user's examples are a group too: the better bound where cut batches are not rare; None elsewhere."""
        if total.examples_per_user == 1 or not total.excess or any(trait.of_users for trait in traits_of(entries)):
            return None
        return evaluate(Accountant(self._delta, self._accountant, total.relation, self._assume, self._conversion,
                                   self._examples_per_user or 1, self._orders))

    def _unit(self):
        return ("example", None) if self._examples_per_user is None else ("user", self._examples_per_user)

    def _who(self, traits):
        """Whom a statement is about, where that is not one example."""
        drawn = {trait.of_users for trait in traits}
        if self._group_size > 1:
            return f"for groups of {self._group_size} {'users' if drawn == {True} else 'records'}"
        if drawn == {True}:
            return "for users with everything they own"
        if self._examples_per_user is not None:
            return f"for users with up to {self._examples_per_user} examples"
        return "for one example: steps that drew users count with twice their bound" if True in drawn else ""

    def _group_epsilon(self, total):
        if total.exact and self._accountant != "zcdp":
            return epsilon_of_gaussian(self._group_size * math.sqrt(total.squared_mu), self._delta)
        curve = self._curve_of_one(total)
        return group_epsilon(lambda epsilon: float(curve(np.array([epsilon]))[0]), self._delta, self._group_size)

    def advantage(self, entries: Iterable[LedgerEntry]) -> float:
        """Largest membership advantage of any attack against these entries."""
        return max(self._over_relations(entries, Accountant._advantage))

    def _advantage(self, entries):
        total, _ = self._compose(tuple(entries))
        if total.exact:
            return tradeoff.advantage_of_gaussian(self._group_size * math.sqrt(total.squared_mu))
        return tradeoff.advantage_from_curve(self._curve(total, entries))

    def true_positive_rate(self, entries: Iterable[LedgerEntry], false_positive_rate: float) -> float:
        """Largest true positive rate of any attack at `false_positive_rate`."""
        return max(self._over_relations(entries, Accountant._true_positive_rate, false_positive_rate))

    def _true_positive_rate(self, entries, false_positive_rate):
        total, _ = self._compose(tuple(entries))
        if total.exact:
            mu = self._group_size * math.sqrt(total.squared_mu)
            return tradeoff.true_positive_rate_of_gaussian(mu, false_positive_rate)
        return tradeoff.true_positive_rate_from_curve(self._curve(total, entries), false_positive_rate)

    def bayes_risk(self, entries: Iterable[LedgerEntry], prior: float) -> float:
        """Least probability of a wrong guess about one record's membership.

        Args:
            prior (float): Probability in (0, 1) with which the attacker holds the record for a member beforehand.

        Returns:
            float. min(prior, 1 - prior), the risk of guessing, times 1 - delta at epsilon |ln(prior / (1 - prior))|.
        """
        prior = _validate.real("prior", prior, low=0, high=1)
        certainty = abs(math.log(prior) - math.log1p(-prior))
        return min(prior, 1 - prior) * (1 - min(1.0, self.delta_at(entries, certainty).delta))

    def delta_curve(self, entries: Iterable[LedgerEntry]) -> Callable[[np.ndarray], np.ndarray]:
        """Delta of these entries as a function of an array of epsilons: it bounds every attack, see `tradeoff`."""
        curves = self._over_relations(entries, Accountant._delta_curve)
        return lambda epsilons: np.max([curve(epsilons) for curve in curves], axis=0)

    def _delta_curve(self, entries):
        total, _ = self._compose(tuple(entries))
        return self._curve(total, entries)

    def _over_relations(self, entries, evaluate, *arguments):
        """Figures under the relation asked for, first, and under all stronger ones that the entries support.

        The bounds of two relations come from different arguments. Taking the largest figure keeps a weaker statement
        from costing less than a stronger one.
        """
        entries, stronger = tuple(entries), ()
        if self._relation is not None:
            recorded = common_relation(traits_of(entries))
            order: list[str] = list(Relation)
            stronger = order[order.index(recorded):order.index(self._relation)]
        own = evaluate(self, entries, *arguments)
        return [own, *(evaluate(self._judge_under(relation), entries, *arguments) for relation in stronger)]

    def _judge_under(self, relation):
        if relation not in self._stronger:
            self._stronger[relation] = Accountant(self._delta, self._accountant, relation, self._assume,
                                                  self._conversion, self._group_size, self._orders,
                                                  *self._unit())
        return self._stronger[relation]

    def _curve(self, total, entries):
        """Delta as a function of an array of epsilons, for whom the statement is about."""
        if self._group_size > 1 and total.exact and self._accountant != "zcdp":
            mu = self._group_size * math.sqrt(total.squared_mu)
            return np.vectorize(lambda epsilon: delta_of_gaussian(mu, epsilon))
        curve = self._curve_of_one(total)
        if self._group_size > 1:
            return group_curve(curve, self._group_size)
        grouped = self._by_groups(total, entries, lambda account: account._delta_curve(entries))
        return curve if grouped is None else lambda epsilons: np.minimum(curve(epsilons), grouped(epsilons))

    def _curve_of_one(self, total):
        something = bool(total.costs or total.releases)
        if self._accountant == "pld" and something and not pld.refusal(total) and not total.unprotected:
            scale = epsilon_of(total, 1e-3)
            curve = None if math.isinf(scale) else pld.tightest_curve(total, scale)
            if curve is not None and self._examples_per_user is None:
                return curve
            if curve is not None:
                return lambda epsilons: np.minimum(1.0, curve(epsilons) + _set_aside(total, epsilons))
        return np.vectorize(lambda epsilon: delta_of(total, epsilon, self._accountant, self._conversion))

    def _compose(self, entries):
        """Composition and traits; all but the last entry, which may still grow, is remembered between calls."""
        closed, last, known = entries[:-1], entries[-1:], len(self._prefix)
        if closed[:known] != self._prefix:
            self._settled, self._prefix_traits, known = None, set(), 0
        self._prefix_traits |= traits_of(closed[known:])
        traits = self._prefix_traits | traits_of(last)
        relation = common_relation(traits, self._relation)
        # where some steps drew users and some examples, an example is what all of them have a claim for
        of_examples = self._examples_per_user is None and len({trait.of_users for trait in traits}) > 1
        if self._settled is None or (relation, of_examples) != (self._settled.relation, self._settled.of_examples):
            self._settled, known = Composition(relation, self._assume is not None, self._orders,
                                               self._examples_per_user or 1, of_examples), 0
        self._settled.extend(closed[known:])
        self._prefix = closed
        return self._settled.copy().extend(last), traits


def privacy_spent(entries: Iterable[LedgerEntry], delta: float, accountant: str = "rdp",
                  relation: Optional[str] = None, assume: Optional[str] = None, conversion: str = "improved",
                  group_size: int = 1, unit: str = "example",
                  examples_per_user: Optional[int] = None) -> PrivacySpent:
    """Privacy that ledger entries have spent, at `delta`. Arguments as for `Accountant`.

    Args:
        entries (tuple[LedgerEntry]): As `Ledger.entries`.

    Returns:
        PrivacySpent.

    Raises:
        ValueError: If `relation` does not follow from what was recorded.
    """
    return Accountant(delta, accountant, relation, assume, conversion, group_size, None, unit,
                      examples_per_user).spent(entries)


def privacy_spent_delta(entries: Iterable[LedgerEntry], epsilon: float, accountant: str = "rdp",
                        relation: Optional[str] = None, assume: Optional[str] = None,
                        conversion: str = "improved") -> PrivacySpent:
    """Like `privacy_spent`, for a given epsilon: the statement holds the smallest delta."""
    epsilon = _validate.real("epsilon", epsilon, low=0, closed="low")
    return Accountant(0.5, accountant, relation, assume, conversion).delta_at(entries, epsilon)


def _epsilon_by_pld(total, delta, bound):
    """(epsilon, note): the smaller of the PLD's answer and another accountant's `bound`."""
    reason = pld.refusal(total)
    # an infinite bound says that the releases state more delta than is asked for
    if reason or total.exact or total.unprotected or bound == 0 or math.isinf(bound):
        return bound, reason
    if total.examples_per_user > 1:
        # the answer will be at most the bound, so what was left out costs at most this much of delta
        delta -= float(_set_aside(total, bound))
        if delta <= 0:
            return bound, "the PLD cannot pay for cut batches, so this is the RDP bound"
    return _with_grid(*pld.tightest_epsilon(total, delta, bound))


def _delta_by_pld(total, epsilon, bound):
    reason = pld.refusal(total)
    if reason or total.exact or total.unprotected or bound == 0:
        return bound, reason
    scale = epsilon_of(total, min(max(bound, 1e-12), 0.5))
    if math.isinf(scale):
        return bound, ""
    aside = float(_set_aside(total, epsilon)) if total.examples_per_user > 1 else 0.0
    delta, note = _with_grid(*pld.tightest_delta(total, epsilon, bound, scale))
    return min(bound, delta + aside), note


def _set_aside(total, epsilon):
    """Delta that cut batches add at `epsilon` where the distribution does not hold them."""
    return total.excess * (1 + np.exp(np.minimum(epsilon, 700.0)))


def _examples_per_user(unit, examples, group_size):
    """Examples of a user, or None for statements about examples."""
    if _validate.choice("unit", unit, ("example", "user")) == "example":
        if examples is not None:
            raise ValueError(f"examples_per_user must be None for unit 'example', but got {examples!r}. "
                             f"Say unit='user'.")
        return None
    if group_size > 1:
        raise ValueError(f"group_size must be 1 for unit 'user', but got {group_size}: "
                         f"a user's examples are the group.")
    return _validate.integer("examples_per_user", examples, low=1, high=10_000)


def _with_grid(value, grid):
    return value, "the PLD library failed, so this is the RDP bound" if math.isnan(grid) else f"value grid {grid:.2g}"


def _joined(*notes):
    return "; ".join(filter(None, notes))


def _statement(epsilon, delta, accountant, total, traits, note):
    kinds = {trait.kind for trait in traits}
    sources = {trait.noise_source for trait in traits}
    notes = [note] + [text for holds, text in (
        (total.assumed, "assumes Poisson sampling, but the batches were a shuffled partition"),
        (total.unamplified, "groups did not take turns: a pass was broken off, so nothing is amplified"),
        (total.rounded, f"more than {EXACT_LEVELS} noise levels, rounded down by at most 0.2%"),
        (Randomness.SEEDED in sources, "seeded noise: no protection against whoever knows the seed"),
        (Randomness.DEVICE in sources, "noise of the device's own generator, which is not cryptographic"),
        (accountant == "zcdp" and kinds & {POISSON, FIXED_SIZE}, "zCDP is not amplified by sampling"),
    ) if holds] + sorted({trait.note for trait in traits if trait.note})
    return PrivacySpent(float(epsilon), float(delta), accountant, "+".join(sorted(kinds)) or "none", total.relation,
                        ASSUMPTION if total.assumed else GUARANTEE, _joined(*notes))
