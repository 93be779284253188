"""Privacy loss distributions through dp-accounting, behind one narrow door.

Everything handed over is a float with the noise multiplier relative to a sensitivity of 1, so neither of the
library's two meanings of "sensitivity under replace-one" nor its treatment of integer multipliers can matter.
Its discretisation rounds losses up: every grid is sound, a finer one is tighter and slower. The grid starts
coarse and is refined until the answer settles or the time is over.

References:
    Koskela, Jälkö, Honkela 2020, "Computing tight differential privacy guarantees using FFT".
    Doroshenko et al. 2022, "Connect the dots: tighter discrete approximations of privacy loss distributions".
    Zhu, Dong, Wang 2022, "Optimal accounting of differential privacy via characteristic function", theorem 11.
"""
from __future__ import annotations

import importlib
import importlib.util
import math
import time
from collections import Counter
from collections.abc import Callable
from typing import Optional

import numpy as np
from scipy.special import log_ndtr

from mindarmour.privacy.accounting.composition import Composition
from mindarmour.privacy.accounting.costs import inverse_square, rounded_down
from mindarmour.privacy.accounting.curves.mixture import binomial_weights
from mindarmour.privacy.accounting.events import BALLS_IN_BINS, FIXED_SIZE, FULL, REPLACE_ONE

SECONDS = 6.0  # of computation, so that a busy machine gives the same answer ..
WALL_SECONDS = 9.0  # .. unless it is so busy that this passes
TOLERANCE = 0.005
_REFINEMENT = 4
_LEVELS = 24  # distinct noise levels; each costs one discretisation and one convolution
_COARSE_RATIO = 1.01
_MISSING = "PLD needs the extra mindarmour[pld], so this is the RDP bound"
_UNSUPPORTED = "no privacy loss distribution for balls-in-bins, so this is the RDP bound"


def available() -> bool:
    """Whether dp-accounting is installed; nothing is imported."""
    return importlib.util.find_spec("dp_accounting") is not None


def refusal(total: Composition) -> str:
    """Why a `Composition` has no PLD here, or ''."""
    if total.exact:
        return ""
    if any(cost.kind == BALLS_IN_BINS for cost, _ in total.costs):
        return _UNSUPPORTED
    return "" if available() else _MISSING


def tightest_epsilon(total: Composition, delta: float, start: float, seconds: float = SECONDS) -> tuple[float, float]:
    """Epsilon of a `Composition` from its privacy loss distribution.

    Args:
        total (Composition): What ran.
        delta (float): In (0, 1).
        start (float): An upper bound of epsilon, which sets the first grid.
        seconds (float): Of computation; no refinement is begun that would probably need more.

    Returns:
        tuple, (epsilon, grid); epsilon is never above `start`.
    """
    return _refine(total, lambda pld: pld.get_epsilon_for_delta(delta), start, start, seconds)


def tightest_delta(total: Composition, epsilon: float, start: float, scale: float,
                   seconds: float = SECONDS) -> tuple[float, float]:
    """Delta at `epsilon`; `start` bounds delta, `scale` is an epsilon that sets the first grid."""
    return _refine(total, lambda pld: pld.get_delta_for_epsilon(epsilon), start, scale, seconds)


def tightest_curve(total: Composition, scale: float,
                   seconds: float = SECONDS) -> Optional[Callable[[np.ndarray], np.ndarray]]:
    """Delta as a function of an array of epsilons, refined until delta at 0 settles; None if no grid serves."""
    chosen = []

    def evaluate(composed):
        chosen[:] = [composed]
        return composed.get_delta_for_epsilon(0.0)

    _refine(total, evaluate, 1.0, scale, seconds)
    if not chosen:
        return None
    return lambda epsilons: np.asarray(chosen[0].get_delta_for_epsilon(np.asarray(epsilons)))


def _refine(total, evaluate, bound, scale, seconds):
    importlib.import_module("dp_accounting.pld.privacy_loss_distribution")  # seconds that refining must not pay
    parts = _parts(total)
    begin = last = _clock(seconds)
    # rounding errors add up like the root of the number of mechanisms
    first = max(scale, 1e-3) / (20 * math.sqrt(sum(count for _, count in parts)))
    best, interval = bound, min(first, 100.0)
    while True:
        try:
            with np.errstate(all="ignore"):
                value = evaluate(_composed(parts, interval))
        except (ArithmeticError, ValueError, IndexError, MemoryError):
            # the library's own arithmetic has ends; what was found before them holds
            return best, interval * _REFINEMENT if best < bound else math.nan
        if not value >= 0:
            return best, interval * _REFINEMENT if best < bound else math.nan
        settled = abs(best - value) <= TOLERANCE * value and value < bound
        best = min(best, value)
        now = _clock(seconds)
        if settled or best == 0 or max(now - begin + _REFINEMENT * 1.5 * (now - last)) > 1:
            return best, interval
        last, interval = now, interval / _REFINEMENT


