"""The public grid on which releases lie: what keeps a floating-point release inside its proof.

The sum of a value and a continuous sample, computed in floating point, can reach only some of the doubles near it,
and which ones betrays the value. Here a value is rounded to a grid whose step is a power of two that follows from the
budget alone, and the noise is a whole number of steps that is drawn by integer arithmetic and may be any whole number.
So the releases of neighbours have the same support, and their probabilities are those of the proof. Rounding moves a
coordinate by up to one step between neighbours; that is added to the sensitivity, which is rounded up.

References:
    Mironov 2012, "On significance of the least significant bits for differential privacy".
    Balcer, Vadhan 2018, "Differential privacy on finite computers".
    Casacuberta et al. 2022, "Widespread underestimation of sensitivity in differentially private libraries".
"""
from __future__ import annotations

import math
from fractions import Fraction
from numbers import Rational
from typing import Union

import numpy as np

from mindarmour.privacy.release.discrete import MAX_SCALE, MAX_STDDEV, discrete_gaussian, discrete_laplace
from mindarmour.utils.secure_random import SecureStream

LAPLACE_BITS = 40
GAUSSIAN_BITS = 24
_LARGEST_EXPONENT = 900
# From here on not every whole number is a float64.
WHOLE_FLOATS = 2 ** 53


def grid_step(scale: float, bits: int = LAPLACE_BITS) -> float:
    """The grid's step for noise of this scale: a power of two, at most scale * 2**-bits.

    Raises:
        ValueError: The scale lies outside 2**-900 to 2**900, where float64 cannot carry the grid.
    """
    if not 2.0 ** -_LARGEST_EXPONENT <= scale <= 2.0 ** _LARGEST_EXPONENT:
        raise ValueError(f"The scale of the noise must lie between 2**-{_LARGEST_EXPONENT} and 2**{_LARGEST_EXPONENT}, "
                         f"but epsilon, delta and the sensitivity ask for {scale!r}. Change the budget, or the unit "
                         "of the values.")
    return 2.0 ** (math.frexp(scale)[1] - 1 - bits)


def inflated(sensitivity: float, step: float, count: int, order: int) -> float:
    """Sensitivity, in the norm of this order, of `count` values after each was rounded to the grid."""
    return sensitivity + step * count ** (1 / order)


def steps_of_sensitivity(sensitivity: float, step: float, count: int) -> int:
    """L1 sensitivity in whole steps of the grid, rounded up."""
    return math.ceil(Fraction(sensitivity) / Fraction(step)) + count


def round_to(values: np.ndarray, step: float) -> np.ndarray:
    """The multiples of `step` nearest to the values."""
    rounded = np.array(values, np.float64)
    # from 2**53 steps on, every float64 is a multiple already (and dividing could overflow)
    coarser = np.abs(rounded) < step * WHOLE_FLOATS
    for operation, argument in ((np.divide, (step,)), (np.rint, ()), (np.multiply, (step,))):
        operation(rounded, *argument, out=rounded, where=coarser)
    return rounded


def with_laplace_noise(values: np.ndarray, sensitivity: float, epsilon: Union[float, Rational], coordinates: int,
                       stream: SecureStream) -> np.ndarray:
    """The values on the grid, with discrete Laplace noise: pure epsilon for the given L1 sensitivity.

    Args:
        values (numpy.ndarray): Finite float64 of any shape.
        sensitivity (float): L1 sensitivity of what one record, or one person, contributes.
        epsilon (Union[float, Rational]): Budget, above 0.
        coordinates (int): How many of the values that contribution may change.
        stream (SecureStream): Source of the noise.

    Guarantee:
        Exactly epsilon: the ratio of the probabilities of one result under neighbours is at most
        exp(distance in steps / scale in steps), and the scale is rounded up.

    Returns:
        numpy.ndarray, float64.
    """
    step = grid_step(sensitivity / float(epsilon))
    distance = steps_of_sensitivity(sensitivity, step, coordinates)
    scale = math.ceil(distance / Fraction(epsilon))
    if scale > MAX_SCALE:
        raise ValueError(f"The noise for {coordinates} values at epsilon = {float(epsilon)!r} does not fit the grid. "
                         "Release fewer values at once, or with a larger epsilon.")
    return _sum(values, discrete_laplace(scale, np.size(values), stream), step)


def with_gaussian_noise(values: np.ndarray, sensitivity: float, multiplier: float, coordinates: int,
                        stream: SecureStream) -> np.ndarray:
    """The values on the grid, with discrete Gaussian noise of at least multiplier * sensitivity.

    Args:
        values (numpy.ndarray): Finite float64 of any shape.
        sensitivity (float): L2 sensitivity of what one record, or one person, contributes.
        multiplier (float): Standard deviation of the noise over the sensitivity.
        coordinates (int): How many of the values that contribution may change.
        stream (SecureStream): Source of the noise.

    Guarantee:
        That of the Gaussian mechanism with this multiplier, up to a total variation of e**-700. The excess of the
        discrete law over the continuous one is bounded by `discretisation`, and the noise is enlarged to cover it.

    Returns:
        numpy.ndarray, float64.
    """
    step = grid_step(sensitivity * multiplier, GAUSSIAN_BITS)
    distance = inflated(sensitivity, step, coordinates, 2) / step
    slack = 2 * discretisation(coordinates, 2.0 ** GAUSSIAN_BITS) * (1 + 3 * multiplier)
    stddev = distance * multiplier * (1 + slack) * (1 + 2.0 ** -40)
    if stddev > MAX_STDDEV:
        raise ValueError(f"The noise for {coordinates} values at {multiplier:.6g} times their sensitivity does not fit "
                         "the grid. Release fewer values at once, or with less noise.")
    return _sum(values, discrete_gaussian(math.ceil(stddev), np.size(values), stream), step)


def discretisation(coordinates: int, stddev: float) -> float:
    """Bound of |log(P / R)| for P the discrete Gaussian on the integers and R the rounded continuous Gaussian.

    R is a post-processing of the Gaussian mechanism, since the values lie on the grid. For one coordinate
    -k^2 / (8 s^4) <= log(P(k) / R(k)) <= 1 / (8 s^2), from 1 <= cosh(x) <= exp(x^2 / 2) under the integral of the
    density over the cell. The squared norm of all coordinates exceeds s^2 (d + 2 sqrt(700 d) + 1400) with a probability
    below e^-700 (Laurent and Massart 2000, lemma 1). So a statement (epsilon, delta) for R holds for P at
    (epsilon + 2 kappa, e^kappa delta). With the derivatives of the Gaussian delta this costs a relative change of
    kappa (1 + 2.6 / mu) of mu where epsilon >= mu^2 / 2; `with_gaussian_noise` takes twice that.

    Args:
        coordinates (int): Dimension d.
        stddev (float): Standard deviation s in steps of the grid.

    Returns:
        float, kappa.
    """
    tail = 700.0
    return (coordinates + 2 * math.sqrt(tail * coordinates) + 2 * tail) / (8 * stddev ** 2)


def _sum(values: np.ndarray, noise: np.ndarray, step: float) -> np.ndarray:
    """Correctly rounded sum of two multiples of the step, hence a function of their exact sum."""
    largest = np.finfo(np.float64).max
    with np.errstate(over="ignore"):
        total = round_to(values, step) + noise.reshape(np.shape(values)) * step
    return np.clip(total, -largest, largest)
