"""Regularised linear models whose minimum is certified: what output and objective perturbation stand on.

The objective is sum_i loss(y_i w.x_i) + strength / 2 |w|^2 + tilt.w over rows of norm at most 1. It is
minimised on the host in float64 until its gradient is provably small, because the guarantees speak about the
minimum itself; float32 arithmetic on a device stops too early to certify it.

References:
    Chaudhuri, Monteleoni, Sarwate 2011, "Differentially private empirical risk minimization", sections 3.4.1,
    3.4.2.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable

import numpy as np
from mindspore import nn
from scipy.special import expit

from mindarmour.privacy.release.inputs import as_floats, clipped_records, finite_records
from mindarmour.utils.parameters import assign

_ITERATIONS = 1000
_BISECTIONS = 60
# Mean gradient norm at which a point counts as the minimum; float64 reaches about 1e-15.
GRADIENT_TOLERANCE = 1e-10
_COARSEST = 1e-3


class NotMinimised(RuntimeError):
    """The minimum was not reached to the precision that the guarantee needs."""


@dataclass(frozen=True)
class MarginLoss:
    """A convex loss of the margin y w.x with slopes between -1 and 0.

    Args:
        value (Callable): Loss of an array of margins.
        slope (Callable): First derivative.
        curvature (Callable): Second derivative.
        smoothness (float): Its upper bound.
    """

    value: Callable[[np.ndarray], np.ndarray]
    slope: Callable[[np.ndarray], np.ndarray]
    curvature: Callable[[np.ndarray], np.ndarray]
    smoothness: float


def _logistic_curvature(margin: np.ndarray) -> np.ndarray:
    return expit(margin) * expit(-margin)


def _huber_value(width: float, margin: np.ndarray) -> np.ndarray:
    gap = 1 + width - margin
    return np.where(gap <= 0, 0.0, np.where(gap >= 2 * width, 1 - margin, gap ** 2 / (4 * width)))


def _huber_slope(width: float, margin: np.ndarray) -> np.ndarray:
    return -np.clip((1 + width - margin) / (2 * width), 0, 1)


def _huber_curvature(width: float, margin: np.ndarray) -> np.ndarray:
    return np.where(np.abs(1 - margin) <= width, 1 / (2 * width), 0.0)


def margin_loss(name: str, huber_width: float) -> MarginLoss:
    """'logistic', or 'svm': the hinge loss with its corner rounded by `huber_width`."""
    if name == "logistic":
        return MarginLoss(lambda m: np.logaddexp(0, -m), lambda m: -expit(-m), _logistic_curvature, 0.25)
    return MarginLoss(lambda m: _huber_value(huber_width, m), lambda m: _huber_slope(huber_width, m),
                      lambda m: _huber_curvature(huber_width, m), 1 / (2 * huber_width))


def tolerance(loss: MarginLoss, reach: float, count: int, size: int) -> float:
    """Norm of the mean gradient that `minimise` is sure to reach in float64, rounding of the gradient included.

    It follows from public numbers alone, so that no refusal depends on the records.

    Args:
        loss (MarginLoss): The loss.
        reach (float): Bound of the norm of all weights that the solver may meet.
        count (int): Number of records.
        size (int): Numbers of a record.

    Raises:
        ValueError: float64 is not precise enough for these settings.
    """
    # a margin errs by size * reach units of rounding, a sum of slopes by one unit for each
    rounding = 2.0 ** -52 * (count + 2 * size * loss.smoothness * reach + 16)
    goal = max(GRADIENT_TOLERANCE, 4 * rounding)
    if not goal <= _COARSEST:
        raise ValueError(f"regularization and huber_width must be larger, or epsilon: weights up to {reach:.3g} with a "
                         f"curvature up to {loss.smoothness:.3g} leave {goal:.3g} of rounding in the gradient, and "
                         f"{_COARSEST} is allowed.")
    return goal


def minimise(loss: MarginLoss, rows: np.ndarray, strength: float, tilt: np.ndarray,
             goal: float = GRADIENT_TOLERANCE) -> np.ndarray:
    """The minimum of the objective, by Newton's method with a line search on the slope.

    Along each direction the slope is monotone, so the search never cycles; every step lowers the objective by a fixed
    share of the squared gradient (it is strongly convex and smooth), whatever the records are.

    Args:
        loss (MarginLoss): The loss.
        rows (numpy.ndarray): y_i x_i, float64 [n, d], norms at most 1.
        strength (float): Strength of the regulariser, above 0.
        tilt (numpy.ndarray): Linear term, float64 [d].
        goal (float): Norm of the mean gradient to certify, at least what `tolerance` says.

    Returns:
        numpy.ndarray, float64 [d], with gradient norm at most n * goal, and so at most that over `strength` away from
        the minimum.

    Raises:
        NotMinimised: It was not reached; nothing must be released then.
    """
    weights = np.zeros(rows.shape[1])
    gradient = _gradient(loss, rows, strength, tilt, weights)
    for _ in range(_ITERATIONS):
        if np.linalg.norm(gradient) <= 0.75 * len(rows) * goal:  # the rest is for rounding in the gradient
            return weights
        bend = loss.curvature(rows @ weights)
        hessian = (rows * bend[:, None]).T @ rows + strength * np.eye(len(weights))
        direction = -np.linalg.solve(hessian, gradient)
        if not gradient @ direction < 0:
            direction = -gradient / strength
        weights, gradient = _descend(loss, rows, strength, tilt, weights, gradient, direction)
    raise NotMinimised("The minimum was not reached to the precision that the guarantee needs, so nothing was "
                       "released, and the ledger states an infinite epsilon. Raise regularization or huber_width.")


def _descend(loss: MarginLoss, rows: np.ndarray, strength: float, tilt: np.ndarray, weights: np.ndarray,
             gradient: np.ndarray, direction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The whole step, or the part of it where the slope along it has vanished to a tenth; and the gradient there."""
    start = -(gradient @ direction)
    low, length, high = 0.0, 1.0, 1.0
    trial, found = weights, gradient
    for _ in range(_BISECTIONS):
        trial = weights + length * direction
        found = _gradient(loss, rows, strength, tilt, trial)
        slope = found @ direction
        if abs(slope) <= 0.1 * start or (slope <= 0 and length == 1.0):
            break
        low, high = (low, length) if slope > 0 else (length, high)
        length = (low + high) / 2
    return trial, found


