"""Gradient inversion: the examples behind a gradient that a client of federated learning sends."""
from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from mindspore import Tensor, nn
from scipy.optimize import minimize
from scipy.special import softmax
from tqdm import tqdm

from mindarmour.privacy.evaluation.forward import evaluation_state
from mindarmour.privacy.evaluation.inversion.checks import check_bound, check_classes, check_sides
from mindarmour.privacy.evaluation.inversion.gradient_matching import (
    GradientMatcher,
    cosine_distance,
    differentiable_loss,
    squared_distance,
    weights_restored,
)
from mindarmour.privacy.evaluation.inversion.label_inference import (
    analytic_inputs,
    find_head,
    gradient_arrays,
    infer_labels,
)
from mindarmour.privacy.evaluation.inversion.projected_descent import BETA1, BETA2, EPSILON
from mindarmour.utils import _validate as check

__all__ = ["GradientInversion", "GradientReconstruction", "infer_labels"]

METHODS = ("analytic", "idlg", "dlg", "cosine")
DEFAULT_ITERATIONS = {"analytic": 1, "idlg": 300, "dlg": 300, "cosine": 1000}
SOLVED = 1e-7
# random starts that may fail the self-check before the run is refused
STARTS = 3
# the step falls tenfold at these shares of the iterations (Geiping et al. 2020, section 5)
DROPS = (3 / 8, 5 / 8, 7 / 8)


@dataclass(frozen=True)
class GradientReconstruction:
    """What a gradient gave away.

    Args:
        images (numpy.ndarray): Reconstructed inputs float32 [B, *input_shape].
        labels (numpy.ndarray): Labels used or found, int64 [B].
        distance (float): Final distance of the gradients: relative squared, or one minus the cosine ('cosine',
            'analytic'); near zero says that the gradient is explained, not that the images are the true ones.
        restarts (int): Starts tried.
    """

    images: np.ndarray
    labels: np.ndarray
    distance: float
    restarts: int


