"""Distance between a network's gradient and an observed one, and the derivative of that distance in the image.

The derivative is second order: the gradient in x of a function of the gradient in the weights W. MindSpore's own
second-order differentiation is not used: it refuses most calling patterns and, for convolutions on a CPU, was
found wrong by several percent without a word. Instead, with V the derivative of the distance D in the gradient g,

    d D(g(x)) / dx  =  d/dx <V, dL/dW>  =  lim_e [dL/dx (W + e V) - dL/dx (W - e V)] / 2e,

a central difference of first-order gradients (Pearlmutter 1994, "Fast exact multiplication by the Hessian", names
it as the approximation to beat; here it is the accurate one). Every operator with a gradient is enough, graph mode
and PyNative agree, and both gradients are compiled once with the weights as inputs.
"""
from __future__ import annotations

import math
from contextlib import contextmanager
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from mindarmour.utils import _validate as check
from mindarmour.utils.compiled import Compiled
from mindarmour.utils.parameters import assign, values_of

# relative to the length of the weights: a long step crosses kinks of ReLU, a short one drowns in rounding
STEPS = (1e-5, 1e-4, 3e-5, 3e-4, 1e-3, 3e-6, 1e-6)
# in units of the image's values
PROBE_STEPS = (1e-3, 1e-2, 1e-4)
DIRECTIONS = 5
TOLERANCE = 0.01
EXACT = 1e-12


class SoftLabelCrossEntropy(nn.Cell):
    """Mean cross-entropy with probabilities as labels, differentiable in both.

    Inputs:
        logits (Tensor): [B, K].
        labels (Tensor): Probabilities float32 [B, K].

    Outputs:
        Tensor, a scalar.
    """

    def construct(self, logits, labels):
        return ((ops.logsumexp(logits, 1, True) - logits) * labels).sum(axis=1).mean()


class LossOfBatch(nn.Cell):
    """A network followed by its loss, as a function of images and labels."""

    def __init__(self, network, loss_fn):
        super().__init__(auto_prefix=False)
        self.network = network
        self.loss_fn = loss_fn

    def construct(self, images, labels):
        return self.loss_fn(self.network(images), labels)


class WeightGradient(Compiled):
    """Gradient in the weights, at weights that are an input. Assigning inside the graph is what a compiled
    function sees in both modes; under PyNative it does not see an assignment made outside."""

    def __init__(self, loss, parameters):
        super().__init__(auto_prefix=False)
        self.loss = loss
        self.parameters = ms.ParameterTuple(parameters)
        self.gradient = ms.grad(loss, None, self.parameters)

    @ms.jit
    def construct(self, images, labels, weights):
        for parameter, weight in zip(self.parameters, weights):
            ops.assign(parameter, weight)
        return self.gradient(images, labels)


class InputGradient(Compiled):
    """Gradient in the images (and in the labels, if they are probabilities), at weights that are an input."""

    def __init__(self, loss, parameters, positions):
        super().__init__(auto_prefix=False)
        self.loss = loss
        self.parameters = ms.ParameterTuple(parameters)
        self.gradient = ms.grad(loss, positions)

    @ms.jit
    def construct(self, images, labels, weights):
        for parameter, weight in zip(self.parameters, weights):
            ops.assign(parameter, weight)
        return self.gradient(images, labels)


def squared_distance(gradient, target):
    """sum |g - G|^2 / sum |G|^2, and its derivative in g."""
    scale = sum(float(np.vdot(t, t)) for t in target)
    difference = [g - t for g, t in zip(gradient, target)]
    return sum(float(np.vdot(d, d)) for d in difference) / scale, [2 * d / scale for d in difference]


def cosine_distance(gradient, target):
    """1 - <g, G> / (|g| |G|), and its derivative in g."""
    inner = sum(float(np.vdot(g, t)) for g, t in zip(gradient, target))
    length = math.sqrt(sum(float(np.vdot(g, g)) for g in gradient)) or np.finfo(np.float64).tiny
    target_length = math.sqrt(sum(float(np.vdot(t, t)) for t in target))
    cosine = inner / (length * target_length)
    derivative = [cosine * g / length ** 2 - t / (length * target_length) for g, t in zip(gradient, target)]
    return 1 - cosine, derivative


