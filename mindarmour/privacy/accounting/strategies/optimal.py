"""Good strategies: closed forms, and coefficients that minimise the error of the iterates at equal privacy.

References:
    Fichtenberger et al. 2023, "Constant matters" (square root of the prefix sums). Kalinin, Lampert 2024, "Banded
    square root matrix factorization" (also with momentum). Kalinin et al. 2025, "Back to square roots" (BISR,
    BandInvMF). Kalinin et al. 2026 (lambda-CGD). McKenna 2024, "Scaling up the banded matrix factorization
    mechanism". McMahan et al. 2024 (buffered).
"""
from __future__ import annotations

import math
from typing import Callable

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, logit

from mindarmour.privacy.accounting.strategies.families import Buffered, InverseToeplitz, Strategy, Toeplitz
from mindarmour.privacy.accounting.strategies.filters import lfilter
from mindarmour.privacy.accounting.strategies.sensitivity import spaced_energy, spaced_starts
from mindarmour.utils import _validate

ERRORS = ("mean", "max")


def total_error(strategy: Strategy, steps: int, min_sep: int, participations: int, error: str = "mean",
                momentum: float = 0.0, decay: float = 1.0) -> float:
    """Standard deviation of the noise in the iterates at equal privacy: what strategies are compared by.

    Args:
        error (str): 'mean' for the root of the mean square over the iterates, 'max' for the worst iterate.
        momentum, decay (float): See `Strategy.squared_errors`.

    Returns:
        float, sensitivity times error, for a noise multiplier of 1 relative to the sensitivity.
    """
    spread = _summary(_error(error))(strategy.squared_errors(steps, momentum, decay))
    return strategy.sensitivity(steps, min_sep, participations) * math.sqrt(spread)


def square_root(bands: int, momentum: float = 0.0, decay: float = 1.0) -> Toeplitz:
    """First `bands` coefficients of the square root of the workload (BSR; all of them: the square root itself).

    Args:
        bands (int): At least 1.
        momentum (float): Of the optimizer whose iterates count, in [0, 1).
        decay (float): What a step leaves of the weights, in (0, 1]: one minus rate times weight decay.

    Examples:
        >>> from mindarmour.privacy.accounting.strategies import square_root
        >>> square_root(4).coefficients
        (1.0, 0.5, 0.375, 0.3125)
    """
    return Toeplitz(tuple(_root(bands, momentum, decay)))


def inverse_square_root(bands: int, momentum: float = 0.0, decay: float = 1.0) -> InverseToeplitz:
    """First `bands` coefficients of the inverse of that square root (BISR). Arguments as for `square_root`."""
    root = _root(bands, momentum, decay)
    return InverseToeplitz(tuple(lfilter([1.0], root, [1.0] + [0.0] * (len(root) - 1))))


def decaying(rate: float) -> Buffered:
    """Coefficients 1, rate, rate^2, ... (lambda-CGD): noise now minus `rate` times the noise one step ago.

    Args:
        rate (float): In (0, 1).
    """
    rate = _validate.real("rate", rate, low=0, high=1)
    return Buffered((rate,), (rate,))


def optimal_toeplitz(steps: int, bands: int, error: str = "mean") -> Toeplitz:
    """The best `bands` coefficients for a run whose participations are at least that many steps apart (BandMF).

    Args:
        steps (int): Length of the run.
        bands (int): From 1 to `steps`.
        error (str): 'mean' or 'max', see `total_error`.

    Returns:
        Toeplitz, of column norm 1.

    Examples:
        >>> from mindarmour.privacy.accounting.strategies import optimal_toeplitz
        >>> [round(c, 4) for c in optimal_toeplitz(steps=64, bands=4).coefficients]
        [0.7081, 0.4746, 0.3977, 0.3395]
    """
    steps = _validate.integer("steps", steps, low=1)
    bands = _validate.integer("bands", bands, low=1, high=steps)
    weights = (steps - np.arange(steps)) / steps if _error(error) == "mean" else np.ones(steps)
    if bands == 1:
        return Toeplitz((1.0,))
    start = logit(1 - 0.5 / np.arange(1, bands))
    found = minimize(_banded_loss, start, (weights,), "L-BFGS-B", jac=True,
                     options={"maxiter": 2000, "maxfun": 4000, "ftol": 1e-15, "gtol": 1e-9, "maxcor": 30})
    column = _falling(found.x)
    return Toeplitz(tuple(column / np.linalg.norm(column)))


def optimal_inverse(steps: int, bands: int, min_sep: int, participations: int, error: str = "mean",
                    ) -> InverseToeplitz:
    """The best strategy whose noise mixes `bands` draws (BandInvMF), among those with log-convex coefficients.

    Log-convex and falling coefficients of C are what makes its inverse admissible (Kaluza). Arguments as for
    `optimal_toeplitz` and `Strategy.sensitivity`.
    """
    steps = _validate.integer("steps", steps, low=1)
    bands = _validate.integer("bands", bands, low=1, high=steps)
    if bands == 1:
        return InverseToeplitz((1.0,))
    loss = _loss(steps, min_sep, participations, error)
    impulse = np.eye(1, bands)[0]

    def inverse(place):
        return lfilter([1.0], _log_convex(place), impulse)

    def objective(place):
        taps = inverse(place)
        return loss(lfilter([1.0], taps, np.eye(1, steps)[0]), np.pad(taps, (0, steps - bands)))

    ratios = 1 - 0.5 / np.arange(1, bands)
    start = logit(np.concatenate([ratios[:1], 1 - (1 - ratios[1:]) / (1 - ratios[:-1])]))
    taps = inverse(minimize(objective, start, method="L-BFGS-B", options={"maxiter": 300, "maxfun": 50000}).x)
    return InverseToeplitz((taps[0], *np.minimum(taps[1:], 0.0)))