class GradientInversion:
    """Reconstruct inputs (and labels) from the gradient they produced.

    Methods:

    - 'analytic': a network that begins with a dense layer with bias gives its input away exactly, at once.
    - 'idlg': read the label off the last layer, then search the image whose gradient is the observed one, by
      L-BFGS on the relative squared distance (Zhao et al. 2020).
    - 'dlg': search the label together with the image (Zhu et al. 2019).
    - 'cosine': maximise the cosine of the gradients under a total-variation prior with Adam on the gradient's sign
      (Geiping et al. 2020): for trained networks, where lengths say little.

    Before every run the derivative of the gradient distance is checked against finite differences; the run is
    refused if they differ by more than 1 %.

    Threat model: the attacker is the server, or whoever reads the client's message: weights, loss and gradient of
    one batch are known. Clipping and noise as in `DPModel` are the defence; larger batches make it harder and do
    not prevent it.

    Args:
        network (Cell): The network at the weights that made the gradient, in the mode (training or evaluation) it
            had then.
        loss_fn (Union[Cell, None]): Its loss. None, `nn.CrossEntropyLoss()` and
            `nn.SoftmaxCrossEntropyWithLogits(reduction='mean')` mean mean cross-entropy. Any other Cell works if
            `labels` are given.
        method (str): One of the four above.
        variation_weight (float): Weight of the total variation in 'cosine', at least 0.
        lr (float): First step of 'cosine', in units of the image's values.

    Raises:
        TypeError: If an argument has another type.
        ValueError: If a method is unknown or a number is out of range.

    References:
        Zhu, Liu and Han (2019), "Deep leakage from gradients".
        Zhao, Mopuri and Bilen (2020), "iDLG: improved deep leakage from gradients".
        Geiping, Bauermeister, Droege and Moeller (2020), "Inverting gradients: how easy is it to break privacy in
        federated learning?".

    Examples:
        >>> import mindspore as ms
        >>> import numpy as np
        >>> from mindspore import Tensor, nn
        >>> from mindarmour.privacy.evaluation import GradientInversion
        >>> network, loss = nn.SequentialCell(nn.Flatten(), nn.Dense(16, 3)), nn.CrossEntropyLoss()
        >>> image, label = np.random.default_rng(0).random((1, 1, 4, 4)).astype(np.float32), ms.Tensor([2], ms.int32)
        >>> def forward(x, y):
        ...     return loss(network(x), y)
        >>> gradients = ms.grad(forward, None, network.trainable_params())(ms.Tensor(image), label)
        >>> found = GradientInversion(network, loss, "analytic").reconstruct(gradients, (1, 4, 4))
        >>> bool(np.abs(found.images - image).max() < 1e-5), found.labels.tolist()
        (True, [2])
    """

    def __init__(self, network, loss_fn=None, method="idlg", *, variation_weight=1e-4, lr=0.1):
        self._network = check.instance("network", network, nn.Cell)
        self._loss_fn, self._soft = differentiable_loss(loss_fn)
        self._method = check.choice("method", method, METHODS)
        self._variation_weight = check.real("variation_weight", variation_weight, low=0, closed="low")
        self._lr = check.real("lr", lr, low=0)
        if method == "dlg" and not self._soft:
            raise ValueError("method 'dlg' searches the labels too and needs cross-entropy as loss_fn; use 'idlg' or "
                             "'cosine' with known labels.")

    def reconstruct(self, gradients, input_shape, *, labels=None, input_bound=None, iters=None, restarts=1,
                    seed=None, progress=True):
        """The inputs behind a gradient.

        Args:
            gradients (Union[list, tuple]): The observed gradient of the mean loss of a batch: Tensors or arrays in
                the order of `network.trainable_params()`.
            input_shape (tuple): Shape of one input.
            labels (Union[numpy.ndarray, None]): Labels int [B] if known, which also says the batch size. None means
                one example whose label is inferred. 'dlg' starts from them and does not trust them.
            input_bound (Union[tuple, None]): (low, high) of the input's values if known: the search keeps inside.
            iters (Union[int, None]): Iterations of each start; None takes 300 for L-BFGS, 1000 for 'cosine'.
            restarts (int): Random starts; the one with the smallest distance wins, and an explained gradient ends
                the search early.
            seed (Union[int, None]): Makes the random starts repeat.
            progress (bool): Show a progress bar.

        Returns:
            GradientReconstruction.

        Raises:
            TypeError: If an argument has another type.
            ValueError: If number or shapes of the gradients do not fit the network, a gradient is not finite or
                all zero, or a number is out of range.
            ArithmeticError: If the finite-difference self-check fails.
        """
        arrays = self._check_gradients(gradients)
        shape = check_sides(input_shape)
        check.integer("restarts", restarts, low=1)
        iterations = DEFAULT_ITERATIONS[self._method] if iters is None else check.integer("iters", iters, low=1)
        bound = None if input_bound is None else check_bound(input_bound)
        with weights_restored(self._network):
            labels = self._check_labels(labels, arrays, shape)
            if self._method == "analytic":
                return self._analytic(arrays, labels, shape)
        rng = np.random.default_rng(None if seed is None else check.integer("seed", seed, low=0))
        with weights_restored(self._network), tqdm(total=iterations * restarts, unit="it", leave=False,
                                                   desc=f"Gradient inversion ({self._method})",
                                                   disable=not progress) as bar:
            return self._search(arrays, labels, shape, bound, iterations, restarts, rng, bar)

    def _search(self, arrays, labels, shape, bound, iterations, restarts, rng, bar):
        distance = cosine_distance if self._method == "cosine" else squared_distance
        matcher = GradientMatcher(self._network, self._loss_fn, arrays, distance, self._soft)
        targets, best = self._targets(labels, shape), None
        for attempt in range(1, restarts + 1):
            start = self._checked_start(matcher, (len(labels), *shape), targets, bound, rng)
            solver = {"dlg": _solve_with_labels, "idlg": _solve, "cosine": self._ascend}[self._method]
            images, found, value = solver(matcher, start, targets, bound, iterations, bar)
            if best is None or value < best.distance:
                best = GradientReconstruction(images.astype(np.float32), found, value, attempt)
            if value < SOLVED:
                break
        return GradientReconstruction(best.images, best.labels, best.distance, attempt)

    def _ascend(self, matcher, start, targets, bound, iterations, bar):
        """Adam on the sign of the gradient of distance + variation, as Geiping et al. 2020."""
        images = start.copy()
        mean, square = np.zeros_like(images), np.zeros_like(images)
        best, best_value = images, np.inf
        for step in range(iterations):
            value, slopes = matcher.value_and_grad(images, targets)
            variation, variation_slope = total_variation_and_grad(images)
            value += self._variation_weight * variation
            if value < best_value:
                best, best_value = images.copy(), value
            sign = np.sign(slopes[0] + self._variation_weight * variation_slope)
            mean = BETA1 * mean + (1 - BETA1) * sign
            square = BETA2 * square + (1 - BETA2) * sign * sign
            rate = self._lr * 0.1 ** sum(step >= drop * iterations for drop in DROPS)
            images = images - rate * (mean / (1 - BETA1 ** (step + 1))) / (
                np.sqrt(square / (1 - BETA2 ** (step + 1))) + EPSILON)
            images = images if bound is None else np.clip(images, *bound)
            bar.update()
            bar.set_postfix(distance=f"{best_value:.2e}", refresh=False)
        return best, _as_classes(targets), float(matcher.value(best, targets))

    def _checked_start(self, matcher, shape, targets, bound, rng):
        """A random start whose derivative passes the self-check: near a kink of ReLU the first may not."""
        for _ in range(STARTS - 1):
            start = self._start(shape, bound, rng)
            with suppress(ArithmeticError):
                matcher.check(start, targets, rng)
                return start
        start = self._start(shape, bound, rng)
        matcher.check(start, targets, rng)
        return start

    @staticmethod
    def _start(shape, bound, rng):
        return rng.standard_normal(shape) if bound is None else rng.uniform(*bound, shape)

    def _analytic(self, arrays, labels, shape):
        """The candidate whose own gradient points in the direction of the observed one."""
        if len(labels) != 1:
            raise ValueError(f"method 'analytic' reconstructs one example, but labels has {len(labels)}.")
        names = [parameter.name for parameter in self._network.trainable_params()]
        candidates = analytic_inputs(arrays, names, shape)
        matcher = GradientMatcher(self._network, self._loss_fn, arrays, cosine_distance, self._soft)
        targets = self._targets(labels, shape)
        distances = [float(matcher.value(images, targets)) for images in candidates]
        best = int(np.argmin(distances))
        return GradientReconstruction(candidates[best].astype(np.float32), labels, max(0.0, distances[best]), 1)

    def _targets(self, labels, shape):
        """Labels as the loss takes them: one-hot probabilities for cross-entropy."""
        return np.eye(self._number_of_classes(shape))[labels] if self._soft else labels

    def _number_of_classes(self, shape):
        with evaluation_state(self._network):
            return self._network(Tensor(np.zeros((1, *shape), np.float32))).shape[-1]

    def _inferred(self, arrays, shape):
        """Labels by the gradients alone; with noise on them the network's own gradient shows which layer is last."""
        try:
            return infer_labels(arrays)
        except ValueError:
            matcher = GradientMatcher(self._network, self._loss_fn, arrays, squared_distance, True)
            image = np.random.default_rng(0).standard_normal((1, *shape))
            own = matcher.gradient(image, np.eye(self._number_of_classes(shape))[:1])
            return infer_labels(arrays, head=find_head(own))

    def _check_gradients(self, gradients):
        arrays = gradient_arrays(gradients)
        parameters = self._network.trainable_params()
        if len(arrays) != len(parameters):
            raise ValueError(f"gradients must hold one gradient for each of the network's {len(parameters)} trainable "
                             f"parameters, but holds {len(arrays)}.")
        for array, parameter in zip(arrays, parameters):
            if array.shape != tuple(parameter.shape):
                raise ValueError(f"the gradient of '{parameter.name}' must have shape {tuple(parameter.shape)}, but "
                                 f"has {array.shape}.")
        if not any(array.any() for array in arrays):
            raise ValueError("gradients must not all be zero: a zero gradient says nothing about its batch.")
        return arrays

    def _check_labels(self, labels, arrays, shape):
        if labels is None:
            if not self._soft:
                raise ValueError("labels must be given for a loss other than cross-entropy: they cannot be inferred.")
            return self._inferred(arrays, shape)
        return check_classes(labels, self._number_of_classes(shape) if self._soft else None)


