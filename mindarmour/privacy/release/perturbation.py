"""Noise on the minimum of a convex model, or inside its objective; and the mechanisms of the local model.

Noise can go to three places. On the output: `OutputPerturbation`. Into the objective:
`ObjectivePerturbation`. Onto the gradients of every step: `mindarmour.privacy.diff_privacy.DPModel`, the only
one of the three that needs no convexity. A fourth place is the record itself, before anybody collects it:
`LaplaceMechanism`, `GaussianMechanism` and `RandomizedResponse`.
"""
from __future__ import annotations

import math
from typing import Any, Callable, Optional

import numpy as np
from mindspore import nn
from scipy.special import log_ndtr, ndtr

from mindarmour.privacy.accounting import Ledger, Sampling
from mindarmour.privacy.accounting.curves.gaussian import mu_of_gaussian
from mindarmour.privacy.accounting.events import FULL, REPLACE_ONE, Event, ReleaseEvent
from mindarmour.privacy.release.convex import LinearProblem, NotMinimised, margin_loss, minimise, tolerance
from mindarmour.privacy.release.local import (
    GaussianMechanism,
    LaplaceMechanism,
    RandomizedResponse,
    gaussian_event,
    gaussian_multiplier,
)
from mindarmour.privacy.release.rounding import grid_step, inflated, round_to, with_gaussian_noise
from mindarmour.privacy.release.spherical import normal_steps, spherical_steps
from mindarmour.utils import _validate
from mindarmour.utils.secure_random import SecureStream

__all__ = ["GaussianMechanism", "LaplaceMechanism", "ObjectivePerturbation", "OutputPerturbation",
           "RandomizedResponse"]

# Share of the budget for the noise that hides how far the solver stayed from the minimum.
_OUTPUT_SHARE = 0.01


