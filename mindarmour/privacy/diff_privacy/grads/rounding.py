"""How far rounding can let a computed norm fall below the true one, and the factor on the bound that pays for it.

Every engine clips at `shrink(...)` times the bound. That factor follows from the length of its sums alone, so that
no clipped unit exceeds the bound, whatever the values are.

Notation: u is the unit roundoff of float32, 2**-24. A sum of n products, added in whatever order, errs by at most
gamma(n) = n u / (1 - n u) times the sum of their magnitudes (Higham 2002, section 3.1).

References:
    Higham 2002, "Accuracy and stability of numerical algorithms", second edition, chapters 3 and 4.
"""
from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Optional

import mindspore as ms

from mindarmour.utils.mindspore_internals import ascend_products

UNIT_ROUNDOFF = 2.0 ** -24
HF32_ROUNDOFF, BFLOAT16_ROUNDOFF, FLOAT16_ROUNDOFF = 2.0 ** -12, 2.0 ** -8, 2.0 ** -11

# What a square loses at most when it is too small for float32 (below 2**-126 some devices take it for zero).
SMALLEST_NORMAL = 2.0 ** -126

_IN_ONE_PIECE = 2048  # longest sum of squares that is not cut into blocks
_OWN_OPERATIONS = 12  # roundings of factor, square root, division and product, each at most u


@dataclass(frozen=True)
class Precision:
    """Unit roundoff of the inputs of matrix products and of convolutions.

    Args:
        matmul (float): Of MatMul and BatchMatMul.
        conv (float): Of convolutions and their gradients.
    """

    matmul: float = UNIT_ROUNDOFF
    conv: float = UNIT_ROUNDOFF

    @property
    def is_reduced(self) -> bool:
        """Whether matrix products round their inputs to less than float32."""
        return self.matmul > UNIT_ROUNDOFF


_assumed: Optional[Precision] = None


def precision_in_force() -> Precision:
    """The precision of products on this device, from the chip and MindSpore's `op_precision` settings.

    Atlas 800T A2 and A3 (910B, 910_93) let convolutions use HF32 unless told otherwise; the 910A rounds both to
    float16. Elsewhere products keep float32.
    """
    if _assumed is not None:
        return _assumed
    if ms.get_context("device_target") != "Ascend":
        return Precision()
    return Precision(*(_ROUNDOFF[kind] for kind in ascend_products()))


_ROUNDOFF = {"float32": UNIT_ROUNDOFF, "hf32": HF32_ROUNDOFF, "bfloat16": BFLOAT16_ROUNDOFF,
             "float16": FLOAT16_ROUNDOFF}


@contextlib.contextmanager
def assume_precision(precision: Precision) -> Iterator[None]:
    """Build engines for another precision than the device's, to emulate it."""
    global _assumed
    before, _assumed = _assumed, precision
    try:
        yield
    finally:
        _assumed = before


def gamma(terms: float, roundoff: float = UNIT_ROUNDOFF) -> float:
    """Relative error of a sum of `terms` products, in whatever order they are added.

    Raises:
        ValueError: For sums so long that float32 guarantees nothing.
    """
    error = terms * roundoff
    if error >= 0.5:
        raise ValueError(f"a sum of {terms:.0f} float32 products has no useful error bound. Split the Parameter.")
    return error / (1.0 - error)


@cache
def block_length(size: int) -> int:
    """Length of the blocks in which the squares of `size` numbers are added: a divisor of `size`.

    Blocks of m first, then their sums: m + size / m roundings in place of `size`.
    """
    if size <= _IN_ONE_PIECE:
        return size
    divisors = (d for low in range(1, math.isqrt(size) + 1) if size % low == 0 for d in (low, size // low))
    # equally long halves are best for the error; long rows are faster, and the error is small anyway
    return min((d for d in divisors), key=lambda d: (max(d + size // d, _IN_ONE_PIECE), -d))


def squares_roundoff(size: int) -> float:
    """Relative error of a sum of squares of `size` numbers, added in blocks of `block_length`."""
    block = block_length(size)
    return gamma(block + (size // block if block < size else 0) + 1)


def shrink(understatements: Iterable[float], precision: Optional[Precision] = None) -> float:
    """The factor on the norm bound under which no unit exceeds the bound.

    Args:
        understatements (Iterable[float]): Per Parameter, the share by which its computed squared norm may lie below
            the true one.
        precision (Precision, optional): Of products; the one in force if None.

    Guarantee:
        With squares s_p (1 - e_p) or more in place of s_p, the computed factor times the unit's gradient, each
        entry rounded, has a norm of at most the bound.
    """
    understatements = tuple(understatements)
    precision = precision or precision_in_force()
    lost = max(understatements, default=0.0) + gamma(len(understatements) + 1)
    margin = 1.0 - math.sqrt(max(0.0, 1.0 - lost)) + gamma(_OWN_OPERATIONS)
    if precision.is_reduced:  # factor and rows are rounded once more in the product that adds the units up
        margin += 4.0 * precision.matmul
    return 1.0 - margin
