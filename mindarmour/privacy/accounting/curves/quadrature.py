"""Numerical integration of privacy losses of mixtures of two Gaussians, without cancellation.

Every function computes A - 1, where A = E_Q[(P/Q)^order], as the integral of a non-negative function, so that
a sampling rate of 1e-6 loses no digits. The integrand is analytic and decays like a Gaussian: the trapezoidal
rule converges exponentially (Trefethen and Weideman 2014, section 5).
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Optional

import numpy as np

REACH = 10.0  # standard deviations; what lies beyond is below exp(-50) of the whole
_NEAR = 16.0  # orders up to here share one grid
_FAR = 40.0  # variances beyond which an order's two peaks stand apart
_CHUNK = 400_000  # nodes evaluated at a time, so that memory stays flat


def log_ratio(rate: float, loss: np.ndarray) -> np.ndarray:
    """log(1 - rate + rate * exp(loss)), accurate near zero and for losses of any size."""
    near = np.log1p(rate * np.expm1(np.minimum(loss, 30.0)))
    far = np.logaddexp(np.log1p(-rate), np.log(rate) + np.maximum(loss, 30.0))
    return np.where(loss < 30.0, near, far)


def log_bregman(order: np.ndarray, loss: np.ndarray) -> np.ndarray:
    """log(exp(order * loss) - 1 - order * (exp(loss) - 1)), the convex part of a likelihood ratio's power.

    Args:
        order (numpy.ndarray): Real numbers outside [0, 1], a column [N, 1].
        loss (numpy.ndarray): Log likelihood ratios, [M] or [N, M].
    """
    # factor out the largest exponential, so that nothing overflows
    top = np.maximum(np.maximum(order * loss, loss), 0.0)
    rest = np.exp(order * loss - top) - order * np.exp(loss - top) + (order - 1.0) * np.exp(-top)
    small = _small(order, loss)
    return np.where(small, 0.0, top) + np.log(np.maximum(np.where(small, _series(order, loss), rest), 1e-320))


def _small(order, loss):
    """Where the first terms of the series are exact and the difference of exponentials is not."""
    return np.maximum(np.abs(order), 1.0) * np.abs(loss) < 0.03


def _series(order, loss):
    """Sum of (order^k - order) loss^k / k! for k = 2 .. 6, by Horner's rule."""
    total = 0.0
    near = np.clip(loss, -0.03, 0.03)
    for k, factorial in ((6, 720.0), (5, 120.0), (4, 24.0), (3, 6.0), (2, 2.0)):
        total = total * near + (order ** k - order) / factorial
    return total * near * near


def _windows(orders, multiplier, left):
    """Nodes [orders, N] around both ends of where the integrand may peak, and log steps [orders, 1].

    A peak stands where x = order * w(x), with w the share of the second Gaussian, and needs order * w * (1 - w) below
    the variance. Far above the variance that leaves a few variances around 0 and around the order.
    """
    start, width = max(left, -REACH * multiplier), REACH * multiplier + 4 * multiplier ** 2
    half = int(np.ceil(2 * width / grid_step(multiplier, 1))) + 2
    unit = np.linspace(0.0, 1.0, half)[None, :]
    reach = max(width - start, 0.0)
    low = start + unit * reach + 0.0 * orders[:, None]
    high = orders[:, None] - width + unit * (width + REACH * multiplier)
    steps = np.concatenate([np.full(half, reach), np.full(half, width + REACH * multiplier)]) / (half - 1)
    return np.concatenate([low, high], axis=1), np.log(np.maximum(steps, 1e-320))[None, :]


def _line(orders, multiplier, left, refine, stretch):
    """Nodes [orders, N] over the whole of where the integrand may peak, and log steps [orders, 1]."""
    start, end = max(left, -REACH * multiplier), stretch * orders[:, None] + REACH * multiplier
    count = int((end.max() - start) / grid_step(multiplier, refine)) + 2
    nodes = start + np.linspace(0.0, 1.0, count)[None, :] * (end - start)
    return nodes, np.log(np.maximum((end - start) / (count - 1), 1e-320))


def _integrate(orders, multiplier, loss, base=None, mirrored=False, left=-np.inf, refine=1, stretch=1.0):
    """log of the integral of exp(base) * B(order, loss) over x under N(0, multiplier^2), B as in `log_bregman`.

    Args:
        loss (callable): Log likelihood ratio at x.
        base (callable, optional): Logarithm of a weight at x.
        mirrored (bool): Add B(1 - order, loss).
        left (float): Where the integral starts.
        refine (int): How much finer than needed for an integral over the whole line.
        stretch (float): Peaks stand up to this multiple of the order.
    """
    orders = np.asarray(orders, dtype=np.float64)
    result = np.empty(orders.shape)
    near = orders <= _NEAR
    far = orders > _FAR * multiplier ** 2 + 4 * REACH * multiplier
    for chosen, part in ((near, _integrate_near), (~near & far, _integrate_windows), (~near & ~far, _integrate_line)):
        if chosen.any():
            result[chosen] = part(orders[chosen], multiplier, loss, base, mirrored, left, refine, stretch)
    return result


