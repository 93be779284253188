"""Noise on single values, records and labels: Laplace, Gaussian and randomised response.

Each mechanism may serve a curator, who noises the answer of a query of known sensitivity, or a person, who
noises the own record before it leaves the device (local differential privacy). A call of `randomize` is one
release of everything that it is given; its ledger adds the calls up as if all of them concerned the same
person.
"""
from __future__ import annotations

import decimal
import math
from decimal import Decimal
from typing import Any, Callable, Optional

import numpy as np

from mindarmour.privacy.accounting import Ledger, Sampling, StepEvent
from mindarmour.privacy.accounting.curves.gaussian import mu_of_gaussian
from mindarmour.privacy.accounting.events import ONE_RECORD, Event, ReleaseEvent
from mindarmour.privacy.release.inputs import as_floats, clipped_records, finite, finite_records
from mindarmour.privacy.release.rounding import GAUSSIAN_BITS, grid_step, with_gaussian_noise, with_laplace_noise
from mindarmour.utils import _validate
from mindarmour.utils.secure_random import SecureStream

# A record that is replaced moves from one point of the ball of radius `bound` to another.
_REPLACED = 2.0
# A randomised report compares so many random bits with a whole number.
_REPORT_BITS = 52


class _AdditiveMechanism:
    """Checks, clipping and bookkeeping that Laplace and Gaussian noise share.

    Subclasses state the `_order` of the norm, the noise `scale`, how to add it, and the event.
    """

    _order = 0
    _with_noise: Callable[[np.ndarray, int, SecureStream], np.ndarray]
    _event: Callable[[], Event]

    def __init__(self, sensitivity: Optional[float], clip_norm: Optional[float], ledger: Optional[Ledger]) -> None:
        if (sensitivity is None) == (clip_norm is None):
            raise ValueError("Give either sensitivity, of the query whose answer is randomized, or clip_norm, to "
                             f"which records are clipped, but got sensitivity={sensitivity!r} and "
                             f"clip_norm={clip_norm!r}.")
        self.clip_norm = None if clip_norm is None else _validate.real("clip_norm", clip_norm, low=0)
        if self.clip_norm is not None:
            self.sensitivity = _REPLACED * self.clip_norm
        else:
            self.sensitivity = _validate.real("sensitivity", sensitivity, low=0)
        self.ledger = Ledger() if ledger is None else _validate.instance("ledger", ledger, Ledger)

    def randomize(self, values: Any) -> np.ndarray:
        """Noised copy of the values, recorded in the ledger.

        Args:
            values (array_like): Real numbers. With `sensitivity`: the finite answer of one query, of any shape. With
                `clip_norm`: records [N, ...], each one clipped to that norm; N persons release one record each. A
                record with a NaN or an infinity counts as zeros.

        Returns:
            numpy.ndarray, float64, of the same shape.
        """
        if self.clip_norm is None:
            values = finite("values", values)
            coordinates = values.size
        else:
            values = as_floats("values", values)
            if values.ndim == 0:
                raise ValueError("values must be records [N, ...] when clip_norm is given, but got a single number.")
            values = clipped_records(finite_records("values", values), self.clip_norm, self._order)
            coordinates = math.prod(values.shape[1:])
        noised = self._with_noise(values, coordinates, SecureStream())
        self.ledger.record(self._event())
        return noised


class LaplaceMechanism(_AdditiveMechanism):
    """Laplace noise of scale sensitivity / epsilon on every coordinate.

    Args:
        epsilon (float): Budget of one release, above 0.
        sensitivity (float, optional): L1 sensitivity of the query whose answer is randomized.
        clip_norm (float, optional): For records: L1 norm to which each is clipped, so that any two differ by
            at most 2 * clip_norm. Give exactly one of the two.
        ledger (Ledger, optional): Where to record; None makes a new one.

    Guarantee:
        epsilon-differential privacy for every pair of neighbours whose values differ by at most `sensitivity`
        in L1 norm; with `clip_norm`, local differential privacy of each record. The noise is discrete Laplace on a
        grid of 2**-40 of the scale, drawn by integer arithmetic: results of neighbours have the same support.

    Raises:
        TypeError: An argument of the wrong type.
        ValueError: A budget or sensitivity that is not positive, both or none of sensitivity and clip_norm,
            a scale outside 2**-900 to 2**900, or an answer that is not finite.

    References:
        Dwork, McSherry, Nissim, Smith 2006, "Calibrating noise to sensitivity in private data analysis".

    Examples:
        >>> from mindarmour.privacy.release import LaplaceMechanism
        >>> mechanism = LaplaceMechanism(epsilon=0.5, sensitivity=1.0)
        >>> mechanism.scale
        2.0
        >>> mechanism.randomize([10.0, 12.0]).shape
        (2,)
    """

    _order = 1

    def __init__(self, epsilon: float, sensitivity: Optional[float] = None, *, clip_norm: Optional[float] = None,
                 ledger: Optional[Ledger] = None) -> None:
        self.epsilon = _validate.real("epsilon", epsilon, low=0)
        super().__init__(sensitivity, clip_norm, ledger)
        grid_step(self.scale)  # refuses a scale that no grid can carry, before any record is seen

    @property
    def scale(self) -> float:
        """Scale of the noise; its standard deviation is sqrt(2) times that."""
        return self.sensitivity / self.epsilon

    def _with_noise(self, values: np.ndarray, coordinates: int, stream: SecureStream) -> np.ndarray:
        return with_laplace_noise(values, self.sensitivity, self.epsilon, coordinates, stream)

    def _event(self) -> ReleaseEvent:
        return ReleaseEvent(self.epsilon, 0.0, "Laplace")


