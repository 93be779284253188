"""Readings of gradient canaries: their scores, and tests of the mechanism that made them. No MindSpore.

A reading is the noised gradient of one canary's coordinate in one step, in units of the bound: 1 if the canary took
part, else 0, plus the noise multiplier times a standard normal. Canaries that the coins left out read pure noise.

References:
    Steinke et al. 2023, "Privacy auditing with one (1) training run". Nasr et al. 2023, "Tight auditing of
    differentially private machine learning".
"""
from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Optional

import numpy as np
from scipy.stats import chi2, norm, t

from mindarmour.privacy.auditing.result import Check
from mindarmour.utils import _validate

_SURE = 0.8416212335729143  # normal quantile of 0.8
_BLOCK = 512
_MOST_EXPONENT = 700.0


@dataclass(frozen=True)
class ParameterNoise:
    """What the coordinates without a canary read, once the records' own gradient is subtracted: noise alone.

    Args:
        squares (numpy.ndarray): Sum of squares of each step and Parameter [T, P], in units of the bound.
        counts (numpy.ndarray): Coordinates of each Parameter [P], at least 1.
        names (tuple[str]): Of the Parameters.
    """

    squares: np.ndarray
    counts: np.ndarray
    names: tuple[str, ...]

    def check(self, multipliers: np.ndarray, alpha: float) -> Check:
        """Squares about zero are chi squared in each Parameter; the oddest one, times the number of them."""
        totals = (self.squares / multipliers[:, np.newaxis] ** 2).sum(axis=0)
        degrees = self.counts * len(multipliers)
        p_values = 2 * np.minimum(chi2.cdf(totals, degrees), chi2.sf(totals, degrees))
        oddest = int(np.argmin(p_values))
        return Check("noise of each parameter", math.sqrt(totals[oddest] / degrees[oddest]), 1.0,
                     float(min(1.0, p_values[oddest] * len(p_values))), alpha,
                     f"noise over the claimed one in the parameter where it is oddest: {self.names[oddest]}")


@dataclass(frozen=True)
class Readings:
    """What canaries read over a run.

    Args:
        values (numpy.ndarray): Steps by canaries [T, m], in units of what each canary was clipped to.
        multipliers (numpy.ndarray): Claimed noise multiplier of each step [T], > 0.
        is_in (numpy.ndarray): The coins [m], bool.
        rate (float): Claimed probability that a canary that is in takes part in a step, in (0, 1].
        steps_per_epoch (int, optional): For samplers that use a record once an epoch; None for Poisson sampling.
        shares (numpy.ndarray, optional): Share of the bound that each canary was clipped to [m]; None for all of it.
        parameters (ParameterNoise, optional): Noise of each Parameter, where it was read.

    Raises:
        ValueError: Shapes that differ, readings that are not finite, fewer than two canaries on a side.
    """

    values: np.ndarray
    multipliers: np.ndarray
    is_in: np.ndarray
    rate: float
    steps_per_epoch: Optional[int] = None
    shares: Optional[np.ndarray] = None
    parameters: Optional[ParameterNoise] = None

    def __post_init__(self) -> None:
        values = np.asarray(self.values, np.float64)
        multipliers, is_in = np.asarray(self.multipliers, np.float64), np.asarray(self.is_in, bool)
        if values.ndim != 2 or not len(values) or multipliers.shape != values.shape[:1] \
                or is_in.shape != values.shape[1:]:
            raise ValueError(f"values must be steps by canaries, beside one multiplier per step and one coin per "
                             f"canary, but got shapes {values.shape}, {multipliers.shape} and {is_in.shape}.")
        if not np.isfinite(values).all() or not (multipliers > 0).all():
            raise ValueError("values must be finite and multipliers above 0, but some are not. Without noise there is "
                             "no claim to audit.")
        if min(is_in.sum(), (~is_in).sum()) < 2:
            raise ValueError(f"is_in must leave at least two canaries on each side, but {int(is_in.sum())} of "
                             f"{len(is_in)} are in. Take more canaries.")
        _validate.real("rate", self.rate, low=0, high=1, closed="high")
        for name, value in (("values", values), ("multipliers", multipliers), ("is_in", is_in)):
            object.__setattr__(self, name, value)

    def scores(self) -> np.ndarray:
        """Log likelihood ratio of "in" against "out" of each canary [m], computed without the coins."""
        variances = self._relative ** 2
        exponents = np.minimum((2 * self.values - 1) / (2 * variances), _MOST_EXPONENT)
        if self.steps_per_epoch is None:
            return np.log1p(self.rate * np.expm1(exponents)).sum(axis=0)
        starts = np.arange(0, len(exponents), self.steps_per_epoch)
        return np.log1p(np.add.reduceat(np.expm1(exponents), starts, axis=0) / self.steps_per_epoch).sum(axis=0)

    def checks(self, alpha: float) -> tuple[Check, ...]:
        """Tests of the mechanism that share `alpha` equally.

        Guarantee: where the claim is true, one of them fails with probability at most about `alpha`: the tests of
        means and of lag 1 use the normal distribution for sums of thousands of readings.
        """
        multipliers = np.broadcast_to(self._relative, self.values.shape)
        noise = (self.values / multipliers)[:, ~self.is_in]
        tests = [_noise_multiplier, _excluded, _each_step, _lag, _repeats] if len(noise) > 1 \
            else [_noise_multiplier, _excluded]
        share = alpha / (len(tests) + (1 if self.parameters is None else 2))
        scale = float(np.sqrt(np.mean(multipliers[:, ~self.is_in] ** 2)))
        each = () if self.parameters is None else (self.parameters.check(self.multipliers, share),)
        return (*(test(noise, scale, share) for test in tests), self._sampling_rate(multipliers, share), *each)

    @property
    def _relative(self) -> np.ndarray:
        """Noise multiplier in units of what each canary was clipped to, [T, 1] or [T, m]."""
        return self.multipliers[:, np.newaxis] / (1.0 if self.shares is None else self.shares)

    def _sampling_rate(self, multipliers: np.ndarray, alpha: float) -> Check:
        included = self.values[:, self.is_in]
        variance = float(np.mean(multipliers[:, self.is_in] ** 2)) + self.rate * (1 - self.rate)
        deviation = math.sqrt(variance / included.size)
        mean = float(included.mean())
        return Check("sampling rate", mean, self.rate, _two_sided((mean - self.rate) / deviation), alpha,
                     "also moves if the bound or the divisor is not the claimed one")