def _gradient(loss: MarginLoss, rows: np.ndarray, strength: float, tilt: np.ndarray,
              weights: np.ndarray) -> np.ndarray:
    return rows.T @ loss.slope(rows @ weights) + strength * weights + tilt


class LinearProblem:
    """Data and model of one fit, with rows scaled to norm at most 1.

    Args:
        model (Cell): nn.Dense with one output, or a SequentialCell of only that.
        features (array_like): float [n, d].
        labels (array_like): n labels, 0 and 1 or -1 and 1.
        norm_bound (float): Rows of `features` are scaled down to this norm.
    """

    def __init__(self, model: nn.Cell, features: Any, labels: Any, norm_bound: float) -> None:
        self._layer = single_layer(model)
        features = _features(features, self._layer)
        signs = _signs(labels, len(features))
        rows = clipped_records(features, norm_bound, 2) / norm_bound
        if self._layer.has_bias:
            rows = np.hstack([rows, np.ones((len(rows), 1))]) / np.sqrt(2)
        self._norm_bound = norm_bound
        self.rows = rows * signs[:, None]

    def assign(self, weights: np.ndarray) -> None:
        """Write released weights into the model, in the scale of the original features."""
        if self._layer.has_bias:
            weights = weights / np.sqrt(2)
            assign(self._layer.bias, weights[-1:])
            weights = weights[:-1]
        assign(self._layer.weight, weights[None, :] / self._norm_bound)


def single_layer(model: nn.Cell) -> nn.Dense:
    """The one Dense layer of a linear model, or an error: anything else is not convex in its weights."""
    if not isinstance(model, nn.Cell):
        raise TypeError(f"model must be a Cell, but got {type(model).__name__}.")
    layer: Any = model
    if isinstance(model, nn.SequentialCell) and len(layer) == 1:
        layer = layer[0]
    if not isinstance(layer, nn.Dense) or layer.activation is not None or layer.out_channels != 1:
        raise ValueError(f"model must be nn.Dense(features, 1) without activation, or a SequentialCell of only that, "
                         f"but got {type(model).__name__}: its objective is not convex, so neither output nor "
                         f"objective perturbation protects it. Train it with DPModel.")
    return layer


def _features(features: Any, layer: nn.Dense) -> np.ndarray:
    features = as_floats("features", features)
    if features.ndim != 2 or features.shape[1] != layer.in_channels or not len(features):
        raise ValueError(f"features must have shape [n, {layer.in_channels}] for this model, n at least 1, but have "
                         f"{list(features.shape)}.")
    return finite_records("features", features)


def _signs(labels: Any, count: int) -> np.ndarray:
    labels = as_floats("labels", labels)
    if labels.shape != (count,):
        raise ValueError(f"labels must have shape [{count}], one for each row of features, but have "
                         f"{list(labels.shape)}.")
    if not (np.isin(labels, (0, 1)).all() or np.isin(labels, (-1, 1)).all()):
        raise ValueError("labels must be 0 and 1, or -1 and 1. Train one model per class for more classes, and add "
                         "their budgets.")
    return np.where(labels > 0, 1.0, -1.0)
