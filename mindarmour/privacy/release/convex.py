"""Regularised linear models whose minimum is certified: what output and objective perturbation stand on.

The objective is sum_i loss(y_i w.x_i) + strength / 2 |w|^2 + tilt.w over rows of norm at most 1. It is
minimised on the host in float64 until its gradient is provably small, because the guarantees speak about the
minimum itself; float32 arithmetic on a device stops too early to certify it.

References:
    Chaudhuri, Monteleoni, Sarwate 2011, "Differentially private empirical risk minimization", sections 3.4.1,
    3.4.2.
"""
from dataclasses import dataclass
from typing import Callable

import numpy as np
from scipy.special import expit

from mindarmour.privacy.release.local import clipped_records

_ITERATIONS = 200
# Mean gradient norm at which a point counts as the minimum; float64 reaches about 1e-15.
GRADIENT_TOLERANCE = 1e-10


@dataclass(frozen=True)
class MarginLoss:
    """A convex loss of the margin y w.x with slopes between -1 and 0.

    Args:
        value (Callable): Loss of an array of margins.
        slope (Callable): First derivative.
        curvature (Callable): Second derivative.
        smoothness (float): Its upper bound.
    """

    value: Callable
    slope: Callable
    curvature: Callable
    smoothness: float


def _logistic_curvature(margin):
    return expit(margin) * expit(-margin)


def _huber_value(width, margin):
    gap = 1 + width - margin
    return np.where(gap <= 0, 0.0, np.where(gap >= 2 * width, 1 - margin, gap ** 2 / (4 * width)))


def _huber_slope(width, margin):
    return -np.clip((1 + width - margin) / (2 * width), 0, 1)


def _huber_curvature(width, margin):
    return np.where(np.abs(1 - margin) <= width, 1 / (2 * width), 0.0)


def margin_loss(name, huber_width):
    """'logistic', or 'svm': the hinge loss with its corner rounded by `huber_width`."""
    if name == "logistic":
        return MarginLoss(lambda m: np.logaddexp(0, -m), lambda m: -expit(-m), _logistic_curvature, 0.25)
    return MarginLoss(lambda m: _huber_value(huber_width, m), lambda m: _huber_slope(huber_width, m),
                      lambda m: _huber_curvature(huber_width, m), 1 / (2 * huber_width))


def minimise(loss, rows, strength, tilt):
    """The minimum of the objective.

    Args:
        loss (MarginLoss): The loss.
        rows (numpy.ndarray): y_i x_i, float64 [n, d], norms at most 1.
        strength (float): Strength of the regulariser, above 0.
        tilt (numpy.ndarray): Linear term, float64 [d].

    Returns:
        numpy.ndarray, float64 [d], with gradient norm at most n * GRADIENT_TOLERANCE, and so at most that
        over `strength` away from the minimum.

    Raises:
        RuntimeError: It was not reached; nothing must be released then.
    """
    weights = np.zeros(rows.shape[1])
    gradient = _gradient(loss, rows, strength, tilt, weights)
    for _ in range(_ITERATIONS):
        if np.linalg.norm(gradient) <= len(rows) * GRADIENT_TOLERANCE:
            return weights
        bend = loss.curvature(rows @ weights)
        hessian = (rows * bend[:, None]).T @ rows + strength * np.eye(len(weights))
        weights, gradient = _descend(loss, rows, strength, tilt, weights, -np.linalg.solve(hessian, gradient))
    raise RuntimeError("The minimum was not reached to the precision that the guarantee needs, so nothing was "
                       "released. Raise regularization.")


def _descend(loss, rows, strength, tilt, weights, direction):
    """One step of Newton's method, halved until the objective or its gradient falls."""
    start = _objective(loss, rows, strength, tilt, weights)
    gradient = _gradient(loss, rows, strength, tilt, weights)
    length = 1.0
    for _ in range(60):
        trial = weights + length * direction
        slope = _gradient(loss, rows, strength, tilt, trial)
        falls = _objective(loss, rows, strength, tilt, trial) < start + 1e-4 * length * (gradient @ direction)
        if falls or np.linalg.norm(slope) < 0.9 * np.linalg.norm(gradient):
            break
        length /= 2
    return trial, slope


def _objective(loss, rows, strength, tilt, weights):
    return loss.value(rows @ weights).sum() + strength / 2 * weights @ weights + tilt @ weights


def _gradient(loss, rows, strength, tilt, weights):
    return rows.T @ loss.slope(rows @ weights) + strength * weights + tilt


class LinearProblem:
    """Data and model of one fit, with rows scaled to norm at most 1.

    Args:
        model (Cell): nn.Dense with one output, or a SequentialCell of only that.
        features (array_like): float [n, d].
        labels (array_like): n labels, 0 and 1 or -1 and 1.
        norm_bound (float): Rows of `features` are scaled down to this norm.
    """

    def __init__(self, model, features, labels, norm_bound):
        self._layer = single_layer(model)
        features = _features(features, self._layer)
        signs = _signs(labels, len(features))
        rows = clipped_records(features, norm_bound, 2) / norm_bound
        if self._layer.has_bias:
            rows = np.hstack([rows, np.ones((len(rows), 1))]) / np.sqrt(2)
        self._norm_bound = norm_bound
        self.rows = rows * signs[:, None]

    def assign(self, weights):
        """Write released weights into the model, in the scale of the original features."""
        import mindspore as ms
        if self._layer.has_bias:
            weights = weights / np.sqrt(2)
            self._layer.bias.set_data(ms.Tensor(weights[-1:], self._layer.bias.dtype))
            weights = weights[:-1]
        weights = weights / self._norm_bound
        self._layer.weight.set_data(ms.Tensor(weights[None, :], self._layer.weight.dtype))


def single_layer(model):
    """The one Dense layer of a linear model, or an error: anything else is not convex in its weights."""
    from mindspore import nn
    if not isinstance(model, nn.Cell):
        raise TypeError(f"model must be a Cell, but got {type(model).__name__}.")
    layer = model
    if isinstance(model, nn.SequentialCell) and len(model) == 1:
        layer = model[0]
    if not isinstance(layer, nn.Dense) or layer.activation is not None or layer.out_channels != 1:
        raise ValueError(f"model must be nn.Dense(features, 1) without activation, or a SequentialCell of only that, "
                         f"but got {type(model).__name__}: its objective is not convex, so neither output nor "
                         f"objective perturbation protects it. Train it with DPModel.")
    return layer


def _features(features, layer):
    features = np.asarray(features, np.float64)
    if features.ndim != 2 or features.shape[1] != layer.in_channels or not len(features):
        raise ValueError(f"features must have shape [n, {layer.in_channels}] for this model, n at least 1, but have "
                         f"{list(features.shape)}.")
    if not np.isfinite(features).all():
        raise ValueError("features must be finite, but hold NaN or infinity.")
    return features


def _signs(labels, count):
    labels = np.asarray(labels)
    if labels.shape != (count,):
        raise ValueError(f"labels must have shape [{count}], one for each row of features, but have "
                         f"{list(labels.shape)}.")
    if not (np.isin(labels, (0, 1)).all() or np.isin(labels, (-1, 1)).all()):
        raise ValueError("labels must be 0 and 1, or -1 and 1. Train one model per class for more classes, and add "
                         "their budgets.")
    return np.where(labels > 0, 1.0, -1.0)
