"""Strategies of correlated noise: frozen, validated, without MindSpore.

A strategy is a lower triangular Toeplitz matrix C. Instead of independent noise Z, training adds C^-1 Z: the same as
one Gaussian release of C G + Z, for all gradients G of the run together. So privacy follows from how far one record
moves C G (`sensitivity`), and the noise in the t-th iterate from row t of the prefix sums times C^-1
(`squared_errors`).

Every class here has a first column that is non-negative and does not increase: what the proofs of `sensitivity` need.
"""
from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from mindarmour.privacy.accounting.strategies.filters import lfilter
from mindarmour.privacy.accounting.strategies.sensitivity import reshuffled_energy, spaced_energy, spaced_starts
from mindarmour.utils import _validate

# Rounding of products of 64-bit floats: what the coefficients of an inverse may seem to grow by.
_ROUNDING = 1e-12


class Strategy(ABC):
    """What all strategies answer. `steps` is the length of the run, at least 1."""

    @property
    @abstractmethod
    def bands(self) -> float:
        """Steps after which a gradient no longer touches C G; infinite for a strategy without an end."""

    @abstractmethod
    def column(self, steps: int) -> np.ndarray:
        """First column of C, [steps]."""

    @abstractmethod
    def inverse_column(self, steps: int) -> np.ndarray:
        """First column of C^-1, [steps]: weights of the noise now, one step ago, ..."""

    def column_norm(self, steps: int) -> float:
        """Sensitivity to a record that takes part once."""
        return float(np.linalg.norm(self.column(_steps(steps))))

    def squared_errors(self, steps: int, momentum: float = 0.0, decay: float = 1.0) -> np.ndarray:
        """Variance of the noise in the iterates 1, 2, ..., `steps` of SGD at rate 1, for noise of variance 1.

        Args:
            steps (int): Length of the run.
            momentum (float): Of the optimizer, in [0, 1).
            decay (float): What a step leaves of the weights, in (0, 1]: one minus rate times weight decay.

        Returns:
            numpy.ndarray, [steps]. Without momentum and decay an iterate is the sum of the noised gradients so far.
        """
        momentum = _validate.real("momentum", momentum, low=0, high=1, closed="low")
        decay = _validate.real("decay", decay, low=0, high=1, closed="high")
        through_momentum = lfilter([1.0], [1.0, -momentum], self.inverse_column(_steps(steps)))
        return np.cumsum(lfilter([1.0], [1.0, -decay], through_momentum) ** 2)

    def sensitivity(self, steps: int, min_sep: int, participations: int) -> float:
        """How far one record moves C G, divided by the clipping bound, under zero-out.

        Args:
            steps (int): Length of the run, at least 1.
            min_sep (int): Steps between two participations of one record, at least 1: with 5, steps 0 and 5 may be
                its own.
            participations (int): How often a record takes part at most, at least 1.

        Guarantee: exact, for any number of bands.
        """
        return math.sqrt(spaced_energy(self.column(_steps(steps)), self._starts(steps, min_sep, participations))[-1])

    def sensitivity_by_step(self, steps: int, min_sep: int, participations: int) -> np.ndarray:
        """`sensitivity` of runs of 1, 2, ..., `steps` steps, [steps]."""
        return np.sqrt(spaced_energy(self.column(_steps(steps)), self._starts(steps, min_sep, participations)))

    def reshuffled_sensitivity(self, steps: int, steps_per_epoch: int) -> float:
        """The same for a record that takes part once an epoch, at any of its steps, anew in every epoch.

        There the last step of an epoch and the first of the next may be the record's own: `min_sep` is 1, but not
        more than two participations are that close.

        Guarantee: an upper bound, at most about a fifth above the worst placement.
        """
        steps = _steps(steps)
        whole, rest = divmod(steps, _validate.integer("steps_per_epoch", steps_per_epoch, low=1))
        lengths = [steps_per_epoch] * whole + [rest] * (rest > 0)
        return math.sqrt(reshuffled_energy(self.column(steps), lengths))

    @staticmethod
    def _starts(steps, min_sep, participations):
        return spaced_starts(steps, _validate.integer("min_sep", min_sep, low=1),
                             _validate.integer("participations", participations, low=1))