def optimal_buffered(steps: int, buffers: int, min_sep: int, participations: int, error: str = "mean") -> Buffered:
    """The best strategy of `buffers` buffers (BLT); arguments as for `optimal_toeplitz` and `Strategy.sensitivity`.

    Poles of C and of its inverse interlace; searching over poles that do keeps every scale positive.

    Examples:
        >>> from mindarmour.privacy.accounting.strategies import optimal_buffered
        >>> strategy = optimal_buffered(steps=256, buffers=1, min_sep=256, participations=1, error="max")
        >>> round(strategy.decay[0], 3), round(strategy.scale[0], 3)
        (0.984, 0.222)
    """
    steps = _validate.integer("steps", steps, low=2)
    buffers = _validate.integer("buffers", buffers, low=1, high=8)
    loss = _loss(steps, min_sep, participations, error)

    def objective(place):
        try:
            strategy = Buffered(*_interlaced(place))
        except ValueError:  # two poles met within rounding
            return 1e3
        return loss(strategy.column(steps), strategy.inverse_column(steps))

    # from one start alone two poles may merge, a local optimum of one buffer less
    found = [minimize(objective, _first_poles(smallest_gap, buffers), method="L-BFGS-B",
                      options={"maxiter": 400, "maxfun": 20000, "ftol": 1e-14, "gtol": 1e-9}).x
             for smallest_gap in (1 / steps, 3 / steps, 10 / steps)]
    polished = minimize(objective, min(found, key=objective), method="Nelder-Mead",
                        options={"maxiter": 400 * buffers, "xatol": 1e-7, "fatol": 1e-13})
    return Buffered(*_interlaced(polished.x))


def _loss(steps, min_sep, participations, error) -> Callable[[np.ndarray, np.ndarray], float]:
    """Logarithm of `total_error` from the first columns of C and of its inverse."""
    starts = spaced_starts(steps, _validate.integer("min_sep", min_sep, low=1),
                           _validate.integer("participations", participations, low=1))
    spread = _summary(_error(error))

    def loss(column, inverse_column):
        squared_errors = np.cumsum(np.cumsum(inverse_column) ** 2)
        return 0.5 * math.log(spaced_energy(column, starts)[-1] * spread(squared_errors))

    return loss


def _banded_loss(place, weights):
    """Logarithm of squared norm times weighted squared error, and its gradient by one reversed filter."""
    column = _falling(place)
    sums = lfilter([1.0], column, np.ones(len(weights)))
    norm, error = column @ column, weights @ sums ** 2
    back = lfilter([1.0], column, (weights * sums)[::-1])[::-1]
    shifts = np.array([back[j:] @ sums[:len(sums) - j] for j in range(len(column))])
    by_column = 2 * column / norm - 2 * shifts / error
    # c_j = s_1 ... s_j, so every later coefficient moves with each ratio
    below = np.cumsum((by_column * column)[::-1])[::-1][1:]
    return math.log(norm * error), below * expit(-place)


def _falling(place):
    """1, then each coefficient a share of the one before it."""
    return np.concatenate([[1.0], np.cumprod(expit(place))])


def _log_convex(place):
    """1, then coefficients whose ratios lie in (0, 1) and never fall."""
    return np.concatenate([[1.0], np.cumprod(1 - np.cumprod(1 - expit(place)))])


def _interlaced(place) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(decay, scale) from free numbers: 1 > decay_1 > pole_1 > decay_2 > pole_2 > ... > 0."""
    ladder = np.cumprod(expit(place))
    decay, poles = ladder[0::2], ladder[1::2]
    scale = [np.prod(rate - poles) / np.prod(np.delete(rate - decay, i)) for i, rate in enumerate(decay)]
    return tuple(decay), tuple(scale)


def _first_poles(smallest_gap, buffers):
    """Ladder that starts `smallest_gap` below 1 and widens geometrically down to the middle."""
    gaps = np.geomspace(smallest_gap, 1.0, 2 * buffers)
    ladder = np.clip(1 - gaps / (1 + gaps), 1e-3, 1 - 1e-6)
    return logit(np.concatenate([ladder[:1], ladder[1:] / ladder[:-1]]))


def _root(bands, momentum, decay):
    bands = _validate.integer("bands", bands, low=1)
    momentum = _validate.real("momentum", momentum, low=0, high=1, closed="low")
    decay = _validate.real("decay", decay, low=0, high=1, closed="high")
    places = np.arange(1, bands)
    root = np.concatenate([[1.0], np.cumprod((2 * places - 1) / (2 * places))])
    powers = np.arange(bands)
    return np.convolve(root * decay ** powers, root * momentum ** powers)[:bands]


def _summary(error):
    return np.mean if error == "mean" else np.max


def _error(error):
    return _validate.choice("error", error, ERRORS)
