"""Continuous noise rounded to a grid exactly: normals, and vectors with density proportional to exp(-|b| / scale).

The latter have a direction that is uniform on the sphere and a norm with a Gamma law. What is wanted is the whole
number of grid steps below each coordinate, as if it were computed from infinitely many random bits. So every number
here is an interval that encloses it: uniform numbers are known by their leading bits, logarithm and root are correctly
rounded decimals, widened outward. If an interval contains a grid point, all uniform numbers get more bits and the
calculation is done again. The result is therefore a rounding of the continuous mechanism that was proven, with every
grid point in its support. It costs about a quarter of a millisecond per coordinate, for the weights of linear models.

References:
    Haney et al. 2022, "Precision-based attacks and interval refining: how to break, then fix, differential privacy on
    finite computers".
    Marsaglia, Bray 1964, "A convenient method for generating normal variables" (the polar method).
"""
from __future__ import annotations

import decimal
import math
from dataclasses import dataclass
from decimal import Decimal
from typing import Optional

import numpy as np

from mindarmour.utils.secure_random import SecureStream

_FIRST_BITS = 192


@dataclass(frozen=True)
class _Interval:
    """Encloses a number of at least 0."""

    low: Decimal
    high: Decimal

    def __add__(self, other: _Interval) -> _Interval:
        return _Interval(self.low + other.low, self.high + other.high).wider()

    def __mul__(self, other: _Interval) -> _Interval:
        return _Interval(self.low * other.low, self.high * other.high).wider()

    def over(self, other: _Interval) -> _Interval:
        """Quotient; unbounded where the divisor may be 0."""
        high = self.high / other.low if other.low else Decimal("Infinity")
        return _Interval(self.low / other.high, high).wider()

    def root(self) -> _Interval:
        """Square root."""
        return _Interval(self.low.sqrt(), self.high.sqrt()).wider()

    def minus_log(self) -> _Interval:
        """-ln, of a number in (0, 1)."""
        high = -self.low.ln() if self.low else Decimal("Infinity")
        return _Interval(max(Decimal(0), -min(self.high, Decimal(1)).ln()), high).wider()

    def wider(self) -> _Interval:
        """Moved outward by two units in the last place: more than any single operation rounds."""
        return _Interval(max(Decimal(0), self.low.next_minus().next_minus()), self.high.next_plus().next_plus())


class _Uniform:
    """A number in (0, 1) of which only the leading bits are drawn yet."""

    def __init__(self, stream: SecureStream, bits: int) -> None:
        self._stream = stream
        self._bits = self._known = 0
        self.refine(bits)

    def refine(self, bits: int) -> None:
        """Draw so many bits more, rounded up to whole bytes."""
        words = self._stream.words(-(-bits // 64)).tobytes()[:-(-bits // 8)]
        self._known = (self._known << 8 * len(words)) | int.from_bytes(words, "little")
        self._bits += 8 * len(words)

    def interval(self) -> _Interval:
        """What is known of it."""
        unit = Decimal(2) ** -self._bits
        return _Interval(self._known * unit, (self._known + 1) * unit).wider()


def spherical_steps(size: int, scale: float, stream: SecureStream, first_bits: int = _FIRST_BITS) -> np.ndarray:
    """Whole parts (floor) of the coordinates of spherical Laplace noise.

    Args:
        size (int): Dimension, at least 1.
        scale (float): Scale of the noise in steps of the grid.
        stream (SecureStream): Source of randomness.
        first_bits (int): Bits of each uniform number before the first refinement; the law does not depend on it.

    Returns:
        numpy.ndarray, float64 [size] of whole numbers.
    """
    return _steps(size, size, scale, stream, first_bits)


def normal_steps(size: int, scale: float, stream: SecureStream, first_bits: int = _FIRST_BITS) -> np.ndarray:
    """Whole parts (floor) of independent normals of standard deviation `scale`; arguments as `spherical_steps`."""
    return _steps(size, 0, scale, stream, first_bits)


def _steps(size: int, exponentials: int, scale: float, stream: SecureStream, first_bits: int) -> np.ndarray:
    bits, radii = first_bits, [_Uniform(stream, first_bits) for _ in range(exponentials)]
    with decimal.localcontext() as context:
        _set_precision(context, bits)
        pairs = [_pair_in_disc(stream, first_bits) for _ in range(-(-size // 2))]
        while (found := _floors(radii, pairs, scale)) is None:
            bits += first_bits
            _set_precision(context, bits)
            for uniform in (*radii, *(uniform for pair in pairs for uniform in pair)):
                uniform.refine(first_bits)
    signs = stream.words(size) % np.uint64(2) == 1
    found = found[:size]
    return np.where(signs, -found - 1, found)  # floor of the negative number; it is a whole number with probability 0


def _set_precision(context: decimal.Context, bits: int) -> None:
    context.prec = 20 + math.ceil(bits * math.log10(2))
    context.Emax, context.Emin = decimal.MAX_EMAX, decimal.MIN_EMIN


def _pair_in_disc(stream: SecureStream, bits: int) -> tuple[_Uniform, _Uniform]:
    """Absolute values of a point that is uniform in the unit disc."""
    while True:
        pair = _Uniform(stream, bits), _Uniform(stream, bits)
        while (inside := _is_inside(*pair)) is None:
            for uniform in pair:
                uniform.refine(bits)
        if inside:
            return pair


def _is_inside(first: _Uniform, second: _Uniform) -> Optional[bool]:
    """Whether the point lies in the disc; None if the bits do not say."""
    square = _square(first) + _square(second)
    if square.high < 1:
        return True
    return False if square.low > 1 else None


def _square(uniform: _Uniform) -> _Interval:
    known = uniform.interval()
    return known * known


def _floors(radii: list[_Uniform], pairs: list[tuple[_Uniform, _Uniform]], scale: float) -> Optional[np.ndarray]:
    """Whole parts of the coordinates' absolute values; None if an interval contains a grid point."""
    factor = _Interval(Decimal(scale), Decimal(scale)).wider()
    normals = [normal for pair in pairs for normal in _normals(*pair)]
    if radii:
        normals = normals[:len(radii)]
        radius = _sum([uniform.interval().minus_log() for uniform in radii])
        factor = (factor * radius).over(_sum([normal * normal for normal in normals]).root())
    parts = [factor * normal for normal in normals]
    if any(not part.high.is_finite() or int(part.low) != int(part.high) for part in parts):
        return None
    return np.array([float(int(part.low)) for part in parts])


def _sum(intervals: list[_Interval]) -> _Interval:
    total = intervals[0]
    for interval in intervals[1:]:
        total = total + interval
    return total


def _normals(first: _Uniform, second: _Uniform) -> tuple[_Interval, _Interval]:
    """Absolute values of two standard normals, by the polar method."""
    square = _square(first) + _square(second)
    log = square.minus_log()
    factor = (log + log).over(square).root()
    return first.interval() * factor, second.interval() * factor
