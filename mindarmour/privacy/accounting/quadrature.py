"""Numerical integration of privacy losses of mixtures of two Gaussians, without cancellation.

Every function computes A - 1, where A = E_Q[(P/Q)^order], as the integral of a non-negative function, so that
a sampling rate of 1e-6 loses no digits. The integrand is analytic and decays like a Gaussian: the trapezoidal
rule converges exponentially (Trefethen and Weideman 2014, section 5).
"""
import numpy as np

_REACH = 10.0  # standard deviations; what lies beyond is below exp(-50) of the whole
_CHUNK = 400_000  # nodes evaluated at a time, so that memory stays flat


def log_ratio(rate, loss):
    """log(1 - rate + rate * exp(loss)), accurate near zero and for losses of any size."""
    near = np.log1p(rate * np.expm1(np.minimum(loss, 30.0)))
    far = np.logaddexp(np.log1p(-rate), np.log(rate) + np.maximum(loss, 30.0))
    return np.where(loss < 30.0, near, far)


def log_bregman(order, loss):
    """log(exp(order * loss) - 1 - order * (exp(loss) - 1)), the convex part of a likelihood ratio's power.

    Args:
        order (numpy.ndarray): Any real numbers outside [0, 1]; broadcast against `loss`.
        loss (numpy.ndarray): Log likelihood ratios.
    """
    small = np.maximum(np.abs(order), 1.0) * np.abs(loss) < 0.03
    tiny = np.where(small, loss, 0.0)
    series = sum((order ** k - order) * tiny ** k / factor
                 for k, factor in ((2, 2.0), (3, 6.0), (4, 24.0), (5, 120.0), (6, 720.0)))
    # factor out the largest exponential, so that nothing overflows
    top = np.maximum(np.maximum(order * loss, loss), 0.0)
    rest = np.exp(order * loss - top) - order * np.exp(loss - top) + (order - 1.0) * np.exp(-top)
    return np.where(small, 0.0, top) + np.log(np.maximum(np.where(small, series, rest), 1e-320))


def _nodes(orders, multiplier, left, refine):
    """Trapezoidal nodes [orders, N] over everything that matters, and log steps [orders, 1].

    The integrand lives within a few standard deviations of 0 and of the order; the poles of its logarithm
    stand pi * multiplier^2 away from the real axis, which bounds the step.
    """
    step = min(multiplier, multiplier ** 2) / (2.0 * refine)
    reach = _REACH * multiplier
    half = int(np.ceil(2 * reach / step)) + 2
    start = max(left, -reach)
    orders = orders[:, None]
    joint = np.linspace(0.0, 1.0, 2 * half)[None, :] * (orders + reach - start) + start
    unit = np.linspace(0.0, 1.0, half)[None, :]
    low_end = max(reach, start)
    low = start + unit * (low_end - start) + 0.0 * orders
    high = orders - reach + unit * 2 * reach
    separate = orders - reach > low_end
    nodes = np.where(separate, np.concatenate([low, high], axis=1), joint)
    widths = np.concatenate([np.full((1, half), (low_end - start) / (half - 1)),
                             np.full((1, half), 2 * reach / (half - 1))], axis=1)
    widths = np.where(separate, widths, (orders + reach - start) / (2 * half - 1))
    return nodes, np.log(np.maximum(widths, 1e-320))


def _integrate(orders, multiplier, log_integrand, left=-np.inf, refine=1):
    """log of the integral over x of exp(log_integrand(order, x)) times the density of N(0, multiplier^2)."""
    orders = np.asarray(orders, dtype=np.float64)
    size = 4 * int(np.ceil(2 * refine * 2 * _REACH / min(1.0, multiplier)))
    rows = max(1, _CHUNK // size)
    parts = [orders[i:i + rows] for i in range(0, len(orders), rows)]
    return np.concatenate([_integrate_part(part, multiplier, log_integrand, left, refine) for part in parts])


def _integrate_part(orders, multiplier, log_integrand, left, refine):
    nodes, log_steps = _nodes(orders, multiplier, left, refine)
    density = -0.5 * (nodes / multiplier) ** 2 - 0.5 * np.log(2 * np.pi * multiplier ** 2)
    terms = log_integrand(orders[:, None], nodes) + density + log_steps
    peak = terms.max(axis=1, keepdims=True)
    return peak[:, 0] + np.log(np.exp(np.maximum(terms - peak, -700.0)).sum(axis=1))


def log_moment_sampled(rate, multiplier, orders):
    """log(A - 1) of (1 - rate) N(0) + rate N(1) against N(0), standard deviation `multiplier`."""
    def integrand(order, x):
        return log_bregman(order, log_ratio(rate, (x - 0.5) / multiplier ** 2))
    return _integrate(orders, multiplier, integrand)


def log_moment_replaced(rate, multiplier, orders):
    """log(A - 1) of (1 - rate) N(0) + rate N(1) against (1 - rate) N(0) + rate N(-1)."""
    def integrand(order, x):
        lower = log_ratio(rate, (-x - 0.5) / multiplier ** 2)
        upper = log_ratio(rate, (x - 0.5) / multiplier ** 2)
        return lower + log_bregman(order, upper - lower)
    return _integrate(orders, multiplier, integrand)


def log_moment_without_replacement(rate, multiplier, orders):
    """log(A - 1) of the profile that dominates sampling without replacement, under replace-one.

    With R the ratio of the sampled pair, advanced joint convexity bounds the hockey-stick divergence by that
    pair's for every threshold above 1, in both directions. Integrating the bound against the weights of the
    order gives E[(B(order) + B(1 - order)) 1{R > 1}] with B the Bregman remainder of R's power.
    """
    def integrand(order, x):
        loss = log_ratio(rate, (x - 0.5) / multiplier ** 2)
        return np.logaddexp(log_bregman(order, loss), log_bregman(1.0 - order, loss))
    return _integrate(orders, multiplier, integrand, left=0.5, refine=2)
