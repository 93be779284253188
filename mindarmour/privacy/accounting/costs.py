"""What one mechanism costs: its facts, and its Renyi curves."""
from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple, Optional

import numpy as np

from mindarmour.privacy.accounting.curves.allocation import rdp_random_allocation, rdp_replaced_allocation
from mindarmour.privacy.accounting.curves.mixture import rdp_binomial_mixture
from mindarmour.privacy.accounting.curves.rdp import rdp_gaussian, rdp_sampled_gaussian, rdp_without_replacement
from mindarmour.privacy.accounting.curves.truncation import Overflow
from mindarmour.privacy.accounting.events import BALLS_IN_BINS, FIXED_SIZE, FULL, REPLACE_ONE

# Multipliers are rounded down onto a grid of this ratio once there are too many; that costs 0.3% of epsilon.
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
        group (int): Records of one user, each of which may take part.
    """

    kind: str
    rate: float
    multiplier: float
    relation: str
    spread: float = 1.0
    overflow: Optional[Overflow] = None
    group: int = 1

    @property
    def squared_mu(self) -> float:
        """Squared inverse multiplier if the record, or all of the user's, took part for certain."""
        return inverse_square(self.multiplier / self.group)


def inverse_square(multiplier: float) -> float:
    """Squared mu of one Gaussian step; infinite without noise."""
    square = multiplier * multiplier
    return 1 / square if square > 0 else math.inf


def rounded_down(cost: Cost, ratio: float = GRID_RATIO) -> Cost:
    """The cost with its multiplier on a logarithmic grid, never above the true one."""
    if cost.multiplier == 0:
        return cost
    level = math.floor(math.log(cost.multiplier) / math.log(ratio) + 1e-9)
    return cost._replace(multiplier=min(cost.multiplier, ratio ** level))


@lru_cache(maxsize=8)
def curves_at(orders: tuple[float, ...]) -> Callable[[Cost], np.ndarray]:
    """`curves_of` at fixed orders, remembered without hashing them each time."""
    return lru_cache(maxsize=8192)(lambda cost: curves_of(cost, orders))


def curves_of(cost: Cost, orders: Sequence[float]) -> np.ndarray:
    """Both RDP curves of one amplified mechanism, [2, orders]."""
    if cost.multiplier == 0:
        return np.full((2, len(orders)), np.inf)
    if cost.group > 1:
        return _of_user(cost, orders)
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


def _of_user(cost, orders):
    """Without batches that are cut, and with them as if nothing were amplified."""
    curve = rdp_binomial_mixture(cost.rate, cost.multiplier, cost.group, orders)
    if cost.overflow is None:
        return np.stack([curve, curve])
    return np.stack([curve, rdp_gaussian(cost.multiplier / (cost.overflow.distance * cost.group), orders)])


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
