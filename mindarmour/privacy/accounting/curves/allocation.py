"""RDP of random allocation (balls in bins): each record draws the one step of the epoch that it joins.

With Y_1 .. Y_t independent log-normal variables of mean 1 (the likelihood ratios of the t steps), a data set
with the record against one without has the likelihood ratio S = (Y_1 + .. + Y_t) / t.

* Removal needs E[S^order], for whole orders a coefficient of the t-th power of a polynomial.
* Addition needs E[S^(1 - order)], a one-dimensional integral over the Laplace transform of Y.

Between whole orders the logarithm of a moment is convex in the order, so a straight line bounds it.

References:
    Feldman, Shenfeld 2025, "Privacy amplification by random allocation".
    Chua et al. 2025, "Balls-and-bins sampling for DP-SGD".
    Dong et al. 2025, "Rényi differential privacy of random allocation".
"""
from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import gammaln

from mindarmour.privacy.accounting.curves.rdp import DEFAULT_ORDERS, check_orders, rdp_gaussian
from mindarmour.utils import _validate

_LARGEST_ORDER = 64
# with much noise the best order is large and its moments are still small
_LARGEST_ORDER_NOISY = 256
_NOISY = 8.0
# rounding errors of logarithms of moments stay far below this; added, so that the bound remains a bound
_ROUNDING = 1e-11


def rdp_replaced_allocation(bins: int, noise_multiplier: float, orders: ArrayLike = DEFAULT_ORDERS) -> np.ndarray:
    """RDP of one epoch of random allocation under replace-one: removing one record, then adding the other.

    Args:
        bins (int): Steps of the epoch, at least 1.
        noise_multiplier (float): Standard deviation divided by the bound on *one* record's contribution.
        orders (sequence of float): Orders above 1.

    Returns:
        numpy.ndarray, never above one Gaussian mechanism with twice the sensitivity.

    References:
        Mironov 2017, "Rényi differential privacy", proposition 11 (weak triangle inequality, with p = q = 2).
    """
    orders = check_orders(orders)
    plain = rdp_gaussian(noise_multiplier / 2, orders)
    removal = rdp_random_allocation(bins, noise_multiplier, 2 * orders, "remove")
    addition = rdp_random_allocation(bins, noise_multiplier, 2 * orders - 1, "add")
    return np.minimum((orders - 0.5) / (orders - 1) * removal + addition, plain)


def rdp_random_allocation(bins: int, noise_multiplier: float, orders: ArrayLike = DEFAULT_ORDERS,
                          direction: str = "both") -> np.ndarray:
    """RDP of one epoch in which every record joins one of `bins` steps, drawn uniformly and independently.

    Args:
        bins (int): Steps of the epoch, at least 1.
        noise_multiplier (float): Standard deviation divided by sensitivity, 0 for no noise.
        orders (sequence of float): Orders above 1.
        direction (str): 'remove', 'add' or 'both', the larger of them and never more than one unamplified
            Gaussian mechanism.

    Returns:
        numpy.ndarray, one value per order; infinite in a single direction above the largest order computed.

    Guarantee: add-or-remove and zero-out, since records draw their steps independently of each other.
    """
    bins = _validate.integer("bins", bins, low=1)
    multiplier = _validate.real("noise_multiplier", noise_multiplier, low=0, closed="low")
    orders = check_orders(orders)
    _validate.choice("direction", direction, ("remove", "add", "both"))
    plain = rdp_gaussian(multiplier, orders)
    if bins == 1 or multiplier < 0.01:
        return plain
    largest = _LARGEST_ORDER_NOISY if multiplier >= _NOISY else _LARGEST_ORDER
    log_moments = _log_moments(bins, multiplier, largest, direction)
    curve = _between_whole_orders(log_moments + _ROUNDING, orders)
    return np.minimum(curve, plain) if direction == "both" else curve


def _between_whole_orders(log_moments, orders):
    """RDP at `orders` from logarithms of moments of the orders 2, 3, .., infinite beyond the last."""
    whole = np.arange(1.0, log_moments.size + 2)
    line = np.interp(orders, whole, np.concatenate([[0.0], log_moments]))
    return np.where(orders <= whole[-1], line / (orders - 1), np.inf)


