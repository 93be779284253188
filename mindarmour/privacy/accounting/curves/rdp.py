"""Rényi differential privacy of the sampled Gaussian mechanism, and its conversion into epsilon and delta.

References:
    Mironov 2017, "Rényi differential privacy", proposition 3 (the classic conversion).
    Mironov, Talwar, Zhang 2019, "Rényi differential privacy of the sampled Gaussian mechanism", section 3.3.
    Canonne, Kamath, Steinke 2020, "The discrete Gaussian for differential privacy", proposition 12.
    Zhu, Dong, Wang 2022, "Optimal accounting of differential privacy via characteristic function", theorem 11.
"""
from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import gammaln

from mindarmour.privacy.accounting.curves import quadrature
from mindarmour.privacy.accounting.events import ADD_OR_REMOVE, RELATIONS, REPLACE_ONE
from mindarmour.utils import _validate

CONVERSIONS = ("improved", "classic")
# Below this multiplier amplification changes nothing that matters, and the integrals need millions of nodes.
_NO_AMPLIFICATION_BELOW = 0.005


def _default_orders():
    fractional = [round(1 + 0.02 * 1.09 ** k, 4) for k in range(22)] + [1 + k / 10 for k in range(1, 100)]
    whole = list(range(2, 65)) + [round(64 * 2 ** (k / 4)) for k in range(1, 17)]
    return tuple(sorted({float(order) for order in fractional + whole}))


DEFAULT_ORDERS = _default_orders()


def rdp_gaussian(noise_multiplier: float, orders: ArrayLike = DEFAULT_ORDERS) -> np.ndarray:
    """RDP of one Gaussian mechanism: order / (2 multiplier^2).

    Args:
        noise_multiplier (float): Standard deviation divided by sensitivity; 0 means no noise.
        orders (sequence of float): Orders above 1.

    Returns:
        numpy.ndarray, one value per order.
    """
    orders = check_orders(orders)
    multiplier = _validate.real("noise_multiplier", noise_multiplier, low=0, closed="low")
    return _gaussian(multiplier, orders)


def rdp_sampled_gaussian(rate: float, noise_multiplier: float, orders: ArrayLike = DEFAULT_ORDERS,
                         relation: str = ADD_OR_REMOVE) -> np.ndarray:
    """RDP of one step that includes every record independently with probability `rate`.

    Args:
        rate (float): Sampling probability in [0, 1].
        noise_multiplier (float): Standard deviation of the noise divided by the bound on one record's
            contribution; 0 means no noise.
        orders (sequence of float): Orders above 1, whole or fractional.
        relation (str): 'add-or-remove' and 'zero-out' cost the same here; 'replace-one' moves the contribution
            from one end of the ball to the other.

    Returns:
        numpy.ndarray, one value per order.

    References:
        Mironov, Talwar, Zhang 2019, equation 30 for whole orders, theorem 4 (the direction of removal is the
        larger one).

    Examples:
        >>> from mindarmour.privacy.accounting.curves.rdp import rdp_sampled_gaussian
        >>> rdp_sampled_gaussian(1.0, 2.0, orders=[2, 8]).tolist()
        [0.25, 1.0]
    """
    orders = check_orders(orders)
    rate = _validate.real("rate", rate, low=0, high=1, closed="both")
    multiplier = _validate.real("noise_multiplier", noise_multiplier, low=0, closed="low")
    _validate.choice("relation", relation, RELATIONS)
    if relation == REPLACE_ONE:
        return _replaced(rate, multiplier, orders)
    return _sampled(rate, multiplier, orders)


def rdp_without_replacement(rate: float, noise_multiplier: float,
                            orders: ArrayLike = DEFAULT_ORDERS) -> np.ndarray:
    """RDP of one step on a fixed-size batch drawn without replacement, under replace-one.

    Args:
        rate (float): Batch size divided by number of records, in [0, 1].
        noise_multiplier (float): Standard deviation divided by the *sensitivity under replace-one*, that is by
            twice the clipping bound.
        orders (sequence of float): Orders above 1.

    Returns:
        numpy.ndarray, one value per order.

    References:
        Zhu, Dong, Wang 2022, theorem 11 and proposition 30: the dominating profile. Balle, Barthe, Gaboardi
        2018, theorem 2: advanced joint convexity.
    """
    orders = check_orders(orders)
    rate = _validate.real("rate", rate, low=0, high=1, closed="both")
    multiplier = _validate.real("noise_multiplier", noise_multiplier, low=0, closed="low")
    return _shortcut(rate, multiplier, orders,
                     lambda: _to_rdp(quadrature.log_moment_without_replacement(rate, multiplier, orders), orders))


def epsilon_from_rdp(rdp: ArrayLike, orders: ArrayLike, delta: float,
                     conversion: str = "improved") -> float:
    """Smallest epsilon that the RDP curve proves at `delta`.

    Args:
        rdp (sequence of float): RDP at each order.
        orders (sequence of float): The orders, above 1.
        delta (float): In (0, 1).
        conversion (str): 'improved' (Canonne, Kamath, Steinke 2020) or 'classic' (Mironov 2017), which the
            moments accountant and older libraries use.

    Returns:
        float, infinite when no order is finite.
    """
    rdp, orders = _check_curve(rdp, orders)
    delta = check_delta(delta)
    _validate.choice("conversion", conversion, CONVERSIONS)
    if conversion == "classic":
        return max(0.0, float(np.min(rdp - np.log(delta) / (orders - 1))))
    return _improved_epsilon(rdp, orders, delta)


