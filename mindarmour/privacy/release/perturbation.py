"""Noise on the minimum of a convex model, or inside its objective; and the mechanisms of the local model.

Noise can go to three places. On the output: `OutputPerturbation`. Into the objective:
`ObjectivePerturbation`. Onto the gradients of every step: `mindarmour.privacy.diff_privacy.DPModel`, the only
one of the three that needs no convexity. A fourth place is the record itself, before anybody collects it:
`LaplaceMechanism`, `GaussianMechanism` and `RandomizedResponse`.
"""
import math

import numpy as np
from scipy.special import log_ndtr, ndtr

from mindarmour.privacy.accounting import Ledger, Sampling
from mindarmour.privacy.accounting.curves.gaussian import mu_of_gaussian
from mindarmour.privacy.accounting.events import FULL, REPLACE_ONE, ReleaseEvent
from mindarmour.privacy.release.convex import GRADIENT_TOLERANCE, LinearProblem, margin_loss, minimise
from mindarmour.privacy.release.local import (
    GaussianMechanism,
    LaplaceMechanism,
    RandomizedResponse,
    gaussian_event,
)
from mindarmour.privacy.release.rounding import grid_step, inflated, round_to
from mindarmour.utils import _validate
from mindarmour.utils.secure_random import SecureStream

__all__ = ["GaussianMechanism", "LaplaceMechanism", "ObjectivePerturbation", "OutputPerturbation",
           "RandomizedResponse"]

# Share of the budget for the noise that hides how far the solver stayed from the minimum.
_OUTPUT_SHARE = 0.01


class _ConvexPerturbation:
    """Arguments that both perturbations of convex models share."""

    def __init__(self, epsilon, delta=0.0, regularization=0.01, loss="logistic", *, norm_bound=1.0,
                 huber_width=0.5, ledger=None):
        self.epsilon = _validate.real("epsilon", epsilon, low=0)
        self.delta = _validate.real("delta", delta, low=0, high=1, closed="low")
        self.regularization = _validate.real("regularization", regularization, low=0)
        _validate.choice("loss", loss, ("logistic", "svm"))
        self._loss = margin_loss(loss, _validate.real("huber_width", huber_width, low=0))
        self.norm_bound = _validate.real("norm_bound", norm_bound, low=0)
        self.ledger = Ledger() if ledger is None else _validate.instance("ledger", ledger, Ledger)


class OutputPerturbation(_ConvexPerturbation):
    """Train a regularised linear model and add noise to the weights.

    Args:
        epsilon (float): Budget of one fit, above 0.
        delta (float): 0 for pure differential privacy (noise with density proportional to exp(-|b| / scale)),
            else in (0, 1) for Gaussian noise, which is smaller in high dimension.
        regularization (float): Coefficient of |w|^2 / 2 beside the mean loss, in the scale where rows have
            norm at most 1; above 0. More of it means less noise and more bias.
        loss (str): 'logistic', or 'svm' for the hinge loss with a rounded corner.
        norm_bound (float): Feature rows are scaled down to this L2 norm. Choose it without looking at the
            data.
        huber_width (float): Half the width of the rounded corner of 'svm'.
        ledger (Ledger, optional): Where to record; None makes a new one.

    Guarantee:
        (epsilon, delta)-differential privacy of the weights; the neighbour has one record replaced, the
        number of records is public. The minimum moves by at most 2 / (n regularization); how far the solver
        stayed away from the minimum is bounded and added.

    Raises:
        TypeError: An argument of the wrong type.
        ValueError: A budget or regularization that is not positive, an unknown loss, a model that is not
            linear, data that does not fit it.
        RuntimeError: The minimum could not be certified; nothing is released then.

    References:
        Chaudhuri, Monteleoni, Sarwate 2011, "Differentially private empirical risk minimization", algorithm 1
        and corollary 8.

    Examples:
        >>> import numpy as np
        >>> from mindspore import nn
        >>> from mindarmour.privacy.release import OutputPerturbation
        >>> features = np.random.default_rng(0).normal(size=(500, 3))
        >>> labels = (features[:, 0] > 0).astype(int)
        >>> model = OutputPerturbation(epsilon=1.0, norm_bound=2.0).fit(nn.Dense(3, 1), features, labels)
        >>> model.weight.shape
        (1, 3)
    """

    def fit(self, model, features, labels):
        """Set the model's parameters to the noised minimum.

        Args:
            model (Cell): nn.Dense(d, 1), with or without bias; the sign of its output is the prediction.
            features (array_like): float [n, d].
            labels (array_like): n labels, 0 and 1 or -1 and 1.

        Returns:
            Cell, the model.
        """
        problem = LinearProblem(model, features, labels, self.norm_bound)
        count, size = problem.rows.shape
        weights = minimise(self._loss, problem.rows, count * self.regularization, np.zeros(size))
        noised = _noised(weights, self.sensitivity(count), self.epsilon, self.delta, SecureStream())
        if self.delta:
            event = gaussian_event(_everybody(count), 1 / mu_of_gaussian(self.epsilon, self.delta))
        else:
            event = ReleaseEvent(self.epsilon, 0.0, "output perturbation", sampling=_everybody(count))
        self.ledger.record(event)
        problem.assign(noised)
        return model

    def sensitivity(self, count):
        """How far the point that the solver returns can move when one of `count` records is replaced."""
        return 2 / (count * self.regularization) + 2 * GRADIENT_TOLERANCE / self.regularization


