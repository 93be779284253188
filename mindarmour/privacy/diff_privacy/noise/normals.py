"""Standard normal float32 numbers from a cryptographic stream, a tenth of the time that inversion in float64 takes.

Box and Muller: two uniform words u, v give sqrt(-2 ln u) cos(2 pi v) and sqrt(-2 ln u) sin(2 pi v), independent.
The loop is the same for every value but those in the tail (one pair in 4,096), so its time says next to nothing about
what was drawn.

References:
    Box, Muller 1958, "A note on the generation of random normal deviates".
"""
from __future__ import annotations

import numpy as np

from mindarmour.utils.secure_random import SecureStream

# Pairs drawn at once: their arrays stay in the processor's cache.
_PAIRS = 2 ** 15
# Below this word 32 bits are too coarse: the radius gets 32 more, and reaches 9.4 instead of 6.7.
_TAIL = np.uint32(2 ** 20)
_UNIT = np.float32(2.0 ** -32)
_ANGLE = np.float32(2.0 * np.pi * 2.0 ** -32)


def standard_normals(stream: SecureStream, count: int) -> np.ndarray:
    """`count` independent standard normal float32 numbers.

    Args:
        stream (SecureStream): Where the random words come from; no word serves two calls.
        count (int): How many.

    Returns:
        numpy.ndarray, float32, [count], in memory of its own: a device may still read the last draw.

    Guarantee:
        Of 64 (in the tail 96) random bits a pair. Values reach 9.4 standard deviations; the mass beyond is 1e-20.
    """
    normals = np.empty(count, np.float32)
    scratch = _Scratch(max(1, min(_PAIRS, -(-count // 2))))
    for start in range(0, count, 2 * scratch.pairs):
        scratch.pair_up(stream, normals[start:start + 2 * scratch.pairs])
    return normals


class _Scratch:
    """Arrays of one call; not shared, so that threads need no lock."""

    def __init__(self, pairs: int) -> None:
        self.pairs = pairs
        self._words = np.empty(2 * pairs, np.uint32)
        self._radius, self._angle, self._cosine = (np.empty(pairs, np.float32) for _ in range(3))

    def pair_up(self, stream: SecureStream, out: np.ndarray) -> None:
        """Fill `out`, of at most twice `pairs` places: cosines first, then sines."""
        stream.fill(self._words)
        words, turns = np.split(self._words, 2)
        radius, angle, cosine = self._radius, self._angle, self._cosine
        self._to_radius(stream, words)
        np.multiply(turns.view(np.int32), _ANGLE, out=angle, casting="unsafe", dtype=np.float32)
        np.cos(angle, out=cosine)
        np.sin(angle, out=angle)
        first = -(-len(out) // 2)
        np.multiply(radius[:first], cosine[:first], out=out[:first])
        rest = len(out) - first
        np.multiply(radius[:rest], angle[:rest], out=out[first:])

    def _to_radius(self, stream: SecureStream, words: np.ndarray) -> None:
        radius = self._radius
        np.multiply(words, _UNIT, out=radius, casting="unsafe", dtype=np.float32)
        tail = np.flatnonzero(words < _TAIL)
        radius[tail] = 0.5
        np.log(radius, out=radius)
        np.multiply(radius, np.float32(-2.0), out=radius)
        np.sqrt(radius, out=radius)
        if len(tail):
            finer = np.empty(len(tail), np.uint32)
            stream.fill(finer)
            uniform = (words[tail] * 2.0 ** 32 + finer + 0.5) * 2.0 ** -64
            radius[tail] = np.sqrt(-2.0 * np.log(uniform))