def _log_moments(bins, multiplier, largest, direction):
    """log E of the ratio's power for the orders 2 .. largest."""
    orders = np.arange(2, largest + 1)
    removal = _log_moments_of_removal(bins, multiplier, largest)
    if direction == "remove":
        return removal
    addition = _bound_of_addition(bins, multiplier, orders)
    if direction == "both":
        open_orders = orders[addition > removal]
    else:
        open_orders = orders
    if open_orders.size:
        index = open_orders - 2
        addition[index] = np.minimum(addition[index], _log_moments_of_addition(bins, multiplier, open_orders))
    return addition if direction == "add" else np.maximum(removal, addition)


def _log_moments_of_removal(bins, multiplier, largest):
    """log of order! / bins^order times the coefficient of x^order in f(x)^bins, by repeated squaring.

    f(x) = sum over k of x^k exp((k^2 - k) / (2 multiplier^2)) / k!.
    """
    k = np.arange(largest + 1.0)
    power = (k * k - k) / (2 * multiplier ** 2) - gammaln(k + 1)
    result = None
    remaining = bins
    while remaining:
        if remaining & 1:
            result = power if result is None else _log_product(result, power)
        remaining >>= 1
        if remaining:
            power = _log_product(power, power)
    logs = result + gammaln(k + 1) - k * math.log(bins)
    return np.maximum(logs[2:], 0.0)


@lru_cache(maxsize=2)
def _shift(size):
    """Indices i - j of a convolution, and where they are negative."""
    index = np.arange(size)[:, None] - np.arange(size)[None, :]
    return np.maximum(index, 0), np.where(index < 0, -np.inf, 0.0)


def _log_product(first, second):
    """Logarithms of the coefficients of a product of polynomials, cut at their length."""
    index, mask = _shift(first.size)
    terms = second[index] + first[None, :] + mask
    peak = terms.max(axis=1)
    return peak + np.log(np.exp(terms - peak[:, None]).sum(axis=1))


def _bound_of_addition(bins, multiplier, orders):
    """Closed bound of log E[S^(1 - order)]: the arithmetic mean is at least the geometric one."""
    power = orders - 1.0
    return power * (power / bins + 1) / (2 * multiplier ** 2)


def _log_moments_of_addition(bins, multiplier, orders):
    """log E[S^-b], b = order - 1 >= 1, from S^-b = integral of u^(b-1) exp(-u S) du / Gamma(b)."""
    spread = 1 / multiplier
    power = orders - 1.0
    low = -45.0 / power.min() if power.min() > 1 else -45.0
    high = math.log(power.max()) + spread * (spread + 12) + 6
    step = min(0.1, 0.35 / math.sqrt(power.max()))
    log_u = np.arange(low, high + step, step)
    laplace = _log_laplace(log_u - math.log(bins), spread, power.max())
    terms = power[:, None] * log_u[None, :] + bins * laplace[None, :]
    peak = terms.max(axis=1)
    total = peak + np.log(np.exp(np.maximum(terms - peak[:, None], -700)).sum(axis=1) * step)
    # where the integrand has not died away at the upper end, say nothing: the closed bound stands
    return np.where(terms[:, -1] - peak < -36, np.maximum(total - gammaln(power), 0.0), np.inf)


def _log_laplace(log_v, spread, power):
    """log E[exp(-v Y)] for log-normal Y of mean 1; exact to rounding also where v is tiny."""
    low = -10.0 - min(power * spread, 40.0)
    nodes = np.linspace(low, 10.0, int((10.0 - low) / 0.1 * max(1.0, spread)) + 1)
    weights = np.exp(-nodes ** 2 / 2) / math.sqrt(2 * math.pi) * (nodes[1] - nodes[0])
    log_y = spread * nodes - spread ** 2 / 2
    chunks = np.array_split(log_v, max(1, log_v.size * nodes.size // 400_000))
    return np.concatenate([_log_mean(np.exp(np.minimum(chunk[:, None] + log_y[None, :], 700.0)), weights)
                           for chunk in chunks])


def _log_mean(rates, weights):
    """log of the weighted mean of exp(-rates), by way of expm1 where it is near 0."""
    below_one = np.expm1(-rates) @ weights
    direct = np.exp(-rates) @ weights
    return np.where(below_one > -0.5, np.log1p(np.maximum(below_one, -0.6)), np.log(np.maximum(direct, 1e-300)))