@dataclass(frozen=True)
class Toeplitz(Strategy):
    """A strategy given by its first column; zero after the last coefficient.

    Args:
        coefficients (tuple[float]): c_0, c_1, ...: finite, c_0 > 0, none negative, none above the one before it.

    Raises:
        ValueError: Names the first coefficient that breaks a rule.

    Examples:
        >>> from mindarmour.privacy.accounting.strategies import Toeplitz
        >>> strategy = Toeplitz((1.0, 0.5, 0.375))
        >>> strategy.bands, round(strategy.sensitivity(steps=100, min_sep=20, participations=5), 4)
        (3, 2.6369)
    """

    coefficients: tuple[float, ...]

    def __post_init__(self):
        object.__setattr__(self, "coefficients", _checked_column("coefficients", self.coefficients))

    @property
    def bands(self) -> int:
        """Number of coefficients."""
        return len(self.coefficients)

    def column(self, steps: int) -> np.ndarray:
        """First column of C, [steps]."""
        return _padded(self.coefficients, steps)

    def inverse_column(self, steps: int) -> np.ndarray:
        """First column of C^-1, [steps]."""
        return lfilter([1.0], self.coefficients, _padded((1.0,), steps))


@dataclass(frozen=True)
class InverseToeplitz(Strategy):
    """A strategy given by its inverse: the noise of a step is a fixed mix of the last few draws.

    Args:
        coefficients (tuple[float]): d_0, d_1, ...: the first column of C^-1. Finite, d_0 > 0, none of the others
            positive, and such that the first column of C does not increase.

    Raises:
        ValueError: Names the first coefficient, of C^-1 or of C, that breaks a rule.

    Examples:
        >>> from mindarmour.privacy.accounting.strategies import InverseToeplitz
        >>> [float(c) for c in InverseToeplitz((1.0, -0.5)).column(4)]
        [1.0, 0.5, 0.25, 0.125]
    """

    coefficients: tuple[float, ...]

    def __post_init__(self):
        values = _numbers("coefficients", self.coefficients)
        if values[0] <= 0:
            raise ValueError(f"coefficients[0] must be above 0, but got {values[0]}.")
        for place, value in enumerate(values[1:], 1):
            if value > 0:
                raise ValueError(f"coefficients[{place}] must not be above 0, but got {value}: only then are all "
                                 f"coefficients of C known to be non-negative.")
        object.__setattr__(self, "coefficients", values)
        self._refuse_growth()

    def _refuse_growth(self):
        """C's column falls everywhere if it falls over as many steps as there are coefficients.

        With f_j = -d_j / d_0 >= 0 the differences e_n = c_(n-1) - c_n follow e_n = sum_j f_j e_(n-j), so from there
        on each is a sum of non-negative terms.
        """
        column = self.column(len(self.coefficients))
        grown = np.flatnonzero(np.diff(column) > _ROUNDING * column[0])
        if len(grown):
            place = int(grown[0]) + 1
            raise ValueError(f"coefficients must make C non-increasing, but give c[{place}] = {column[place]} above "
                             f"c[{place - 1}] = {column[place - 1]}; coefficients[{place}] is too far below 0.")

    @property
    def bands(self) -> float:
        """1 for independent noise, else infinite: C itself has no last band."""
        return math.inf if any(self.coefficients[1:]) else 1

    def column(self, steps: int) -> np.ndarray:
        """First column of C, [steps]."""
        return lfilter([1.0], self.coefficients, _padded((1.0,), steps))

    def inverse_column(self, steps: int) -> np.ndarray:
        """First column of C^-1, [steps]."""
        return _padded(self.coefficients, steps)


