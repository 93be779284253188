"""Mechanisms that are not Gaussian: Laplace, randomised response, sparse vector.

Their curves compose with those of training steps by addition at equal orders. To put one of them into a ledger,
state it as a `ReleaseEvent`.

References:
    Mironov 2017, "Rényi differential privacy", propositions 5 and 6 (randomised response, Laplace).
    Lyu, Su, Li 2017, "Understanding the sparse vector technique for differential privacy", theorems 2, 4 and 5.
"""
from __future__ import annotations

import math
from typing import Optional

import numpy as np
from numpy.typing import ArrayLike

from mindarmour.privacy.accounting.curves.rdp import DEFAULT_ORDERS, check_orders
from mindarmour.utils import _validate


def rdp_laplace(noise_multiplier: float, orders: ArrayLike = DEFAULT_ORDERS) -> np.ndarray:
    """RDP of the Laplace mechanism.

    Args:
        noise_multiplier (float): Scale of the noise divided by the L1 sensitivity, above 0.
        orders (sequence of float): Orders above 1.

    Returns:
        numpy.ndarray, at most 1 / noise_multiplier, which is the pure epsilon.
    """
    orders = check_orders(orders)
    epsilon = 1 / _validate.real("noise_multiplier", noise_multiplier, low=0)
    first = np.log(orders / (2 * orders - 1)) + (orders - 1) * epsilon
    second = np.log((orders - 1) / (2 * orders - 1)) - orders * epsilon
    return np.maximum(np.logaddexp(first, second), 0.0) / (orders - 1)


def delta_of_laplace(noise_multiplier: float, epsilon: float) -> float:
    """Delta of the Laplace mechanism at `epsilon`, exactly; 0 from the pure epsilon on."""
    pure = 1 / _validate.real("noise_multiplier", noise_multiplier, low=0)
    epsilon = _validate.real("epsilon", epsilon, low=0, closed="low")
    return max(0.0, -math.expm1((epsilon - pure) / 2))


def rdp_randomized_response(truth_probability: float, categories: int = 2,
                            orders: ArrayLike = DEFAULT_ORDERS) -> np.ndarray:
    """RDP of answering truthfully with a probability, and otherwise with one of the other categories at random.

    Args:
        truth_probability (float): From 1 / categories, pure chance, to below 1.
        categories (int): Possible answers, at least 2.
        orders (sequence of float): Orders above 1.

    Returns:
        numpy.ndarray, one value per order.
    """
    orders = check_orders(orders)
    truth, lie = _answers(truth_probability, categories)
    same = orders * math.log(truth) + (1 - orders) * math.log(lie)
    other = orders * math.log(lie) + (1 - orders) * math.log(truth)
    rest = math.log((categories - 2) * lie) if categories > 2 else -math.inf
    return np.maximum(np.logaddexp(np.logaddexp(same, other), rest), 0.0) / (orders - 1)


def epsilon_of_randomized_response(truth_probability: float, categories: int = 2) -> float:
    """Pure epsilon of randomised response. Arguments as for `rdp_randomized_response`."""
    truth, lie = _answers(truth_probability, categories)
    return math.log(truth / lie)


def truth_probability_for(epsilon: float, categories: int = 2) -> float:
    """Probability of the truth that makes randomised response cost exactly `epsilon`."""
    epsilon = _validate.real("epsilon", epsilon, low=0, closed="low")
    categories = _validate.integer("categories", categories, low=2)
    return 1 / (1 + (categories - 1) * math.exp(-epsilon))


def epsilon_of_sparse_vector(threshold_scale: float, query_scale: float, positives: int, sensitivity: float = 1.0,
                             monotone: bool = False, release_scale: Optional[float] = None) -> float:
    """Pure epsilon of the standard sparse vector technique.

    One noisy threshold for the whole run, fresh noise on each query, an end after `positives` positive answers;
    numbers are released, if at all, with fresh noise, never those that were compared.

    Args:
        threshold_scale (float): Scale of the Laplace noise on the threshold, drawn once.
        query_scale (float): Scale of the Laplace noise on each query.
        positives (int): Number of positive answers after which it stops.
        sensitivity (float): Of each query.
        monotone (bool): All queries move in the same direction between neighbours.
        release_scale (float, optional): Scale of the fresh Laplace noise on released values.

    Returns:
        float.

    References:
        Lyu, Su, Li 2017, theorems 2 and 4 (standard form), theorem 5 (monotone queries).
    """
    threshold_scale = _validate.real("threshold_scale", threshold_scale, low=0)
    query_scale = _validate.real("query_scale", query_scale, low=0)
    positives = _validate.integer("positives", positives, low=1)
    sensitivity = _validate.real("sensitivity", sensitivity, low=0)
    _validate.boolean("monotone", monotone)
    comparisons = (1 if monotone else 2) * positives * sensitivity / query_scale
    released = 0.0
    if release_scale is not None:
        released = positives * sensitivity / _validate.real("release_scale", release_scale, low=0)
    return sensitivity / threshold_scale + comparisons + released


def sparse_vector_scales(epsilon: float, positives: int, sensitivity: float = 1.0,
                         monotone: bool = False) -> tuple[float, float]:
    """Scales of threshold and query noise that spend `epsilon` with the least total variance.

    Returns:
        tuple, (threshold_scale, query_scale).

    References:
        Lyu, Su, Li 2017, section 4.2: the budgets stand in the ratio 1 : (2 positives)^(2/3).
    """
    epsilon = _validate.real("epsilon", epsilon, low=0)
    positives = _validate.integer("positives", positives, low=1)
    sensitivity = _validate.real("sensitivity", sensitivity, low=0)
    factor = (1 if _validate.boolean("monotone", monotone) else 2) * positives
    threshold_budget = epsilon / (1 + factor ** (2 / 3))
    return sensitivity / threshold_budget, factor * sensitivity / (epsilon - threshold_budget)


def _answers(truth_probability, categories):
    categories = _validate.integer("categories", categories, low=2)
    truth = _validate.real("truth_probability", truth_probability, low=1 / categories, high=1, closed="low")
    return truth, (1 - truth) / (categories - 1)