def _two_sided(z: float) -> float:
    return float(2 * norm.sf(abs(z)))


def _noise_multiplier(noise: np.ndarray, scale: float, alpha: float) -> Check:
    """Squares of excluded readings about zero: exactly chi squared."""
    total = float((noise ** 2).sum())
    p_value = 2 * min(chi2.cdf(total, noise.size), chi2.sf(total, noise.size))
    lost = (norm.isf(alpha / 2) + _SURE) / math.sqrt(2 * noise.size)
    return Check("noise multiplier", scale * math.sqrt(total / noise.size), scale, min(1.0, float(p_value)), alpha,
                 power=1 / (1 - lost) if lost < 1 else None)


def _excluded(noise: np.ndarray, scale: float, alpha: float) -> Check:
    """Canaries that are out must read zero on average."""
    z = float(noise.sum()) / math.sqrt(noise.size)
    return Check("excluded canaries", scale * float(noise.mean()), 0.0, _two_sided(z), alpha,
                 "moves if the mask is ignored")


def _each_step(noise: np.ndarray, scale: float, alpha: float) -> Check:
    """The noise must be the same in every step, whatever it is: a divisor that follows the batch changes it.

    Cube roots of chi squared are close to normal (Wilson, Hilferty).
    """
    count = noise.shape[1]
    roots = (noise ** 2).mean(axis=1) ** (1 / 3)
    total = float(((roots / roots.mean() - 1) ** 2).sum()) / (2 / (9 * count))
    degrees = len(noise) - 1
    return Check("noise of each step", math.sqrt(total / degrees), 1.0, float(chi2.sf(total, degrees)), alpha,
                 "scatter between steps over the scatter of equal noise; moves if the divisor depends on the batch")


def _lag(noise: np.ndarray, scale: float, alpha: float) -> Check:
    """Noise of one step must tell nothing about that of the next."""
    products = noise[1:] * noise[:-1]
    z = float(products.sum()) / math.sqrt(products.size)
    return Check("correlation of steps", float(products.mean()), 0.0, _two_sided(z), alpha)


def _repeats(noise: np.ndarray, scale: float, alpha: float) -> Check:
    """No two steps may share noise: the largest correlation of two steps, exact for Gaussian noise."""
    count, steps = noise.shape[1], len(noise)
    unit = noise / np.maximum(np.linalg.norm(noise, axis=1, keepdims=True), 1e-300)
    largest = 0.0
    for start in range(0, steps, _BLOCK):
        products = np.abs(unit[start:start + _BLOCK] @ unit.T)
        products[np.arange(len(products)), np.arange(start, start + len(products))] = 0.0
        largest = max(largest, float(products.max()))
    squared = min(largest ** 2, 1 - 1e-15)
    tail = 2 * t.sf(math.sqrt(squared * (count - 1) / (1 - squared)), count - 1)
    return Check("repeated readings", largest, 0.0, float(min(1.0, tail * steps * (steps - 1) / 2)), alpha,
                 "largest correlation of two steps; moves if noise is used twice")