@dataclass(frozen=True)
class Buffered(Strategy):
    """A buffered linear Toeplitz strategy (BLT): c_0 = 1, c_k = sum_i scale_i decay_i^(k - 1).

    However long it reaches back, the noise needs one buffer for each decay.

    Args:
        decay (tuple[float]): In (0, 1], strictly falling.
        scale (tuple[float]): Positive, at most 1 together.

    Raises:
        ValueError: Names the first value that breaks a rule.

    References:
        Dvijotham et al. 2024, "Efficient and near-optimal noise generation for streaming differential privacy".
        McMahan et al. 2024, "A hassle-free algorithm for private learning in practice".

    Examples:
        >>> from mindarmour.privacy.accounting.strategies import Buffered
        >>> [float(c) for c in Buffered(decay=(0.5,), scale=(0.5,)).column(4)]
        [1.0, 0.5, 0.25, 0.125]
    """

    decay: tuple[float, ...]
    scale: tuple[float, ...]

    def __post_init__(self):
        decay, scale = _numbers("decay", self.decay), _numbers("scale", self.scale)
        if len(decay) != len(scale):
            raise ValueError(f"scale must have as many values as decay, {len(decay)}, but has {len(scale)}.")
        for place, (rate, weight) in enumerate(zip(decay, scale)):
            if not 0 < rate <= 1:
                raise ValueError(f"decay[{place}] must be in (0, 1], but got {rate}.")
            if place and rate >= decay[place - 1]:
                raise ValueError(f"decay[{place}] must be below decay[{place - 1}] = {decay[place - 1]}, but got "
                                 f"{rate}.")
            if weight <= 0:
                raise ValueError(f"scale[{place}] must be above 0, but got {weight}.")
            if sum(scale[:place + 1]) > 1:
                raise ValueError(f"scale[{place}] must leave the sum at most 1, but makes it "
                                 f"{sum(scale[:place + 1])}: C would grow.")
        object.__setattr__(self, "decay", decay)
        object.__setattr__(self, "scale", scale)

    @property
    def bands(self) -> float:
        """Infinite: the decay has no end."""
        return math.inf

    def column(self, steps: int) -> np.ndarray:
        """First column of C, [steps]."""
        return _geometric(self.decay, self.scale, steps)

    def inverse(self) -> tuple[np.ndarray, np.ndarray]:
        """Decay and (negative) scale of C^-1, which has the same form."""
        root = np.sqrt(self.scale)
        poles, vectors = np.linalg.eigh(np.diag(self.decay) - np.outer(root, root))
        return poles[::-1], -((root @ vectors) ** 2)[::-1]

    def inverse_column(self, steps: int) -> np.ndarray:
        """First column of C^-1, [steps]."""
        return _geometric(*self.inverse(), steps)


@lru_cache(maxsize=64)
def remembered_column(strategy: Strategy, steps: int) -> np.ndarray:
    """`strategy.column(steps)`, computed once and read-only."""
    column = strategy.column(steps)
    column.setflags(write=False)
    return column


def _geometric(decay, scale, steps):
    """1, then sum_i scale_i decay_i^(k - 1)."""
    powers = np.power.outer(np.asarray(decay, np.float64), np.arange(steps - 1))
    return np.concatenate([[1.0], np.asarray(scale, np.float64) @ powers])


def _padded(values, steps):
    column = np.zeros(steps)
    column[:len(values)] = values[:steps]
    return column


def _steps(steps):
    return _validate.integer("steps", steps, low=1)


def _numbers(name, values):
    """A non-empty tuple of finite Python floats."""
    if isinstance(values, (str, bytes)) or not np.iterable(values):
        raise TypeError(f"{name} must be a sequence of numbers, but got {values!r}.")
    values = tuple(values)
    if not values:
        raise ValueError(f"{name} must hold at least one number, but is empty.")
    return tuple(_validate.real(f"{name}[{place}]", value) for place, value in enumerate(values))


def _checked_column(name, values):
    values = _numbers(name, values)
    if values[0] <= 0:
        raise ValueError(f"{name}[0] must be above 0, but got {values[0]}.")
    for place, value in enumerate(values[1:], 1):
        if value < 0:
            raise ValueError(f"{name}[{place}] must not be negative, but got {value}: the formulas of the sensitivity "
                             f"hold for non-negative coefficients only.")
        if value > values[place - 1]:
            raise ValueError(f"{name}[{place}] must not be above {name}[{place - 1}] = {values[place - 1]}, but got "
                             f"{value}: the formulas of the sensitivity hold for falling coefficients only.")
    return values