def delta_from_rdp(rdp: ArrayLike, orders: ArrayLike, epsilon: float,
                   conversion: str = "improved") -> float:
    """Smallest delta that the RDP curve proves at `epsilon`; arguments as in `epsilon_from_rdp`."""
    rdp, orders = _check_curve(rdp, orders)
    epsilon = _validate.real("epsilon", epsilon, low=0, closed="low")
    _validate.choice("conversion", conversion, CONVERSIONS)
    with np.errstate(over="ignore"):
        exponents = (orders - 1) * (rdp - epsilon)
    if conversion == "improved":
        exponents += (orders - 1) * np.log1p(-1 / orders) - np.log(orders)
        exponents = np.minimum(exponents, 0.5 * np.log(-np.expm1(-np.maximum(rdp, 1e-320))))
    return float(np.exp(min(0.0, np.min(exponents))))


def check_orders(orders: ArrayLike) -> np.ndarray:
    """Orders as an array of float, or ValueError."""
    array = np.asarray(orders, dtype=np.float64)
    if array.ndim != 1 or array.size == 0 or not np.all(np.isfinite(array)) or not np.all(array > 1):
        raise ValueError(f"orders must be a non-empty sequence of finite numbers above 1, but got {orders!r}.")
    return array


def check_delta(delta: float) -> float:
    """Delta as a float in (0, 1), or an error."""
    return _validate.real("delta", delta, low=0, high=1)


def _check_curve(rdp, orders):
    orders = check_orders(orders)
    rdp = np.asarray(rdp, dtype=np.float64)
    if rdp.shape != orders.shape or np.any(np.isnan(rdp)) or np.any(rdp < 0):
        raise ValueError(f"rdp must hold one number of at least 0 for each of the {orders.size} orders, but got "
                         f"an array of shape {rdp.shape}.")
    return rdp, orders


def _improved_epsilon(rdp, orders, delta):
    epsilon = np.min(rdp + np.log1p(-1 / orders) - (np.log(delta) + np.log(orders)) / (orders - 1))
    # Bretagnolle and Huber 1979: the total variation is at most sqrt(1 - exp(-KL)), and KL is below every order
    if -np.expm1(-np.min(rdp)) <= delta ** 2:
        return 0.0
    return max(0.0, float(epsilon))


def _gaussian(multiplier, orders):
    square = multiplier * multiplier
    return orders / (2 * square) if square > 0 else np.full(orders.shape, np.inf)


def _shortcut(rate, multiplier, orders, compute):
    """The ends of the range, where integrals are neither needed nor possible."""
    if rate == 0:
        return np.zeros(orders.shape)
    if rate == 1 or multiplier < _NO_AMPLIFICATION_BELOW:
        return _gaussian(multiplier, orders)
    return np.minimum(compute(), _gaussian(multiplier, orders))


def _sampled(rate, multiplier, orders):
    def compute():
        logs = np.empty(orders.shape)
        whole = orders == np.floor(orders)
        if whole.any():
            logs[whole] = _log_moment_whole(rate, multiplier, tuple(orders[whole]))
        if not whole.all():
            logs[~whole] = quadrature.log_moment_sampled(rate, multiplier, orders[~whole])
        return _to_rdp(logs, orders)
    return _shortcut(rate, multiplier, orders, compute)


def _replaced(rate, multiplier, orders):
    if rate == 1 or multiplier < 2 * _NO_AMPLIFICATION_BELOW:
        return _gaussian(multiplier / 2, orders)
    if rate == 0:
        return np.zeros(orders.shape)
    logs = quadrature.log_moment_replaced(rate, multiplier, orders)
    return np.minimum(_to_rdp(logs, orders), _gaussian(multiplier / 2, orders))


def _to_rdp(log_excess, orders):
    return np.logaddexp(0.0, log_excess) / (orders - 1)


@lru_cache(maxsize=8)
def _binomials(orders):
    """For whole orders: terms k = 2 .. order of the binomial sum, laid end to end, and where each order starts."""
    lengths = np.array([int(order) - 1 for order in orders])
    order = np.repeat(np.asarray(orders), lengths)
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    k = np.arange(lengths.sum()) - np.repeat(starts, lengths) + 2.0
    return k, order - k, gammaln(order + 1) - gammaln(k + 1) - gammaln(order - k + 1), starts, lengths


def _log_moment_whole(rate, multiplier, orders):
    """log(A - 1) by the binomial sum; the terms k = 0 and 1 cancel against the 1 exactly."""
    k, rest, log_choose, starts, lengths = _binomials(orders)
    exponent = (k * k - k) / (2 * multiplier ** 2)
    terms = log_choose + k * np.log(rate) + rest * np.log1p(-rate) + exponent + np.log(-np.expm1(-exponent))
    peak = np.maximum.reduceat(terms, starts)
    return peak + np.log(np.add.reduceat(np.exp(np.maximum(terms - np.repeat(peak, lengths), -700.0)), starts))
