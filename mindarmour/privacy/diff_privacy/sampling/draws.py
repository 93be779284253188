"""Who is drawn, at the cost of those who are: exact Poisson draws and subsets, never a number per record.

Poisson sampling by its gaps. Between two records that are drawn lie G that are not, P(G >= g) = (1 - q)^g, which is
G = floor(ln U / ln(1 - q)) for U uniform in (0, 1). U is a real number whose binary digits come from the stream: its
first 64 confine it to an interval. Where the whole interval, widened by the rounding errors of float64, gives one G,
that is the G of every real number in it. Elsewhere (some gaps in 10^8) further digits are drawn and the same is
decided in decimal arithmetic of so many digits that the interval decides. So the distribution is exact: no draw
depends on how a float was rounded.

References:
    Devroye 1986, "Non-uniform random variate generation", section X.2 (geometric variates by inversion).
"""
from __future__ import annotations

import math
from decimal import ROUND_FLOOR, Context, Decimal
from fractions import Fraction
from functools import lru_cache

import numpy as np

from mindarmour.utils.secure_random import SecureStream

_BITS = 64
# Words below are left to the exact way: there the 64 digits say too little of U.
_SMALL = np.uint64(2 ** 32)
_EXTRA_DIGITS = 30
# Relative error of U as a float64, and of the quotient of logarithms: 2^-52 and a few, taken many times as large.
_U_ERROR, _QUOTIENT_ERROR = 2.0 ** -49, 2.0 ** -47


def poisson_draw(count: int, rate: Fraction, stream: SecureStream) -> np.ndarray:
    """Each of the records 0 .. count - 1 independently with probability `rate`, exactly.

    Args:
        count (int): Records, of which memory and time are independent.
        rate (Fraction): In (0, 1].
        stream (SecureStream): Source of the draws.

    Returns:
        numpy.ndarray, int64, the records that were drawn, in ascending order.

    Examples:
        >>> from fractions import Fraction
        >>> from mindarmour.privacy.diff_privacy.sampling.draws import poisson_draw
        >>> from mindarmour.utils.secure_random import SecureStream
        >>> len(poisson_draw(10 ** 12, Fraction(100, 10 ** 12), SecureStream())) < 200
        True
    """
    if not 0 < rate <= 1:
        raise ValueError(f"rate must be in (0, 1], but got {rate}.")
    if rate == 1:
        return np.arange(count)
    parts, last = [np.empty(0, np.int64)], -1
    while last < count - 1:
        expected = (count - 1 - last) * float(rate)
        gaps = _gaps(math.ceil(expected + 4 * math.sqrt(expected)) + 4, rate, count, stream)
        parts.append(last + np.cumsum(gaps + 1))
        last = int(parts[-1][-1])
    drawn = np.concatenate(parts)
    return drawn[:np.searchsorted(drawn, count)]


def subset_draw(count: int, size: int, stream: SecureStream) -> np.ndarray:
    """`size` different records of 0 .. count - 1, each set equally likely, in random order.

    Draws of which every repetition is passed over; from two fifths of the records on, the head of a permutation. Both
    cost O(size).
    """
    if not 0 <= size <= count:
        raise ValueError(f"size must be from 0 to the count {count}, but got {size}.")
    if 5 * size >= 2 * count:
        return stream.permutation(count)[:size]
    drawn = np.empty(0, np.int64)
    while True:
        drawn = np.concatenate([drawn, stream.integers(count, size - len(drawn) + size // 2 + 8)])
        _, first = np.unique(drawn, return_index=True)
        if len(first) >= size:
            return drawn[np.sort(first)[:size]]


def _gaps(number: int, rate: Fraction, most: int, stream: SecureStream) -> np.ndarray:
    """`number` independent gaps; those above `most` are given as `most`."""
    words = stream.words(number)
    log = _negative_log(rate)
    middle = -np.log((words.astype(np.float64) + 0.5) * 2.0 ** -_BITS) / log
    with np.errstate(divide="ignore"):
        margin = (1 / words.astype(np.float64) + _U_ERROR) / log + middle * _QUOTIENT_ERROR
    gaps = np.minimum(np.floor(middle), most).astype(np.int64)
    decided = np.floor(middle - margin) == np.floor(middle + margin)
    for place in np.flatnonzero((words < _SMALL) | ~decided):
        gaps[place] = _exact_gap(int(words[place]), rate, most, stream)
    return gaps


@lru_cache(maxsize=64)
def _negative_log(rate: Fraction) -> float:
    """-ln(1 - rate), correctly rounded."""
    return float(-_log(1 - rate, 40))


def _log(value: Fraction, digits: int) -> Decimal:
    """Natural logarithm with an error below 10^(5 - digits), relative to max(1, its size)."""
    context = Context(prec=digits + 10 + len(str(value.denominator)))
    return context.ln(context.divide(Decimal(value.numerator), Decimal(value.denominator)))


def _exact_gap(word: int, rate: Fraction, most: int, stream: SecureStream) -> int:
    """The gap of a U whose first 64 binary digits are `word`, with as many further digits as it takes."""
    digits, bits = word, _BITS
    while True:
        lowest, highest = _gap_at(digits + 1, bits, rate), _gap_at(digits, bits, rate) if digits else None
        if lowest[0] >= most:
            return most
        if highest is not None and lowest[0] == highest[1]:
            return lowest[0]
        digits, bits = digits << _BITS | int(stream.words(1)[0]), bits + _BITS


def _gap_at(digits: int, bits: int, rate: Fraction) -> tuple[int, int]:
    """floor(ln U / ln(1 - rate)) at U = digits / 2^bits, from below and from above by the error of the arithmetic."""
    precision = math.ceil(bits * math.log10(2)) + _EXTRA_DIGITS + len(str(rate.denominator))
    context = Context(prec=2 * precision)
    quotient = context.divide(_log(Fraction(digits, 2 ** bits), precision), _log(1 - rate, 2 * precision))
    error = context.multiply(context.add(abs(quotient), Decimal(1)), Decimal(10) ** (_EXTRA_DIGITS // 2 - precision))
    below, above = context.subtract(quotient, error), context.add(quotient, error)
    return max(0, _floor(below)), _floor(above)


def _floor(value: Decimal) -> int:
    return int(value.to_integral_value(rounding=ROUND_FLOOR))
