"""Exact samplers of the discrete Laplace and the discrete Gaussian distribution, vectorised.

All probabilities are ratios of integers below 2**63 and are met exactly by uniform integers from the secure stream:
there is no floating-point number between the stream and the sample, and every integer can come out.

References:
    Canonne, Kamath, Steinke 2020, "The discrete Gaussian for differential privacy", algorithms 1 to 3, theorem 4.
"""
from __future__ import annotations

from typing import Callable

import numpy as np

from mindarmour.utils.secure_random import SecureStream

MAX_SCALE = 2 ** 52
MAX_STDDEV = 2 ** 26
# Beyond so many steps, at least 32 standard deviations, a Gaussian proposal is never taken: squares stay in int64.
_FAR = 2 ** 31
_CHUNK = 1 << 16


def discrete_laplace(scale: int, size: int, stream: SecureStream) -> np.ndarray:
    """Integers k with probabilities proportional to exp(-|k| / scale).

    Args:
        scale (int): From 1 to 2**52.
        size (int): How many.
        stream (SecureStream): Source of randomness.

    Returns:
        numpy.ndarray, int64 [size].

    Examples:
        >>> from mindarmour.utils.secure_random import SecureStream
        >>> discrete_laplace(2 ** 40, 3, SecureStream()).shape
        (3,)
    """
    if not 1 <= scale <= MAX_SCALE:
        raise ValueError(f"scale must be an int from 1 to 2**52, but got {scale!r}.")
    return _collected(lambda count: _laplace_candidates(scale, count, stream), size, 0.63)


def discrete_gaussian(stddev: int, size: int, stream: SecureStream) -> np.ndarray:
    """Integers k with probabilities proportional to exp(-k^2 / (2 stddev^2)).

    Args:
        stddev (int): From 1 to 2**26.
        size (int): How many.
        stream (SecureStream): Source of randomness.

    Returns:
        numpy.ndarray, int64 [size]. Values beyond 2**31, 32 and more standard deviations away, are left out; their
        probability is below e**-500.
    """
    if not 1 <= stddev <= MAX_STDDEV:
        raise ValueError(f"stddev must be an int from 1 to 2**26, but got {stddev!r}.")
    return _collected(lambda count: _gaussian_candidates(stddev, count, stream), size, 0.47)


def bernoulli_exp(numerators: np.ndarray, denominator: int, stream: SecureStream) -> np.ndarray:
    """True with probability exp(-numerator / denominator), for each numerator from 0 to the denominator.

    Draws K, the number of the first failure of independent trials with probabilities gamma / 1, gamma / 2, ...; K is
    odd with probability exp(-gamma) (algorithm 1 of the paper).
    """
    result = np.zeros(len(numerators), bool)
    alive = np.arange(len(numerators))
    trial = 1
    while len(alive):
        success = stream.integers(denominator * trial, len(alive)) < numerators[alive]
        result[alive[~success]] = trial % 2
        alive = alive[success]
        trial += 1
    return result


def geometric(size: int, stream: SecureStream) -> np.ndarray:
    """Integers v from 0 with probability (1 - 1/e) exp(-v): successes of Bernoulli(1/e) before the first failure."""
    counts = np.zeros(size, np.int64)
    alive = np.arange(size)
    while len(alive):
        alive = alive[bernoulli_exp(np.ones(len(alive), np.int64), 1, stream)]
        counts[alive] += 1
    return counts


def _laplace_candidates(scale: int, count: int, stream: SecureStream) -> np.ndarray:
    """The part of `count` candidates that algorithm 2 accepts: a fraction u of the scale, and whole scales v."""
    rest = stream.integers(scale, count)
    rest = rest[bernoulli_exp(rest, scale, stream)]
    magnitude = rest + scale * geometric(len(rest), stream)
    negative = stream.words(len(rest)) % np.uint64(2) == 1
    accepted = ~(negative & (magnitude == 0))  # 0 must not come out twice as often
    return np.where(negative, -magnitude, magnitude)[accepted]


def _gaussian_candidates(stddev: int, count: int, stream: SecureStream) -> np.ndarray:
    """The part of `count` discrete Laplace proposals that algorithm 3 accepts."""
    proposals = discrete_laplace(stddev, count, stream)
    proposals = proposals[np.abs(proposals) <= _FAR]
    exponent, denominator = (np.abs(proposals) - stddev) ** 2, 2 * stddev ** 2
    accepted = geometric(len(proposals), stream) >= exponent // denominator  # exp(-whole part)
    accepted &= bernoulli_exp(exponent % denominator, denominator, stream)
    return proposals[accepted]


def _collected(candidates: Callable[[int], np.ndarray], size: int, share: float) -> np.ndarray:
    """Accepted candidates, chunk by chunk so that they stay in the processor's cache."""
    out = np.empty(size, np.int64)
    done = 0
    while done < size:
        accepted = candidates(min(_CHUNK, int((size - done) / share) + 16))[:size - done]
        out[done:done + len(accepted)] = accepted
        done += len(accepted)
    return out
