"""From a composition to epsilon or delta, by RDP or zCDP."""
from __future__ import annotations

import math

from mindarmour.privacy.accounting.composition import Composition
from mindarmour.privacy.accounting.curves.gaussian import delta_of_gaussian, epsilon_of_gaussian
from mindarmour.privacy.accounting.curves.rdp import delta_from_rdp, epsilon_from_rdp
from mindarmour.privacy.accounting.curves.relations import smallest_epsilon
from mindarmour.privacy.accounting.curves.zcdp import delta_from_zcdp, epsilon_from_zcdp


def epsilon_of(total: Composition, delta: float, accountant: str = "rdp", conversion: str = "improved") -> float:
    """Epsilon of a `Composition`, by RDP or zCDP."""
    if accountant == "zcdp":
        stated_epsilon, stated_delta = total.released
        return stated_epsilon + min(
            epsilon_from_zcdp(rho, delta - stated_delta - spare, conversion) if delta > stated_delta + spare
            else math.inf for rho, spare in _rhos(total))
    bounds = [smallest_epsilon(lambda epsilon: delta_of(total, epsilon, "rdp", conversion), delta)] \
        if total.two_sided else _rdp_epsilons(total, delta, conversion)
    if conversion == "improved" and total.unamplified_known:
        bounds.append(epsilon_of_gaussian(math.sqrt(total.squared_mu), delta))
    return min(bounds)


def delta_of(total: Composition, epsilon: float, accountant: str = "rdp", conversion: str = "improved") -> float:
    """Delta of a `Composition` at `epsilon`, by RDP or zCDP."""
    stated_epsilon, stated_delta = total.released
    if accountant == "zcdp":
        left = epsilon - stated_epsilon
        return min(1.0, stated_delta + min(delta_from_zcdp(rho, left, conversion) + spare
                                           for rho, spare in _rhos(total))) if left >= 0 else 1.0
    first, second = (delta_from_rdp(curve, total.orders, epsilon, conversion) for curve in total.curves)
    # where the left-out part may stand on either side, exp(epsilon) multiplies the other one
    factor = 1 + math.exp(min(epsilon, 700.0)) if total.two_sided else 1.0
    bounds = [first + factor * total.excess if total.excess else first, second]
    if conversion == "improved" and total.unamplified_known:
        bounds.append(delta_of_gaussian(math.sqrt(total.squared_mu), epsilon))
    return min(1.0, stated_delta + min(bounds))


def _rhos(total):
    """(rho, delta set aside) by two arguments: no batch is ever cut, or all of them may be."""
    added, probability = total.displaced
    return (total.squared_mu / 2, probability), ((total.squared_mu + added) / 2, 0.0)


def _rdp_epsilons(total, delta, conversion):
    stated_epsilon, stated_delta = total.released
    curves, left = total.curves, delta - stated_delta
    spare = (left - total.excess, left)
    bounds = [epsilon_from_rdp(curve, total.orders, d, conversion) if d > 0 else math.inf
              for curve, d in zip(curves, spare)]
    if not total.costs and left >= 0:
        bounds.append(stated_epsilon)  # basic composition
    return bounds