def _clock(seconds):
    """Time on both clocks, in shares of what each allows."""
    return np.array([time.thread_time() / seconds, time.monotonic() / WALL_SECONDS])


def _parts(total):
    """(mechanism, count) pairs: all plain Gaussians as one, noise levels rounded down to a manageable number."""
    counts = Counter()
    squared_mu = 0.0
    costs = list(total.costs)
    coarse = len(costs) > _LEVELS
    for cost, count in costs:
        if cost.kind == FULL:
            squared_mu += count * inverse_square(cost.multiplier)
        else:
            counts[rounded_down(cost, _COARSE_RATIO) if coarse else cost] += count
    parts = [(_sampled(cost), count) for cost, count in counts.items()]
    if squared_mu:
        parts.append((_gaussian(squared_mu ** -0.5), 1))
    return parts + [(_release(event), count) for event, count in total.releases]


def _composed(parts, interval):
    composed = None
    for mechanism, count in parts:
        part = mechanism(interval)
        part = part if count == 1 else part.self_compose(int(count))
        composed = part if composed is None else composed.compose(part)
    return composed


def _gaussian(multiplier):
    return lambda interval: _pair(multiplier, 1.0, interval, False)


def _release(event):
    def build(interval):
        from dp_accounting.pld import common, privacy_loss_distribution
        parameters = common.DifferentialPrivacyParameters(float(event.epsilon), float(event.delta))
        return privacy_loss_distribution.from_privacy_parameters(parameters, interval)
    return build


def _sampled(cost):
    if cost.kind == FIXED_SIZE:
        return lambda interval: _without_replacement(cost.rate, cost.multiplier, interval)
    if cost.group > 1:
        return lambda interval: _mixture(cost, interval)
    replace = cost.relation == REPLACE_ONE
    multiplier = cost.multiplier * (cost.spread if replace else 1.0)

    def build(interval):
        ordinary = _pair(multiplier, cost.rate, interval, replace)
        if cost.overflow is None or cost.overflow.probability == 0:
            return ordinary
        worse = _pair(multiplier / cost.overflow.distance, cost.overflow.rate, interval, replace)
        return worse.compute_mixture(ordinary, float(cost.overflow.probability))
    return build


def _mixture(cost, interval):
    """Of a user's examples; the accountant sets aside what cut batches add."""
    from dp_accounting.pld import privacy_loss_distribution
    return privacy_loss_distribution.from_mixture_gaussian_mechanism(
        standard_deviation=float(cost.multiplier), sensitivities=[float(j) for j in range(cost.group + 1)],
        sampling_probs=[float(p) for p in np.exp(binomial_weights(cost.rate, cost.group))],
        value_discretization_interval=float(interval))


def _pair(multiplier, rate, interval, replace):
    from dp_accounting import NeighboringRelation
    from dp_accounting.pld import privacy_loss_distribution
    relation = NeighboringRelation.REPLACE_ONE if replace else NeighboringRelation.ADD_OR_REMOVE_ONE
    return privacy_loss_distribution.from_gaussian_mechanism(
        standard_deviation=float(multiplier), sensitivity=1.0, sampling_prob=float(rate),
        value_discretization_interval=float(interval), neighboring_relation=relation)


def _without_replacement(rate, multiplier, interval):
    """The symmetric profile that dominates a fixed-size batch under replace-one, by connecting its dots."""
    from dp_accounting.pld import pld_pmf, privacy_loss_distribution
    largest = int(math.ceil(_largest_loss(rate, multiplier) / interval)) + 1
    steps = np.arange(-largest, largest + 1)
    deltas = _profile(steps * interval, rate, multiplier)
    pmf = pld_pmf.create_pmf_pessimistic_connect_dots(interval, steps, deltas)
    return privacy_loss_distribution.PrivacyLossDistribution(pmf)


def _largest_loss(rate, multiplier):
    """Loss ten standard deviations out, in the direction that holds the record."""
    unsampled = (0.5 + 10.0 * multiplier + 0.5) / multiplier ** 2
    return float(np.logaddexp(math.log1p(-rate) if rate < 1 else -np.inf, math.log(rate) + unsampled))


def _profile(epsilons, rate, multiplier):
    """Hockey-stick bound at every epsilon: q H(base) above 0, and its mirror image below."""
    size = np.abs(epsilons)
    # log(1 + (exp(size) - 1) / rate) without overflow
    base = np.where(size < 30, np.log1p(np.expm1(np.minimum(size, 30.0)) / rate), size - math.log(rate))
    mu = 1 / multiplier
    first = log_ndtr(mu / 2 - base / mu)
    gap = np.minimum(base + log_ndtr(-mu / 2 - base / mu) - first, 0.0)
    upper = rate * np.exp(first) * -np.expm1(gap)
    lower = -np.expm1(-size) + np.exp(-size) * upper
    return np.minimum.accumulate(np.clip(np.where(epsilons >= 0, upper, lower), 0.0, 1.0))