class GaussianMechanism(_AdditiveMechanism):
    """Gaussian noise with the smallest standard deviation that is (epsilon, delta)-private.

    Args:
        epsilon (float): Budget of one release, above 0; values above 1 are fine.
        delta (float): In (0, 1).
        sensitivity (float, optional): L2 sensitivity of the query whose answer is randomized.
        clip_norm (float, optional): For records: L2 norm to which each is clipped, so that any two differ by
            at most 2 * clip_norm. Give exactly one of the two.
        ledger (Ledger, optional): Where to record; None makes a new one.

    Guarantee:
        (epsilon, delta)-differential privacy for every pair of neighbours whose values differ by at most
        `sensitivity` in L2 norm; with `clip_norm`, local differential privacy of each record. The noise is discrete
        Gaussian on a grid of 2**-24 of the scale (`with_gaussian_noise` says how it keeps the continuous statement).
        The ledger holds the noise itself, so that several releases compose tightly.

    Raises:
        TypeError: An argument of the wrong type.
        ValueError: A budget or sensitivity that is not positive, both or none of sensitivity and clip_norm,
            a scale outside 2**-900 to 2**900, or an answer that is not finite.

    References:
        Balle, Wang 2018, "Improving the Gaussian mechanism for differential privacy", theorem 8. The classic
        sqrt(2 ln(1.25 / delta)) / epsilon is larger, and wrong for epsilon above 1.

    Examples:
        >>> from mindarmour.privacy.release import GaussianMechanism
        >>> round(GaussianMechanism(epsilon=1.0, delta=1e-5, sensitivity=1.0).scale, 4)
        3.7306
    """

    _order = 2

    def __init__(self, epsilon: float, delta: float, sensitivity: Optional[float] = None, *,
                 clip_norm: Optional[float] = None, ledger: Optional[Ledger] = None) -> None:
        self.epsilon = _validate.real("epsilon", epsilon, low=0)
        self.delta = _validate.real("delta", delta, low=0, high=1)
        super().__init__(sensitivity, clip_norm, ledger)
        self._multiplier = gaussian_multiplier(self.epsilon, self.delta)
        grid_step(self.scale, GAUSSIAN_BITS)  # refuses a scale that no grid can carry, before any record is seen

    @property
    def scale(self) -> float:
        """Standard deviation of the noise."""
        return self.sensitivity * self._multiplier

    def _with_noise(self, values: np.ndarray, coordinates: int, stream: SecureStream) -> np.ndarray:
        return with_gaussian_noise(values, self.sensitivity, self._multiplier, coordinates, stream)

    def _event(self) -> StepEvent:
        return gaussian_event(ONE_RECORD, self._multiplier)


