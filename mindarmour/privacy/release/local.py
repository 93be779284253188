"""Noise on single values, records and labels: Laplace, Gaussian and randomised response.

Each mechanism may serve a curator, who noises the answer of a query of known sensitivity, or a person, who
noises the own record before it leaves the device (local differential privacy). A call of `randomize` is one
release of everything that it is given; its ledger adds the calls up as if all of them concerned the same
person.
"""
import math

import numpy as np

from mindarmour.privacy.accounting import Ledger, StepEvent
from mindarmour.privacy.accounting.curves.gaussian import mu_of_gaussian
from mindarmour.privacy.accounting.curves.mechanisms import truth_probability_for
from mindarmour.privacy.accounting.events import ONE_RECORD, ReleaseEvent
from mindarmour.privacy.release.rounding import grid_step, inflated, round_to
from mindarmour.utils import _validate
from mindarmour.utils.secure_random import SecureStream

# A record that is replaced moves from one point of the ball of radius `bound` to another.
_REPLACED = 2.0


class _AdditiveMechanism:
    """Checks, clipping, rounding and bookkeeping that Laplace and Gaussian noise share.

    Subclasses state the `_order` of the norm, the standard noise, the noise `scale` for a sensitivity, and
    the event.
    """

    _order = 0

    def __init__(self, sensitivity, clip_norm, ledger):
        if (sensitivity is None) == (clip_norm is None):
            raise ValueError("Give either sensitivity, of the query whose answer is randomized, or clip_norm, to "
                             f"which records are clipped, but got sensitivity={sensitivity!r} and "
                             f"clip_norm={clip_norm!r}.")
        self.clip_norm = None if clip_norm is None else _validate.real("clip_norm", clip_norm, low=0)
        if sensitivity is None:
            self.sensitivity = _REPLACED * self.clip_norm
        else:
            self.sensitivity = _validate.real("sensitivity", sensitivity, low=0)
        self.ledger = Ledger() if ledger is None else _validate.instance("ledger", ledger, Ledger)

    def randomize(self, values):
        """Noised copy of the values, recorded in the ledger.

        Args:
            values (array_like): Finite numbers. With `sensitivity`: the answer of one query, of any shape.
                With `clip_norm`: records [N, ...], each one clipped to that norm; N persons release one
                record each.

        Returns:
            numpy.ndarray, float64, of the same shape.
        """
        values = _finite(values)
        coordinates = values.size
        if self.clip_norm is not None:
            values = clipped_records(values, self.clip_norm, self._order)
            coordinates = values[0].size if len(values) else 0
        step = grid_step(self.scale)
        scale = self.scale * (inflated(self.sensitivity, step, coordinates, self._order) / self.sensitivity)
        noise = round_to(scale * self._standard(SecureStream(), values.shape), step)
        self.ledger.record(self._event())
        return round_to(values, step) + noise


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
        in L1 norm; with `clip_norm`, local differential privacy of each record. Values and noise lie on a
        grid of 2**-40 of the scale, so the low bits of the result say nothing.

    Raises:
        TypeError: An argument of the wrong type.
        ValueError: A budget or sensitivity that is not positive, both or none of sensitivity and clip_norm,
            or values that are not finite.

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

    def __init__(self, epsilon, sensitivity=None, *, clip_norm=None, ledger=None):
        self.epsilon = _validate.real("epsilon", epsilon, low=0)
        super().__init__(sensitivity, clip_norm, ledger)

    @property
    def scale(self):
        """Scale of the noise; its standard deviation is sqrt(2) times that."""
        return self.sensitivity / self.epsilon

    def _standard(self, stream, shape):
        return stream.laplace(shape)

    def _event(self):
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
        `sensitivity` in L2 norm; with `clip_norm`, local differential privacy of each record. The ledger
        holds the noise itself, so that several releases compose tightly.

    Raises:
        TypeError: An argument of the wrong type.
        ValueError: A budget or sensitivity that is not positive, both or none of sensitivity and clip_norm,
            or values that are not finite.

    References:
        Balle, Wang 2018, "Improving the Gaussian mechanism for differential privacy", theorem 8. The classic
        sqrt(2 ln(1.25 / delta)) / epsilon is larger, and wrong for epsilon above 1.

    Examples:
        >>> from mindarmour.privacy.release import GaussianMechanism
        >>> round(GaussianMechanism(epsilon=1.0, delta=1e-5, sensitivity=1.0).scale, 4)
        3.7306
    """

    _order = 2

    def __init__(self, epsilon, delta, sensitivity=None, *, clip_norm=None, ledger=None):
        self.epsilon = _validate.real("epsilon", epsilon, low=0)
        self.delta = _validate.real("delta", delta, low=0, high=1)
        super().__init__(sensitivity, clip_norm, ledger)
        self._mu = mu_of_gaussian(self.epsilon, self.delta)

    @property
    def scale(self):
        """Standard deviation of the noise."""
        return self.sensitivity / self._mu

    def _standard(self, stream, shape):
        return stream.normal(shape)

    def _event(self):
        return gaussian_event(ONE_RECORD, 1 / self._mu)


class RandomizedResponse:
    """Report the true category with probability e^epsilon / (e^epsilon + k - 1), else any other one.

    Args:
        epsilon (float): Budget of one report, above 0.
        num_categories (int): Number k of categories, at least 2. Labels are 0 to k - 1.
        ledger (Ledger, optional): Where to record; None makes a new one.

    Guarantee:
        epsilon-local differential privacy of each label. A label's features are not protected; randomize them
        too and add the budgets.

    Raises:
        TypeError: An argument of the wrong type.
        ValueError: A budget that is not positive, fewer than 2 categories, or a label outside the categories.

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

    def __init__(self, epsilon, num_categories=2, *, ledger=None):
        self.epsilon = _validate.real("epsilon", epsilon, low=0)
        self.num_categories = _validate.integer("num_categories", num_categories, low=2)
        self.ledger = Ledger() if ledger is None else _validate.instance("ledger", ledger, Ledger)

    @property
    def truth_probability(self):
        """Probability that a report is the truth."""
        return truth_probability_for(self.epsilon, self.num_categories)

    def randomize(self, labels):
        """Randomised copy of the labels, recorded in the ledger.

        Args:
            labels (array_like): Whole numbers from 0 to num_categories - 1; each is one person's.

        Returns:
            numpy.ndarray, int64, of the same shape.
        """
        labels = self._labels("labels", labels)
        stream = SecureStream()
        shift = 1 + stream.integers(self.num_categories - 1, labels.shape)
        lie = stream.uniform(labels.shape) >= self.truth_probability
        self.ledger.record(ReleaseEvent(self.epsilon, 0.0, "randomised response", "label"))
        return (labels + shift * lie) % self.num_categories

    def estimate_frequencies(self, reports):
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
        lie = (1 - self.truth_probability) / (self.num_categories - 1)
        return (seen - lie) / (self.truth_probability - lie)

    def standard_error(self, num_reports):
        """Largest standard error of one estimated frequency from so many reports."""
        _validate.integer("num_reports", num_reports, low=1)
        lie = (1 - self.truth_probability) / (self.num_categories - 1)
        # the report of a fixed category is a coin whose bias lies between the two probabilities
        bias = min(max(0.5, min(lie, self.truth_probability)), max(lie, self.truth_probability))
        return math.sqrt(bias * (1 - bias) / num_reports) / (self.truth_probability - lie)

    def _labels(self, name, labels):
        labels = np.asarray(labels)
        if labels.size and not np.issubdtype(labels.dtype, np.integer):
            raise TypeError(f"{name} must be whole numbers, but got {labels.dtype}.")
        labels = labels.astype(np.int64)
        if labels.size and not 0 <= labels.min() <= labels.max() < self.num_categories:
            raise ValueError(f"{name} must be from 0 to num_categories - 1 = {self.num_categories - 1}, but go "
                             f"from {labels.min()} to {labels.max()}.")
        return labels


def gaussian_event(sampling, multiplier):
    """Event of Gaussian noise with this multiple of the sensitivity under replace-one, where a clipped
    value's
    sensitivity is twice its bound."""
    return StepEvent(sampling, _REPLACED * multiplier)


def clipped_records(records, norm, order):
    """Records [N, ...] scaled down, where needed, to the given norm of the given order."""
    if records.ndim == 0:
        raise ValueError("values must be records [N, ...] when clip_norm is given, but got a single number.")
    flat = records.reshape(len(records), -1)
    norms = np.linalg.norm(flat, ord=order, axis=1)
    factors = np.minimum(1.0, norm / np.maximum(norms, np.finfo(np.float64).tiny))
    return (flat * factors[:, None]).reshape(records.shape)


def _finite(values):
    try:
        values = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        raise TypeError(f"values must be numbers, but got {type(values).__name__}.") from None
    if not np.isfinite(values).all():
        raise ValueError("values must be finite, but hold NaN or infinity.")
    return values