def _as_classes(targets):
    return targets.argmax(1).astype(np.int64) if targets.ndim == 2 else targets


def _lbfgs(function, start, bounds, iterations, bar):
    def report(_):
        bar.update()

    return minimize(function, start, jac=True, method="L-BFGS-B", bounds=bounds, callback=report,
                    options={"maxiter": iterations, "maxfun": 3 * iterations, "maxcor": 50, "ftol": 0, "gtol": 0})


def _solve(matcher, start, targets, bound, iterations, bar):
    """L-BFGS over the images, the labels fixed."""
    def function(flat):
        value, slopes = matcher.value_and_grad(flat.reshape(start.shape), targets)
        return value, slopes[0].ravel()

    bounds = None if bound is None else [bound] * start.size
    result = _lbfgs(function, start.ravel(), bounds, iterations, bar)
    return result.x.reshape(start.shape), _as_classes(targets), float(result.fun)


def _solve_with_labels(matcher, start, targets, bound, iterations, bar):
    """L-BFGS over the images and the logits of the labels."""
    size = start.size

    def function(flat):
        probabilities = softmax(flat[size:].reshape(targets.shape), axis=1)
        value, (slope, label_slope) = matcher.value_and_grad(flat[:size].reshape(start.shape), probabilities)
        mean = (label_slope * probabilities).sum(1, keepdims=True)
        return value, np.concatenate([slope.ravel(), (probabilities * (label_slope - mean)).ravel()])

    bounds = None if bound is None else [bound] * size + [(None, None)] * targets.size
    result = _lbfgs(function, np.concatenate([start.ravel(), np.zeros(targets.size)]), bounds, iterations, bar)
    logits = result.x[size:].reshape(targets.shape)
    return result.x[:size].reshape(start.shape), _as_classes(logits), float(result.fun)


def total_variation_and_grad(images):
    """Mean absolute difference of neighbours in the last two axes, and its derivative (Geiping et al. 2020)."""
    value, slope = 0.0, np.zeros_like(images)
    for axis in (images.ndim - 1, images.ndim - 2):
        if axis < 2 or images.shape[axis] < 2:
            continue
        difference = np.diff(images, axis=axis)
        value += np.abs(difference).mean()
        sign = np.sign(difference) / difference.size
        ahead, behind = [(0, 0)] * images.ndim, [(0, 0)] * images.ndim
        ahead[axis], behind[axis] = (1, 0), (0, 1)
        slope += np.pad(sign, ahead) - np.pad(sign, behind)
    return float(value), slope