class RandomizedResponse:
    """Report the true category with probability e^epsilon / (e^epsilon + k - 1), else any other one.

    Args:
        epsilon (float): Budget of one report, above 0.
        num_categories (int): Number k of categories, at least 2. Labels are 0 to k - 1.
        ledger (Ledger, optional): Where to record; None makes a new one.

    Guarantee:
        epsilon-local differential privacy of each label: the truth has a probability that is a multiple of 2**-52,
        rounded down, so the log-odds that are really drawn are at most epsilon (and at most 36.05 plus log(k - 1)).
        A label's features are not protected; randomize them too and add the budgets.

    Raises:
        TypeError: An argument of the wrong type.
        ValueError: A budget that is not positive, fewer than 2 categories, a budget too small for the number of
            categories in 52 bits, or a label outside the categories, which are public.

    References:
        Warner 1965, "Randomized response: a survey technique for eliminating evasive answer bias".
        Kairouz, Oh, Viswanath 2016, "Extremal mechanisms for local differential privacy", section 5 (k-ary
        form).

    Examples:
        >>> from mindarmour.privacy.release import RandomizedResponse
        >>> response = RandomizedResponse(epsilon=1.0, num_categories=10)
        >>> round(response.truth_probability, 4)
        0.232
        >>> response.randomize([3, 1, 4]).shape
        (3,)
    """

    def __init__(self, epsilon: float, num_categories: int = 2, *, ledger: Optional[Ledger] = None) -> None:
        self.epsilon = _validate.real("epsilon", epsilon, low=0)
        self.num_categories = _validate.integer("num_categories", num_categories, low=2, high=2 ** 62)
        self._truths = _truths(self.epsilon, self.num_categories)
        self.ledger = Ledger() if ledger is None else _validate.instance("ledger", ledger, Ledger)

    @property
    def truth_probability(self) -> float:
        """Probability that a report is the truth, exactly as it is drawn."""
        return self._truths / 2 ** _REPORT_BITS

    def randomize(self, labels: Any) -> np.ndarray:
        """Randomised copy of the labels, recorded in the ledger.

        Args:
            labels (array_like): Whole numbers from 0 to num_categories - 1; each is one person's.

        Returns:
            numpy.ndarray, int64, of the same shape.
        """
        labels = self._labels("labels", labels)
        stream = SecureStream()
        shift = 1 + stream.integers(self.num_categories - 1, labels.shape)
        lie = stream.words(labels.size) >> np.uint64(64 - _REPORT_BITS) >= np.uint64(self._truths)
        self.ledger.record(ReleaseEvent(self.epsilon, 0.0, "randomised response", "label"))
        return (labels + shift * lie.reshape(labels.shape)) % self.num_categories

    def estimate_frequencies(self, reports: Any) -> np.ndarray:
        """Unbiased estimate of how often each category is true.

        Args:
            reports (array_like): Randomised labels.

        Returns:
            numpy.ndarray, float64 [num_categories]; sums to 1, single entries may be negative. The standard
            error of an entry is at most `standard_error(number of reports)`.
        """
        reports = self._labels("reports", reports).ravel()
        if not len(reports):
            raise ValueError("reports must hold at least one report, but got none.")
        seen = np.bincount(reports, minlength=self.num_categories) / len(reports)
        lie, advantage = self._lie_and_advantage()
        return (seen - lie) / advantage

    def standard_error(self, num_reports: int) -> float:
        """Largest standard error of one estimated frequency from so many reports."""
        _validate.integer("num_reports", num_reports, low=1)
        lie, advantage = self._lie_and_advantage()
        # the report of a fixed category is a coin whose bias lies between the two probabilities
        bias = min(max(0.5, lie), self.truth_probability)
        return math.sqrt(bias * (1 - bias) / num_reports) / advantage

    def _lie_and_advantage(self) -> tuple[float, float]:
        """Probability of one certain lie, and how much more probable the truth is."""
        lie = (1 - self.truth_probability) / (self.num_categories - 1)
        advantage = self.truth_probability - lie
        if not advantage > 0:
            raise ValueError(f"epsilon must be larger to estimate anything: at {self.epsilon!r} with "
                             f"{self.num_categories} categories reports say nothing about the truth.")
        return lie, advantage

    def _labels(self, name: str, labels: Any) -> np.ndarray:
        labels = np.asarray(labels)
        if labels.size and not np.issubdtype(labels.dtype, np.integer):
            raise TypeError(f"{name} must be whole numbers, but got {labels.dtype}.")
        labels = labels.astype(np.int64)
        if labels.size and not 0 <= labels.min() <= labels.max() < self.num_categories:
            raise ValueError(f"{name} must be from 0 to num_categories - 1 = {self.num_categories - 1}, but go "
                             f"from {labels.min()} to {labels.max()}.")
        return labels


def gaussian_multiplier(epsilon: float, delta: float) -> float:
    """Standard deviation of Gaussian noise over the sensitivity that is (epsilon, delta)-private.

    Raises:
        ValueError: The budget is so small that no number of float64 is large enough.
    """
    mu = mu_of_gaussian(epsilon, delta)
    # below, float64 loses the digits of the Gaussian delta, and from 2**-52 on takes it for 0
    if not mu >= 2.0 ** -30:
        raise ValueError(f"epsilon and delta must leave room for noise that float64 can carry, but epsilon={epsilon!r} "
                         f"with delta={delta!r} asks for more than 2**30 times the sensitivity. Raise one of them.")
    return 1 / mu


def gaussian_event(sampling: Sampling, multiplier: float) -> StepEvent:
    """Event of Gaussian noise with this multiple of the sensitivity under replace-one, where a clipped value's
    sensitivity is twice its bound."""
    return StepEvent(sampling, _REPLACED * multiplier)


def _truths(epsilon: float, categories: int) -> int:
    """The truth's probability in units of 2**-52, rounded down so that the log-odds stay within epsilon."""
    with decimal.localcontext() as context:
        context.prec = 60
        # beyond epsilon = 1000 the probability of a lie is far below one unit anyway
        odds = Decimal(min(epsilon, 1000.0)).exp()
        truths = min(math.floor(odds / (odds + (categories - 1)) * 2 ** _REPORT_BITS), 2 ** _REPORT_BITS - 1)
        lies = Decimal(2 ** _REPORT_BITS - truths) / (categories - 1)
        if truths == 0 or (lies / truths).ln() > Decimal(epsilon):
            raise ValueError(f"epsilon must be larger for {categories} categories, but {epsilon!r} asks for a "
                             f"probability of the truth that {_REPORT_BITS} random bits cannot meet. Merge categories.")
    return truths
