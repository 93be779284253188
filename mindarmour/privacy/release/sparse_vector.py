"""The sparse vector technique over millions of values at once, in NumPy.

The technique visits the values in random order, lets each pass that exceeds a noisy threshold, releases it
with fresh noise, and stops at the c-th. All values here get noise and verdict at once; the order of the
visit is a random key per value, so the c passing values with the smallest keys are exactly those that a visit
one by one would have released before it stopped. The verdicts of the others are never used.

References:
    Lyu, Su, Li 2017, "Understanding the sparse vector technique for differential privacy", algorithm 7.
    Li et al. 2019, "Privacy-preserving federated brain tumour segmentation", algorithm 1.
"""
from dataclasses import dataclass

import numpy as np

from mindarmour.privacy.release.rounding import grid_step, inflated, round_to

_CHUNK = 1 << 16
_MAX_PASSES = 64


@dataclass(frozen=True)
class SparseVector:
    """Sound sparse vector release of the clipped values.

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

    def scales(self, count):
        """Laplace scales of the noise on the threshold, on the comparisons and on the released values."""
        magnitude = self.sensitivity / 2
        step = grid_step(count * self.sensitivity / self.eps_release)
        return (magnitude / self.eps_threshold, 2 * count * magnitude / self.eps_query,
                count * inflated(self.sensitivity, step, 1, 1) / self.eps_release)

    def select(self, values, count, stream):
        """Places of the released values: at most `count`, the first that pass in a random order."""
        threshold_scale, query_scale, _ = self.scales(count)
        threshold = self.threshold + threshold_scale * stream.laplace(1)[0]
        return first_in_random_order(passing(values, self.clip, threshold, query_scale, stream), count, stream)

    def release(self, values, count, stream):
        """The selected values with fresh noise.

        Args:
            values (numpy.ndarray): One-dimensional.
            count (int): The cut-off c that the noise was scaled for.
            stream (SecureStream): Source of the noise.
        """
        step = grid_step(count * self.sensitivity / self.eps_release)
        return noised(np.clip(values, -self.clip, self.clip), self.scales(count)[2], step, self.clip, stream)


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

    def select(self, values, count, stream):
        """Places of the released values: `count`, unless 64 visits of all values leave some missing."""
        chosen = np.empty(0, np.int64)
        left = np.arange(len(values))
        for _ in range(_MAX_PASSES):
            missing = count - len(chosen)
            if missing == 0:
                break
            scale = 2 * count * self.sensitivity / self.eps_query
            passed = passing(values[left], self.clip, self.threshold, scale, stream,
                             threshold_scale=self.sensitivity / self.eps_threshold)
            passed = first_in_random_order(passed, missing, stream)
            chosen = np.concatenate([chosen, left[passed]])
            left = np.delete(left, passed)
        return chosen

    def release(self, values, count, stream):
        """The selected values, noised before they are clipped."""
        scale = count * self.sensitivity / self.eps_release
        return noised(values, scale, grid_step(scale), self.clip, stream)


def passing(values, clip, threshold, scale, stream, threshold_scale=0.0):
    """Places whose noised clipped magnitude reaches the threshold.

    Args:
        values (numpy.ndarray): One-dimensional.
        clip (float): Bound of the magnitudes.
        threshold (float): What has to be reached.
        scale (float): Laplace scale of the noise on each magnitude.
        stream (SecureStream): Source of the noise.
        threshold_scale (float): Laplace scale of noise drawn anew for the threshold of each comparison.

    Returns:
        numpy.ndarray of int64, ascending.
    """
    found = []
    for start in range(0, len(values), _CHUNK):
        magnitude = np.minimum(np.abs(values[start:start + _CHUNK].astype(np.float64)), clip)
        magnitude += scale * stream.laplace(len(magnitude))
        if threshold_scale:
            magnitude -= threshold_scale * stream.laplace(len(magnitude))
        found.append(np.flatnonzero(magnitude >= threshold) + start)
    return np.concatenate(found) if found else np.empty(0, np.int64)


def first_in_random_order(places, count, stream):
    """The `count` places that come first when each gets a random 64-bit time of its visit, ascending."""
    if len(places) <= count:
        return places
    times = stream.words(len(places))
    return np.sort(places[np.argpartition(times, count)[:count]])


def noised(values, scale, step, clip, stream):
    """Laplace noise on the grid, then clipped, chunk by chunk so that it stays in the processor's cache."""
    out = np.empty(len(values), np.float64)
    for start in range(0, len(values), _CHUNK):
        part = slice(start, start + _CHUNK)
        noise = round_to(scale * stream.laplace(len(values[part])), step)
        out[part] = np.clip(round_to(values[part], step) + noise, -clip, clip)
    return out
