"""The sparse vector technique over millions of values at once, in NumPy.

The technique visits the values in random order, lets each pass that exceeds a noisy threshold, releases it
with fresh noise, and stops at the c-th. All values here get noise and verdict at once; the order of the
visit is a random key per value, so the c passing values with the smallest keys are exactly those that a visit
one by one would have released before it stopped. The verdicts of the others are never used.

References:
    Lyu, Su, Li 2017, "Understanding the sparse vector technique for differential privacy", algorithm 7.
    Li et al. 2019, "Privacy-preserving federated brain tumour segmentation", algorithm 1.
"""
from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from mindarmour.privacy.release.discrete import MAX_SCALE, discrete_laplace
from mindarmour.privacy.release.rounding import (
    WHOLE_FLOATS,
    grid_step,
    steps_of_sensitivity,
    with_laplace_noise,
)
from mindarmour.utils.secure_random import SecureStream

_CHUNK = 1 << 16
_MAX_PASSES = 64


@dataclass(frozen=True)
class SparseVector:
    """Sound sparse vector release of the clipped values.

    Magnitudes, threshold and noise are whole numbers of steps of one grid, and the noise is discrete Laplace: a
    comparison can turn out either way whatever the value is, with the probabilities of the proof.

    Args:
        eps_threshold (float): Budget of the noise on the threshold, drawn once.
        eps_query (float): Budget of the noise on the comparisons.
        eps_release (float): Budget of the noise on the released values.
        sensitivity (float): How far two neighbours' clipped values may differ in one place. Magnitudes differ
            by at most half of it, because clipped values lie between -sensitivity / 2 and sensitivity / 2.
        clip (float): Values are clipped to [-clip, clip] before and after the noise.
        threshold (float): Magnitudes below it are meant to stay behind.

    Guarantee:
        (eps_threshold + eps_query + eps_release)-differential privacy of the whole vector, for neighbours
        that are any two vectors: Lyu et al. 2017, theorem 4.
    """

    eps_threshold: float
    eps_query: float
    eps_release: float
    sensitivity: float
    clip: float
    threshold: float

    def scales(self, count: int) -> tuple[float, float, float]:
        """Laplace scales of the noise on the threshold, on the comparisons and on the released values, before the
        sensitivity is rounded up to the grid."""
        magnitude = self.sensitivity / 2
        return (magnitude / self.eps_threshold, 2 * count * magnitude / self.eps_query,
                count * self.sensitivity / self.eps_release)

    def select(self, values: np.ndarray, count: int, stream: SecureStream) -> np.ndarray:
        """Places of the released values: at most `count`, the first that pass in a random order.

        Raises:
            ValueError: The budgets and the clipping bound do not fit one grid; says nothing about the values.
        """
        step, threshold_scale, query_scale = self._grid(count)
        threshold = round(self.threshold / step) + discrete_laplace(threshold_scale, 1, stream)[0]
        passed = passing(values, self.clip, step, threshold, query_scale, stream)
        return first_in_random_order(passed, count, stream)

    def _grid(self, count: int) -> tuple[float, int, int]:
        """Step, and in steps the scales of the noise on the threshold and on the comparisons, rounded up."""
        # coarser than the noise asks for where the values would not be whole 64-bit numbers of steps; the distance
        # is rounded up to whole steps, so that the noise grows with it
        step = max(grid_step(max(self.scales(count)[:2])), grid_step(max(self.clip, self.threshold), 51))
        distance = steps_of_sensitivity(self.sensitivity / 2, step, 1)
        scales = (math.ceil(distance / Fraction(self.eps_threshold)),
                  math.ceil(2 * count * distance / Fraction(self.eps_query)))
        if max(scales) > MAX_SCALE or max(self.clip, self.threshold) / step > WHOLE_FLOATS:
            raise ValueError(f"eps1 = {self.eps_threshold!r} and eps2 = {self.eps_query!r} must be closer to each "
                             f"other, and to gamma = {self.clip!r} and tau = {self.threshold!r}: no grid of 64-bit "
                             "numbers holds all of them.")
        return step, *scales

    def release(self, values: np.ndarray, count: int, stream: SecureStream) -> np.ndarray:
        """The selected values with fresh noise.

        Args:
            values (numpy.ndarray): One-dimensional.
            count (int): The cut-off c that the noise was scaled for.
            stream (SecureStream): Source of the noise.
        """
        values = np.clip(values.astype(np.float64), -self.clip, self.clip)  # in float32 the bound itself is rounded
        return noised(values, self.sensitivity, Fraction(self.eps_release) / count, self.clip, stream)