class GradientMatcher:
    """Distance of a network's gradient at (images, labels) from a target, with derivatives.

    Args:
        network (Cell): The network.
        loss_fn (Cell): Loss of (output, labels).
        target (list): Observed gradients float64, in the order of `network.trainable_params()`.
        distance (Callable): `squared_distance` or `cosine_distance`.
        soft_labels (bool): Labels are probabilities and get a derivative too.
    """

    def __init__(self, network, loss_fn, target, distance, soft_labels):
        loss = LossOfBatch(network, loss_fn)
        parameters = network.trainable_params()
        self._network = network
        self._weights = [parameter.asnumpy().astype(np.float64) for parameter in parameters]
        self._weight_gradient: Any = WeightGradient(loss, parameters)
        self._input_gradient = InputGradient(loss, parameters, (0, 1) if soft_labels else (0,))
        self._target = target
        self._distance = distance
        self._length = math.sqrt(sum(float(np.vdot(w, w)) for w in self._weights))
        self.step = STEPS[0]

    def value(self, images, labels):
        """The distance."""
        return self._distance(self.gradient(images, labels), self._target)[0]

    def value_and_grad(self, images, labels):
        """The distance, and its derivatives float64: one for the images, and one for probability labels."""
        value, direction = self._distance(self.gradient(images, labels), self._target)
        length = math.sqrt(sum(float(np.vdot(d, d)) for d in direction))
        if length == 0:
            return value, [np.zeros(images.shape), np.zeros(labels.shape)]
        reach = self.step * self._length / length
        above = self._slopes(images, labels, direction, reach)
        below = self._slopes(images, labels, direction, -reach)
        return value, [(a - b) / (2 * reach) for a, b in zip(above, below)]

    def check(self, images, labels, rng):
        """Choose the step in the weights whose derivative agrees with finite differences in the image.

        Most of a few directions must agree, not all, because a finite difference that crosses a kink of ReLU or
        of max-pooling is off by the height of the jump.

        Raises:
            ArithmeticError: If none agrees within 1 %: the distance is not smooth here, or the loss is not
                differentiated correctly.
        """
        ratios = []
        for self.step in STEPS:
            value, slopes = self.value_and_grad(images, labels)
            slope = slopes[0]
            if value < EXACT:
                return  # the start explains the gradient already: there is no slope to compare
            for probe in PROBE_STEPS:
                found = self._measured_over_given(images, labels, slope, probe, rng)
                if np.mean(np.abs(found - 1) < TOLERANCE) > 0.5:
                    return
                ratios.append(float(np.median(found)))
        closest = min(ratios, key=_distance_from_one)
        raise ArithmeticError(
            f"The derivative of the gradient distance failed its self-check: finite differences give {closest:.4g} "
            f"times its value, 1 % of deviation is allowed. The attack needs a network that is smooth where the "
            f"search starts, without dropout or other randomness, and a loss with a correct gradient: try another "
            f"seed, evaluation mode, or another loss_fn.")

    def _measured_over_given(self, images, labels, slope, probe, rng):
        """The finite difference divided by the given derivative, for each of DIRECTIONS directions."""
        ratios = []
        for _ in range(DIRECTIONS):
            direction = _probe(slope, rng)
            ahead, behind = (self.value(images + sign * probe * direction, labels) for sign in (1, -1))
            given = float(np.vdot(slope, direction))
            ratios.append((ahead - behind) / (2 * probe) / (given or np.finfo(np.float64).tiny))
        return np.array(ratios)

    def gradient(self, images: np.ndarray, labels: np.ndarray) -> list[np.ndarray]:
        """Gradient in the weights, float64."""
        parts = self._weight_gradient(*_tensors(images, labels), self._at(None, 0))
        return [part.asnumpy().astype(np.float64) for part in parts]

    def _slopes(self, images, labels, direction, reach):
        parts = self._input_gradient(*_tensors(images, labels), self._at(direction, reach))
        return [part.asnumpy().astype(np.float64) for part in (parts if isinstance(parts, tuple) else (parts,))]

    def _at(self, direction, reach):
        moved = [w + reach * d for w, d in zip(self._weights, direction)] if reach else self._weights
        return ms.mutable(tuple(Tensor(weight.astype(np.float32)) for weight in moved))


def _distance_from_one(ratio):
    return abs(ratio - 1)


def _tensors(images, labels):
    labels = Tensor(labels.astype(np.float32) if labels.dtype.kind == "f" else labels.astype(np.int32))
    return Tensor(images.astype(np.float32)), labels


def _probe(slope, rng):
    """A unit direction, half along the slope, so that the derivative along it is far from zero."""
    random = rng.standard_normal(slope.shape)
    direction = random / np.linalg.norm(random)
    length = np.linalg.norm(slope)
    if length:
        direction = direction + slope / length
    return direction / np.linalg.norm(direction)


@contextmanager
def weights_restored(network):
    """Leave every parameter of the network as it was, whatever runs inside."""
    before = [(parameter, values_of(parameter)) for parameter in network.get_parameters()]
    try:
        yield
    finally:
        for parameter, value in before:
            assign(parameter, value)


def differentiable_loss(loss_fn):
    """(loss, soft): MindSpore's mean cross-entropies as `SoftLabelCrossEntropy`, any other loss as it is.

    Raises:
        ValueError: For a cross-entropy with options that change its gradient.
    """
    if loss_fn is None:
        return SoftLabelCrossEntropy(), True
    check.instance("loss_fn", loss_fn, nn.Cell)
    if isinstance(loss_fn, (nn.CrossEntropyLoss, nn.SoftmaxCrossEntropyWithLogits)):
        plain = loss_fn.reduction == "mean"
        if isinstance(loss_fn, nn.CrossEntropyLoss):
            plain = plain and loss_fn.weight is None and loss_fn.label_smoothing == 0.0
        if not plain:
            raise ValueError("loss_fn must be a mean cross-entropy without class weights and label smoothing: the "
                             "gradients of another loss need that loss as a Cell of its own.")
        return SoftLabelCrossEntropy(), True
    return loss_fn, False
