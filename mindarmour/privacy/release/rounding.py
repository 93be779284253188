"""Noise on a grid: what keeps a floating-point release inside its proof.

The sum of a value and a continuous sample, computed in floating point, can reach only some of the doubles
near it, and which ones betrays the value. Here the value and the noise are both rounded to a grid whose step
is a fixed power of two, 2**-40 of the noise scale: their exact sum is a multiple of the step whatever the
value was, so the release is a rounding of the mechanism that was proven. The rounding of the value adds one
step per coordinate to its sensitivity; `inflated` says how much noise that takes.

References:
    Mironov 2012, "On significance of the least significant bits for differential privacy".
    Haney et al. 2022, "Precision-based attacks and interval refining".
"""
import math

import numpy as np

_BITS = 40


def grid_step(scale):
    """The grid's step for noise of this scale: a power of two, at most scale * 2**-40."""
    return 2.0 ** (math.floor(math.log2(scale)) - _BITS)


def inflated(sensitivity, step, count, order):
    """Sensitivity, in the norm of this order, of `count` values after each was rounded to the grid."""
    return sensitivity + step * count ** (1 / order)


def round_to(values, step):
    """The multiples of `step` nearest to the values."""
    rounded = np.array(values, np.float64)
    # from 2**53 steps on, every float64 is a multiple already (and dividing could overflow)
    coarser = np.abs(rounded) < step * 2.0 ** 53
    for operation, argument in ((np.divide, (step,)), (np.rint, ()), (np.multiply, (step,))):
        operation(rounded, *argument, out=rounded, where=coarser)
    return rounded