@dataclass(frozen=True)
class PublishedSparseVector:
    """The listing of Li et al. 2019, kept for comparison; see ModelSanitizer for what it does not protect.

    Args: as for SparseVector. Here every comparison draws its own noise for the threshold, the noise goes
    onto the value before it is clipped, and the visit goes round until the full count has passed.
    """

    eps_threshold: float
    eps_query: float
    eps_release: float
    sensitivity: float
    clip: float
    threshold: float

    def select(self, values: np.ndarray, count: int, stream: SecureStream) -> np.ndarray:
        """Places of the released values: `count`, unless 64 visits of all values leave some missing."""
        query = 2 * count * self.sensitivity / self.eps_query
        step = grid_step(max(query, self.sensitivity / self.eps_threshold))
        scales = [max(1, round(scale / step)) for scale in (query, self.sensitivity / self.eps_threshold)]
        chosen = np.empty(0, np.int64)
        left = np.arange(len(values))
        for _ in range(_MAX_PASSES):
            missing = count - len(chosen)
            if missing == 0:
                break
            passed = passing(values[left], self.clip, step, round(self.threshold / step), scales[0], stream, scales[1])
            passed = first_in_random_order(passed, missing, stream)
            chosen = np.concatenate([chosen, left[passed]])
            left = np.delete(left, passed)
        return chosen

    def release(self, values: np.ndarray, count: int, stream: SecureStream) -> np.ndarray:
        """The selected values, noised before they are clipped."""
        return noised(values, self.sensitivity, Fraction(self.eps_release) / count, self.clip, stream)


def passing(values: np.ndarray, clip: float, step: float, threshold: int, scale: int, stream: SecureStream,
            threshold_scale: int = 0) -> np.ndarray:
    """Places whose noised clipped magnitude reaches the threshold.

    Args:
        values (numpy.ndarray): One-dimensional.
        clip (float): Bound of the magnitudes.
        step (float): Step of the grid to which magnitudes are rounded.
        threshold (int): What has to be reached, in steps.
        scale (int): Scale, in steps, of the discrete Laplace noise on each magnitude.
        stream (SecureStream): Source of the noise.
        threshold_scale (int): Scale of noise drawn anew for the threshold of each comparison; 0 for none.

    Returns:
        numpy.ndarray of int64, ascending.
    """
    found = []
    for start in range(0, len(values), _CHUNK):
        magnitude = np.minimum(np.abs(values[start:start + _CHUNK].astype(np.float64)), clip)
        steps = np.rint(magnitude / step).astype(np.int64) + discrete_laplace(scale, len(magnitude), stream)
        if threshold_scale:
            steps -= discrete_laplace(threshold_scale, len(magnitude), stream)
        found.append(np.flatnonzero(steps >= threshold) + start)
    return np.concatenate(found) if found else np.empty(0, np.int64)


def first_in_random_order(places: np.ndarray, count: int, stream: SecureStream) -> np.ndarray:
    """The `count` places that come first when each gets a random 64-bit time of its visit, ascending."""
    if len(places) <= count:
        return places
    times = stream.words(len(places))
    return np.sort(places[np.argpartition(times, count)[:count]])


def noised(values: np.ndarray, sensitivity: float, epsilon: Fraction, clip: float, stream: SecureStream) -> np.ndarray:
    """Laplace noise on the grid, then clipped, chunk by chunk so that it stays in the processor's cache."""
    out = np.empty(len(values), np.float64)
    for start in range(0, len(values), _CHUNK):
        part = slice(start, start + _CHUNK)
        out[part] = np.clip(with_laplace_noise(values[part], sensitivity, epsilon, 1, stream), -clip, clip)
    return out
