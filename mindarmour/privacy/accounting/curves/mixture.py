"""RDP of one Poisson step for a user who owns several records: N(0) against a binomial mixture of N(j).

Each of the user's records joins the batch independently, so the clipped sum moves by up to j bounds when j of them
joined. That pair dominates every placement of the records' contributions.

References:
    Charles et al. 2024, "Fine-tuning large language models with user-level differential privacy", section 4
    (example-level sampling accounted per user, by mixtures of Gaussians).
"""
from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import gammaln, logsumexp

from mindarmour.privacy.accounting.curves import quadrature
from mindarmour.privacy.accounting.curves.rdp import DEFAULT_ORDERS, check_orders, rdp_gaussian
from mindarmour.utils import _validate

_MOST_NODES = 4_000_000  # beyond, the noise is so small that amplification is left out


def binomial_weights(rate: float, size: int) -> np.ndarray:
    """Logarithms of the probabilities that 0 .. size of a user's records join."""
    j = np.arange(size + 1.0)
    choose = gammaln(size + 1) - gammaln(j + 1) - gammaln(size - j + 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        out = np.where(j == size, 0.0, (size - j) * np.log1p(-rate))
        return choose + np.where(j == 0, 0.0, j * np.log(rate)) + out


def rdp_binomial_mixture(rate: float, noise_multiplier: float, size: int,
                         orders: ArrayLike = DEFAULT_ORDERS) -> np.ndarray:
    """RDP of one step in which up to `size` records of one user join independently with probability `rate`.

    Args:
        rate (float): Sampling probability of one record, in [0, 1].
        noise_multiplier (float): Standard deviation divided by the bound on *one record's* contribution.
        size (int): Records of a user, at least 1.
        orders (sequence of float): Orders above 1.

    Returns:
        numpy.ndarray, the larger direction at each order, never above one Gaussian mechanism of `size` times the
        sensitivity.
    """
    orders = check_orders(orders)
    rate = _validate.real("rate", rate, low=0, high=1, closed="both")
    multiplier = _validate.real("noise_multiplier", noise_multiplier, low=0, closed="low")
    size = _validate.integer("size", size, low=1)
    plain = rdp_gaussian(multiplier / size, orders)
    if rate in (0.0, 1.0) or multiplier == 0:
        return plain if rate else np.zeros(orders.shape)
    nodes = 2 * (size * orders.max() + quadrature.REACH * multiplier) / quadrature.grid_step(multiplier)
    if nodes > _MOST_NODES:
        return plain
    log_weights, j = binomial_weights(rate, size)[:, None], np.arange(size + 1.0)[:, None]
    curve = np.empty(orders.shape)
    octaves = np.floor(np.log2(orders))
    for octave in np.unique(octaves):
        chosen = octaves == octave
        curve[chosen] = _on_line(orders[chosen], multiplier, size, lambda x: _log_ratio(x, j, log_weights, multiplier))
    return np.minimum(curve, plain)


def _log_ratio(x, j, log_weights, multiplier):
    """log of the mixture over the density without the user, accurate near zero."""
    exponents = (j * x[None, :] - 0.5 * j * j) / multiplier ** 2
    near = np.log1p((np.exp(log_weights) * np.expm1(np.minimum(exponents, 30.0))).sum(axis=0))
    far = np.asarray(logsumexp(exponents + log_weights, axis=0))
    return np.where(exponents.max(axis=0) < 30.0, near, far)


def _on_line(orders, multiplier, size, log_ratio):
    """RDP at orders of one octave, both directions on one grid over every place where a peak can stand."""
    reach = size * orders.max() + quadrature.REACH * multiplier
    nodes = np.linspace(-reach, reach, int(2 * reach / quadrature.grid_step(multiplier)) + 2)
    losses = log_ratio(nodes)
    weights = quadrature.log_weights(nodes, multiplier) + math.log(nodes[1] - nodes[0])
    logs = [max(quadrature.log_sum(np.array([[signed]]), losses, weights)[0] for signed in (order, 1 - order))
            for order in orders]
    return np.logaddexp(0.0, logs) / (orders - 1)