class ObjectivePerturbation(_ConvexPerturbation):
    """Train a regularised linear model on an objective tilted by a random linear term.

    Args: as for OutputPerturbation. If the regularization is too small for the budget, it is raised to what
        the guarantee needs; `strength` tells.

    Guarantee:
        (epsilon, delta)-differential privacy of the weights; the neighbour has one record replaced, the
        number of records is public. The proof speaks of the exact minimum. Here the solver's point is
        certified to lie close to it, and a hundredth of the budget pays for noise that hides the rest, so the
        guarantee holds for what is released.

        delta = 0: tilt and final noise have densities proportional to exp(-|b| / scale). delta > 0: both are
        Gaussian. The tilt's standard deviation s is the smallest for which

            excess(2) + 2 excess(1) <= delta1    for the margin e = epsilon1 - 2 ln(1 + c / strength),
            excess(k) = E max(0, 1 - exp(e - 2 / s^2 - k Z / s)),  Z standard normal,  e >= 2 / s^2,

        and it is below the published 2 (1 + sqrt(2 ln(1 / delta1))) / e. Why it suffices: replacing a record
        changes the tilt that leads to the same minimum by a u - a' u' with fixed u, u' of norm at most 1 and
        slopes a, a' in [0, 1] that depend on the tilt. The log-ratio of densities is at most
        2 ln(1 + c / strength) + M / s + 2 / s^2 with M the largest of 0, z, z' and z + z', where z and z' are
        normal with variance at most 1. The last of them gives excess(2), which is the Gaussian mechanism's
        delta; z and z' give the rest.

    Raises:
        As OutputPerturbation.

    References:
        Chaudhuri, Monteleoni, Sarwate 2011, algorithm 2 and theorem 9.
        Iyengar et al. 2019, "Towards practical differentially private convex optimization", algorithm 1
        (approximate minima). Its final noise is scaled to the distance from the minimum; here it is scaled to
        twice that, the distance between two such points.
        Kifer, Smith, Thakurta 2012, "Private convex empirical risk minimization and high-dimensional
        regression" (the Gaussian tilt).

    Examples:
        >>> import numpy as np
        >>> from mindspore import nn
        >>> from mindarmour.privacy.release import ObjectivePerturbation
        >>> features = np.random.default_rng(0).normal(size=(500, 3))
        >>> labels = (features[:, 0] > 0).astype(int)
        >>> model = ObjectivePerturbation(epsilon=1.0, norm_bound=2.0).fit(nn.Dense(3, 1), features, labels)
        >>> model.weight.shape
        (1, 3)
    """

    def fit(self, model, features, labels):
        """Set the model's parameters to the minimum of the tilted objective; arguments as OutputPerturbation.fit."""
        problem = LinearProblem(model, features, labels, self.norm_bound)
        count, size = problem.rows.shape
        stream = SecureStream()
        strength = self.strength(count)
        weights = minimise(self._loss, problem.rows, strength, self._tilt(count, size, stream))
        distance = 2 * count * GRADIENT_TOLERANCE / strength
        noised = _noised(weights, distance, _OUTPUT_SHARE * self.epsilon, _OUTPUT_SHARE * self.delta, stream)
        self.ledger.record(ReleaseEvent(self.epsilon, self.delta, "objective perturbation",
                                        sampling=_everybody(count)))
        problem.assign(noised)
        return model

    def strength(self, count):
        """Strength of the regulariser beside the sum of `count` losses.

        As asked for, unless the curvature that one record adds would use up the budget (pure form, Chaudhuri
        et al.) or more than half of it (Gaussian form).
        """
        wanted = count * self.regularization
        needed = self._loss.smoothness / math.expm1(self._objective_epsilon / 4)
        if self.delta:
            return max(wanted, needed)
        return wanted if self._curvature_cost(wanted) < self._objective_epsilon else needed

    def tilt_scale(self, count):
        """Scale of the random linear term: of its norm's Gamma law for delta = 0, else its standard deviation."""
        left = self._objective_epsilon - self._curvature_cost(self.strength(count))
        if not self.delta:
            return 2 / left
        return _tilt_stddev(left, (1 - _OUTPUT_SHARE) * self.delta)

    @property
    def _objective_epsilon(self):
        return (1 - _OUTPUT_SHARE) * self.epsilon

    def _curvature_cost(self, strength):
        return 2 * math.log1p(self._loss.smoothness / strength)

    def _tilt(self, count, size, stream):
        if self.delta:
            return self.tilt_scale(count) * stream.normal(size)
        return self.tilt_scale(count) * _spherical(size, stream)


def _everybody(count):
    return Sampling(FULL, count, count, REPLACE_ONE)


def _spherical(size, stream):
    """A vector with density proportional to exp(-|b|): uniform direction, norm from Gamma(size, 1)."""
    direction = stream.normal(size)
    return direction / np.linalg.norm(direction) * -np.log(stream.uniform(size)).sum()


def _noised(weights, sensitivity, epsilon, delta, stream):
    """The weights with noise for this L2 sensitivity, on a grid."""
    base = 1 / mu_of_gaussian(epsilon, delta) if delta else 1 / epsilon
    step = grid_step(sensitivity * base)
    scale = inflated(sensitivity, step, len(weights), 2) * base
    noise = stream.normal(len(weights)) if delta else _spherical(len(weights), stream)
    return round_to(weights, step) + round_to(scale * noise, step)


def _tilt_stddev(epsilon, delta):
    """Smallest standard deviation that satisfies the condition in ObjectivePerturbation."""
    def excess(steps, stddev):
        left, slope = epsilon - 2 / stddev ** 2, steps / stddev
        return ndtr(-left / slope) - math.exp(left + slope ** 2 / 2 + log_ndtr(-left / slope - slope))

    def exceeds(stddev):
        return epsilon < 2 / stddev ** 2 or excess(2, stddev) + 2 * excess(1, stddev) > delta

    low = high = 2 / mu_of_gaussian(epsilon, delta)
    while exceeds(high):
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if exceeds(middle) else (low, middle)
    return high
