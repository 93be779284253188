"""Minimise one objective per image over the box of valid images, many images at once, in one compiled step.

All attacks that search for an image use it. Images do not influence each other: the summed loss has each image's
own gradient, and Adam works value by value, so a batch finds what its images would find alone.
"""
from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops
from tqdm import tqdm

from mindarmour.utils import _validate as check
from mindarmour.utils.compiled import Compiled

METHODS = ("adam", "sign")
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


@dataclass(frozen=True)
class Descent:
    """How to descend.

    Args:
        bound (tuple): (low, high) of every value of an image; each step projects onto it.
        iterations (int): Steps.
        method (str): 'adam', with a learning rate that falls to zero along half a cosine (Kingma and Ba 2015), or
            'sign', a constant step along the sign of the gradient.
        learning_rate (float): First step, in units of the image's values.
        progress (str): Text of the progress bar; '' for none.
    """

    bound: tuple
    iterations: int
    method: str = "adam"
    learning_rate: float = 0.01
    progress: str = ""

    def __post_init__(self):
        check.integer("iters", self.iterations, low=1)
        check.choice("method", self.method, METHODS)
        check.real("lr", self.learning_rate, low=0)

    def schedule(self):
        """One row a step: learning rate, and the two bias corrections of Adam."""
        step = np.arange(1, self.iterations + 1)
        if self.method == "sign":
            rate = np.full(self.iterations, self.learning_rate)
        else:
            rate = self.learning_rate * 0.5 * (1 + np.cos(math.pi * (step - 1) / self.iterations))
        return np.stack([rate, 1 / (1 - BETA1 ** step), 1 / (1 - BETA2 ** step)], 1).astype(np.float32)


class _Total(nn.Cell):
    """Sum of the losses, and the losses."""

    def __init__(self, objective):
        super().__init__(auto_prefix=False)
        self.objective = objective

    def construct(self, images, condition):
        losses = self.objective(images, condition)
        return losses.sum(), losses


class _Step(Compiled):
    """One step, compiled for the weights of this moment: under PyNative a compiled cell does not see later ones,
    so every search builds its own."""

    def __init__(self, objective, descent):
        super().__init__(auto_prefix=False)
        self.gradient: Any = ms.value_and_grad(_Total(objective), 0, has_aux=True)
        self.low, self.high = descent.bound
        self.adam = descent.method == "adam"

    @ms.jit
    def construct(self, state, condition, rates):
        images, mean, square, best, best_loss = state
        (_, losses), slope = self.gradient(images, condition)
        better = (losses < best_loss).reshape((losses.shape[0],) + (1,) * (images.ndim - 1))
        best = ops.where(better, images, best)
        best_loss = ops.minimum(losses, best_loss)
        move = rates[0] * ops.sign(slope)
        if self.adam:
            mean = BETA1 * mean + (1 - BETA1) * slope
            square = BETA2 * square + (1 - BETA2) * slope * slope
            move = rates[0] * (mean * rates[1]) / (ops.sqrt(square * rates[2]) + EPSILON)
        return ops.clamp(images - move, self.low, self.high), mean, square, best, best_loss


def minimise(objective, start, condition, descent):
    """The best images found, and their losses.

    Args:
        objective (Cell): From (images float32 [B, ...], condition) to losses float32 [B].
        start (numpy.ndarray): Images float32 [B, ...].
        condition (Tensor): What the objective compares with, such as target features [B, ...] or labels [B].
        descent (Descent): How.

    Returns:
        tuple of numpy.ndarray: images float32 [B, ...] with the lowest loss seen, losses float32 [B]; the largest
        float32 where no loss was finite, beside the start.

    Raises:
        ArithmeticError: If no image has ever had a finite loss.
    """
    step = _Step(objective, descent)
    images = Tensor(np.clip(start, *descent.bound).astype(np.float32))
    zeros = ops.zeros_like(images)
    unseen = Tensor(np.full(len(start), np.finfo(np.float32).max, np.float32))
    state: Any = (images, zeros, zeros, images, unseen)
    rows = descent.schedule()
    # one more evaluation without a move, so that the last images compete for the best too
    rows = np.concatenate([rows, np.zeros((1, 3), np.float32)])
    for rates in tqdm(rows, desc=descent.progress, disable=not descent.progress, leave=False):
        state = step(ms.mutable(state), condition, Tensor(rates))
    losses = state[4].asnumpy()
    if not was_finite(losses).any():
        raise ArithmeticError("The loss was NaN or infinite in every step, so nothing was found. Are the network's "
                              "weights finite, and its outputs on images inside the bound?")
    return state[3].asnumpy(), losses


def was_finite(losses):
    """Which losses of `minimise` are those of images that were found [B]."""
    return losses < np.finfo(np.float32).max


def total_variation(images):
    """Mean squared difference of neighbouring pixels, both directions, per image: [B, C, H, W] to [B].

    The sum over both directions is divided by the number of pixels, so the value depends neither on the device
    nor on the size of the image (Mahendran and Vedaldi 2015, section 3, with exponent 2).
    """
    pixels = images.shape[1] * images.shape[2] * images.shape[3]
    return (squared_steps(images[:, :, :, 1:], images[:, :, :, :-1])
            + squared_steps(images[:, :, 1:, :], images[:, :, :-1, :])) / pixels


def squared_steps(ahead, behind):
    """Sum of (ahead - behind)^2 per image, [B, ...] to [B]; zero where a side of one pixel has no neighbours."""
    if ahead.size == 0:  # MindSpore's CPU sum of an empty tensor leaves its output unwritten
        return ops.zeros((ahead.shape[0],), ahead.dtype)
    step = ahead - behind
    return (step * step).sum(axis=(1, 2, 3))


def mean_square(values):
    """Mean of the squares per row: [B, ...] to [B]."""
    return (values * values).reshape((values.shape[0], -1)).mean(axis=1)