class _ConvexPerturbation:
    """Arguments that both perturbations of convex models share, and the order of a fit."""

    def __init__(self, epsilon: float, delta: float = 0.0, regularization: float = 0.01, loss: str = "logistic", *,
                 norm_bound: float = 1.0, huber_width: float = 0.5, ledger: Optional[Ledger] = None) -> None:
        self.epsilon = _validate.real("epsilon", epsilon, low=0)
        self.delta = _validate.real("delta", delta, low=0, high=1, closed="low")
        self.regularization = _validate.real("regularization", regularization, low=0)
        _validate.choice("loss", loss, ("logistic", "svm"))
        self._loss = margin_loss(loss, _validate.real("huber_width", huber_width, low=0))
        self.norm_bound = _validate.real("norm_bound", norm_bound, low=0)
        self.ledger = Ledger() if ledger is None else _validate.instance("ledger", ledger, Ledger)

    _released: Callable[[np.ndarray, SecureStream], np.ndarray]
    _event: Callable[[int], Event]

    def fit(self, model: nn.Cell, features: Any, labels: Any) -> nn.Cell:
        """Set the model's parameters to what may be released, and record it.

        Args:
            model (Cell): nn.Dense(d, 1), with or without bias; the sign of its output is the prediction.
            features (array_like): float [n, d]. A row with a NaN or an infinity counts as zeros.
            labels (array_like): n labels, 0 and 1 or -1 and 1; which two is public.

        Returns:
            Cell, the model.
        """
        problem = LinearProblem(model, features, labels, self.norm_bound)
        count, size = problem.rows.shape
        try:
            released = self._released(problem.rows, SecureStream())
        except NotMinimised:
            # whoever sees that nothing came learns something about the records
            self.ledger.record(ReleaseEvent(math.inf, 0.0, "a fit that failed", sampling=_everybody(count)))
            raise
        self.ledger.record(self._event(count))
        problem.assign(released)
        return model


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
            linear, data of another shape, settings that float64 cannot certify.
        RuntimeError: The minimum could not be certified; nothing is released then, and the ledger states infinity,
            because that it failed depends on the records. Settings under which float64 might fail are refused before.

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

    def sensitivity(self, count: int, size: int = 1) -> float:
        """How far the solver's point can move when one of `count` records of `size` numbers is replaced."""
        goal = tolerance(self._loss, 1 / self.regularization, count, size)
        return 2 / (count * self.regularization) + 2 * goal / self.regularization

    def _released(self, rows: np.ndarray, stream: SecureStream) -> np.ndarray:
        count, size = rows.shape
        goal = tolerance(self._loss, 1 / self.regularization, count, size)
        weights = minimise(self._loss, rows, count * self.regularization, np.zeros(size), goal)
        return _noised(weights, self.sensitivity(count, size), self.epsilon, self.delta, stream)

    def _event(self, count: int) -> Event:
        if self.delta:
            return gaussian_event(_everybody(count), gaussian_multiplier(self.epsilon, self.delta))
        return ReleaseEvent(self.epsilon, 0.0, "output perturbation", sampling=_everybody(count))


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

    def strength(self, count: int) -> float:
        """Strength of the regulariser beside the sum of `count` losses.

        As asked for, unless the curvature that one record adds would take more than half of the budget. With delta = 0
        Chaudhuri et al. raise it only when all of the budget would be gone; a budget nearly gone leaves a tilt that is
        many times larger, while raising the regulariser makes the tilt smaller and the minimum steadier.
        """
        return max(count * self.regularization, self._loss.smoothness / math.expm1(self._objective_epsilon / 4))

    def tilt_scale(self, count: int) -> float:
        """Scale of the random linear term: of its norm's Gamma law for delta = 0, else its standard deviation."""
        left = self._objective_epsilon - 2 * math.log1p(self._loss.smoothness / self.strength(count))
        if not self.delta:
            return 2 / left
        return _tilt_stddev(left, (1 - _OUTPUT_SHARE) * self.delta)

    def _released(self, rows: np.ndarray, stream: SecureStream) -> np.ndarray:
        count, size = rows.shape
        strength = self.strength(count)
        # a bound of the norm of the tilt that hardly any tilt exceeds
        longest = 4 * self.tilt_scale(count) * (size + 16)
        goal = tolerance(self._loss, (count + longest) / strength, count, size)
        weights = minimise(self._loss, rows, strength, self._tilt(count, size, stream), goal)
        # away from the exact minimum at the continuous tilt, of which the tilt here is a rounding
        distance = (count * goal + grid_step(self.tilt_scale(count)) * math.sqrt(size)) / strength
        return _noised(weights, 2 * distance, _OUTPUT_SHARE * self.epsilon, _OUTPUT_SHARE * self.delta, stream)

    def _event(self, count: int) -> ReleaseEvent:
        return ReleaseEvent(self.epsilon, self.delta, "objective perturbation", sampling=_everybody(count))

    @property
    def _objective_epsilon(self) -> float:
        return (1 - _OUTPUT_SHARE) * self.epsilon

    def _tilt(self, count: int, size: int, stream: SecureStream) -> np.ndarray:
        """The random linear term: continuous noise, rounded to a grid exactly."""
        scale = self.tilt_scale(count)
        step = grid_step(scale)
        steps = normal_steps if self.delta else spherical_steps
        return steps(size, scale / step, stream) * step


def _everybody(count: int) -> Sampling:
    return Sampling(FULL, count, count, REPLACE_ONE)


def _noised(weights: np.ndarray, sensitivity: float, epsilon: float, delta: float,
            stream: SecureStream) -> np.ndarray:
    """The weights on a grid, with noise for this L2 sensitivity."""
    if delta:
        return with_gaussian_noise(weights, sensitivity, gaussian_multiplier(epsilon, delta), len(weights), stream)
    step = grid_step(sensitivity / epsilon)
    scale = inflated(sensitivity, step, len(weights), 2) / step / epsilon * (1 + 2.0 ** -40)
    return round_to(weights, step) + spherical_steps(len(weights), scale, stream) * step


def _tilt_stddev(epsilon: float, delta: float) -> float:
    """Smallest standard deviation that satisfies the condition in ObjectivePerturbation."""
    def excess(steps: int, stddev: float) -> float:
        left, slope = epsilon - 2 / stddev ** 2, steps / stddev
        return ndtr(-left / slope) - math.exp(left + slope ** 2 / 2 + log_ndtr(-left / slope - slope))

    def exceeds(stddev: float) -> bool:
        return epsilon < 2 / stddev ** 2 or excess(2, stddev) + 2 * excess(1, stddev) > delta

    low = high = 2 / mu_of_gaussian(epsilon, delta)
    while exceeds(high):
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if exceeds(middle) else (low, middle)
    return high
