"""What shuffled batches provably leak: a lower bound of epsilon, to set beside the upper one.

One attack, analysed exactly. All other records contribute -1 (times the clipping bound), the differing one +1 or
nothing; the attacker looks at the largest batch sum of each epoch. It lies around 2 or around 1, on top of the
largest of t - 1 pure noises. Whatever accountant claims less than this attack achieves is wrong.

References:
    Chua et al. 2024, "How private are DP-SGD implementations?", section 4 (the worst-case data set).
"""
from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable

import numpy as np
from scipy.special import log_ndtr

from mindarmour.privacy.accounting.accountant import LOWER_BOUND, PrivacySpent
from mindarmour.privacy.accounting.curves.rdp import check_delta
from mindarmour.privacy.accounting.events import SHUFFLE, ZERO_OUT, StepEvent
from mindarmour.privacy.accounting.ledger import LedgerEntry

_POINTS = 4000  # bins of the largest sum; any binning is post-processing, so the bound stays one
_LOSSES = 2 ** 17  # bins of the composed loss, rounded down
_NEGLIGIBLE = 1e-18  # probability of a bin that is left out, which only makes the bound smaller
_FOURIER_ERROR = 1e-13


def shuffle_lower_bound(entries: Iterable[LedgerEntry], delta: float) -> PrivacySpent:
    """Epsilon that one attack proves against the whole epochs of a shuffled partition.

    Args:
        entries (sequence[LedgerEntry]): Ledger entries; all but shuffled ones with units of one example are left
            out, as are epochs that did not run to their end, which only makes the bound smaller.
        delta (float): In (0, 1).

    Returns:
        PrivacySpent of kind 'lower-bound', under zero-out.
    """
    delta = check_delta(delta)
    epochs = _whole_epochs(entries)
    epsilon = _epsilon(epochs, delta) if epochs else 0.0
    return PrivacySpent(epsilon, delta, "attack", SHUFFLE, ZERO_OUT, LOWER_BOUND,
                        "an attack on the largest batch sum of each epoch achieves this")


def _whole_epochs(entries):
    """Counter of (multiplier, batches) over epochs; the most noise of an epoch stands for all of it."""
    steps, noise = Counter(), {}
    for entry in entries:
        sampling = entry.event.sampling
        independent = isinstance(entry.event, StepEvent)  # the attack knows nothing of correlated noise
        if sampling.kind == SHUFFLE and independent and entry.event.examples_per_unit == 1:
            key = (entry.epoch, sampling)
            steps[key] += entry.steps
            noise[key] = max(noise.get(key, 0.0), entry.event.noise_multiplier)
    epochs = Counter()
    for key, count in steps.items():
        batches = key[1].steps_per_epoch
        epochs[noise[key], batches] += count // batches
    return {kind: count for kind, count in epochs.items() if count > 0}


def _epsilon(epochs, delta):
    if any(multiplier == 0 for multiplier, _ in epochs):
        return math.inf
    pairs = [(*_largest_sum(multiplier, batches), count) for (multiplier, batches), count in epochs.items()]
    low = sum(count * losses.min() for losses, _, count in pairs)
    high = sum(count * losses.max() for losses, _, count in pairs)
    grid = max(high - low, 1e-9) / (_LOSSES // 2)
    spectrum, offset = 1.0, 0
    for losses, weights, count in pairs:
        bins = np.floor(losses / grid).astype(int)
        start = int(bins.min())
        mass = np.bincount(bins - start, weights, _LOSSES)
        spectrum, offset = spectrum * np.fft.rfft(mass) ** count, offset + count * start
    composed = np.maximum(np.fft.irfft(spectrum, _LOSSES) - _FOURIER_ERROR / _LOSSES, 0.0)
    return _crossing((np.arange(_LOSSES) + offset) * grid, composed, delta + _FOURIER_ERROR)


def _largest_sum(multiplier, batches):
    """(log ratios, probabilities with the record) of binned values of the largest sum."""
    edges = np.linspace(-4 * multiplier, 2 + 9 * multiplier, _POINTS)
    others = (batches - 1) * log_ndtr(edges / multiplier)
    masses = []
    for centre in (2.0, 1.0):
        below = np.exp(log_ndtr((edges - centre) / multiplier) + others)
        above = -np.expm1(log_ndtr((edges - centre) / multiplier) + others)
        # differences of whichever tail is small, so that the far bins keep their digits
        masses.append(np.concatenate([[below[0]], np.where(below[1:] < 0.5, np.diff(below), -np.diff(above)),
                                      [above[-1]]]))
    seen = (masses[0] > _NEGLIGIBLE) & (masses[1] > 1e-300)
    return np.log(masses[0][seen] / masses[1][seen]), masses[0][seen]


def _crossing(losses, weights, delta):
    """Largest epsilon whose delta, the sum of weights (1 - exp(epsilon - loss)) over larger losses, is above."""
    low, high = 0.0, max(0.0, float(losses[-1]))

    def delta_at(epsilon):
        larger = losses > epsilon
        return float(np.sum(weights[larger] * -np.expm1(epsilon - losses[larger])))
    if delta_at(0.0) <= delta:
        return 0.0
    for _ in range(100):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if delta_at(middle) > delta else (low, middle)
    return low