def _integrate_near(orders, multiplier, loss, base, mirrored, left, refine, stretch):
    """One grid for all orders, so that losses are computed once; no logarithms where nothing overflows."""
    start, end = max(left, -REACH * multiplier), stretch * orders.max() + REACH * multiplier
    count = int((end - start) / grid_step(multiplier, refine)) + 2
    if count > _CHUNK // 40:
        far = orders > _FAR * multiplier ** 2 + 4 * REACH * multiplier
        result = np.empty(orders.shape)
        for chosen, part in ((far, _integrate_windows), (~far, _integrate_line)):
            if chosen.any():
                result[chosen] = part(orders[chosen], multiplier, loss, base, mirrored, left, refine, stretch)
        return result
    nodes = np.linspace(start, end, count)
    losses, logs = loss(nodes), log_weights(nodes, multiplier, base) + np.log(nodes[1] - nodes[0])
    if orders.max() * losses.max() > 600:
        return log_sum(orders[:, None], losses, logs, mirrored)
    weights = np.exp(np.maximum(logs, -700.0))
    total = _bregman(orders[:, None], losses) @ weights
    if mirrored:
        total += _bregman(1.0 - orders[:, None], losses) @ weights
    return np.log(np.maximum(total, 1e-320))


def _integrate_windows(orders, multiplier, loss, base, mirrored, left, refine, stretch):
    """A grid for each order, laid only where its integrand matters; `_windows` says when that is known."""
    size = _windows(orders[:1], multiplier, left)[0].size
    parts = np.array_split(orders, max(1, orders.size * size // _CHUNK))
    return np.concatenate([_on_grid(part, *_windows(part, multiplier, left), multiplier, loss, base, mirrored)
                           for part in parts])


def _integrate_line(orders, multiplier, loss, base, mirrored, left, refine, stretch):
    """A grid over all of the line for each order; orders within a factor of two share their number of nodes."""
    result = np.empty(orders.shape)
    octaves = np.floor(np.log2(orders))
    for octave in np.unique(octaves):
        chosen = octaves == octave
        nodes, log_steps = _line(orders[chosen], multiplier, left, refine, stretch)
        result[chosen] = _on_grid(orders[chosen], nodes, log_steps, multiplier, loss, base, mirrored)
    return result


def _on_grid(orders, nodes, log_steps, multiplier, loss, base, mirrored):
    return log_sum(orders[:, None], loss(nodes), log_weights(nodes, multiplier, base) + log_steps, mirrored)


def grid_step(multiplier: float, refine: int = 1) -> float:
    """Step of a trapezoidal grid, bounded by the poles of the losses, pi * multiplier^2 away from the real axis."""
    return min(multiplier, multiplier ** 2) / (2.0 * refine)


def log_weights(nodes: np.ndarray, multiplier: float,
                base: Optional[Callable[[np.ndarray], np.ndarray]] = None) -> np.ndarray:
    """log density of N(0, multiplier^2) at the nodes, plus `base`."""
    density = -0.5 * (nodes / multiplier) ** 2 - 0.5 * np.log(2 * np.pi * multiplier ** 2)
    return density if base is None else density + base(nodes)


def _bregman(order, loss):
    direct = np.expm1(order * loss) - order * np.expm1(loss)
    return np.where(_small(order, loss), _series(order, loss), direct)


def log_sum(order: np.ndarray, loss: np.ndarray, log_weights: np.ndarray, mirrored: bool = False) -> np.ndarray:
    """log of the sum of exp(log_weights) * B(order, loss) over the nodes, one value for each order [N, 1]."""
    terms = log_bregman(order, loss)
    if mirrored:
        terms = np.logaddexp(terms, log_bregman(1.0 - order, loss))
    terms = terms + log_weights
    peak = terms.max(axis=1, keepdims=True)
    return peak[:, 0] + np.log(np.exp(np.maximum(terms - peak, -700.0)).sum(axis=1))


def log_moment_sampled(rate: float, multiplier: float, orders: np.ndarray) -> np.ndarray:
    """log(A - 1) of (1 - rate) N(0) + rate N(1) against N(0), standard deviation `multiplier`."""
    return _integrate(orders, multiplier, lambda x: log_ratio(rate, (x - 0.5) / multiplier ** 2))


def log_moment_replaced(rate: float, multiplier: float, orders: np.ndarray) -> np.ndarray:
    """log(A - 1) of (1 - rate) N(0) + rate N(1) against (1 - rate) N(0) + rate N(-1)."""
    def lower(x):
        return log_ratio(rate, (-x - 0.5) / multiplier ** 2)

    def upper(x):
        return log_ratio(rate, (x - 0.5) / multiplier ** 2)
    # both shares pull: x = order * w + (order - 1) * w', which may reach twice the order
    return _integrate(orders, multiplier, lambda x: upper(x) - lower(x), base=lower, stretch=2.0)


def log_moment_without_replacement(rate: float, multiplier: float, orders: np.ndarray) -> np.ndarray:
    """log(A - 1) of the profile that dominates sampling without replacement, under replace-one.

    With R the ratio of the sampled pair, advanced joint convexity bounds the hockey-stick divergence by that
    pair's for every threshold above 1, in both directions. Integrating the bound against the weights of the
    order gives E[(B(order) + B(1 - order)) 1{R > 1}] with B the Bregman remainder of R's power.
    """
    return _integrate(orders, multiplier, lambda x: log_ratio(rate, (x - 0.5) / multiplier ** 2),
                      mirrored=True, left=0.5, refine=2)
