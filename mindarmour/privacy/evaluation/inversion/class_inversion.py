"""Class inversion: images that a classifier takes for a class."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Union

import numpy as np
from mindspore import Tensor, nn

from mindarmour.privacy.evaluation.checks import are_probabilities, checked_outputs
from mindarmour.privacy.evaluation.forward import evaluation_state, predict_queries
from mindarmour.privacy.evaluation.inversion.checks import check_bound, check_classes, check_images, check_input_shape
from mindarmour.privacy.evaluation.inversion.class_entropy import class_entropy
from mindarmour.privacy.evaluation.inversion.projected_descent import (
    Descent,
    mean_square,
    minimise,
    total_variation,
    was_finite,
)
from mindarmour.utils import _validate as check

ADAM_STEP = 0.05
PROBES = 8


class ClassInversionLoss(nn.Cell):
    """Loss of each image: cross-entropy of its class, plus total variation and mean square, weighted.

    Args:
        network (Cell): From images to logits.
        variation_weight (float): Weight of the total variation.
        energy_weight (float): Weight of the mean square.
        probabilities (bool): The network ends in Softmax: its outputs are probabilities.

    Inputs:
        images (Tensor): [B, C, H, W].
        labels (Tensor): One-hot float32 [B, K].

    Outputs:
        Tensor, float32 [B].
    """

    def __init__(self, network, variation_weight, energy_weight, probabilities=False):
        super().__init__(auto_prefix=False)
        self.network = network
        self.probabilities = probabilities
        self.variation_weight = variation_weight
        self.energy_weight = energy_weight

    def construct(self, images, labels):
        outputs = self.network(images)
        entropy = class_entropy(outputs, labels, self.probabilities)
        return (entropy + self.variation_weight * total_variation(images)
                + self.energy_weight * mean_square(images))


@dataclass(frozen=True)
class ClassInversionReport:
    """Whether the images are of their class to somebody else, and whether they are anybody's.

    Args:
        label_match (float): Share that an independent network gives the class asked for.
        nearest_train (numpy.ndarray): Root mean squared distance to the nearest training image, float64 [N].
        nearest_test (numpy.ndarray): The same to the nearest image that was not trained on.
    """

    label_match: float
    nearest_train: np.ndarray
    nearest_test: np.ndarray

    def summary(self) -> str:
        """The numbers in words."""
        return (f"label match {self.label_match:.0%}; distance to the nearest training image "
                f"{self.nearest_train.mean():.3f}, to the nearest test image {self.nearest_test.mean():.3f}")


class ClassInversion:
    """Find images that a classifier is sure belong to given classes.

    Each class gets several random starts, all descended in one batch with Adam; the best iterate of the best start
    is returned. What appears is what the class looks like to the classifier. It is a picture of the class, not of a
    training example, unless the class is one person: `evaluate` measures both.

    Threat model: white box; the attacker knows the classifier and a label, and no feature or example.

    Args:
        network (Cell): The classifier, from images to logits.
        input_shape (tuple): Shape of one image as the network takes it, channels first.
        input_bound (Union[list, tuple]): (low, high) of the values of an image.
        variation_weight (float): Weight of the total variation, at least 0: larger means smoother.
        energy_weight (float): Weight of the mean square, at least 0: larger means fewer bright spots.

    Raises:
        TypeError: If an argument has another type.
        ValueError: If a number is out of range.

    References:
        Fredrikson, Jha and Ristenpart (2015), "Model inversion attacks that exploit confidence information and
        basic countermeasures", algorithm 1 (MI-Face).

    Examples:
        >>> import numpy as np
        >>> from mindspore import nn
        >>> from mindarmour.privacy.evaluation import ClassInversion
        >>> classifier = nn.SequentialCell(nn.Flatten(), nn.Dense(64, 3))
        >>> attack = ClassInversion(classifier, (1, 8, 8), (0, 1))
        >>> attack.reconstruct(np.array([0, 2]), iters=5, restarts=2).shape
        (2, 1, 8, 8)
    """

    def __init__(self, network: nn.Cell, input_shape: tuple, input_bound: Union[list, tuple], *,
                 variation_weight: float = 1.0, energy_weight: float = 1.0) -> None:
        self._network = check.instance("network", network, nn.Cell)
        self._shape = check_input_shape(input_shape)
        self._bound = check_bound(input_bound)
        self._weights = (check.real("variation_weight", variation_weight, low=0, closed="low"),
                         check.real("energy_weight", energy_weight, low=0, closed="low"))

    def reconstruct(self, labels: np.ndarray, *, iters: int = 200, restarts: int = 4, lr: Optional[float] = None,
                    seed: Optional[int] = None) -> np.ndarray:
        """One image for each label.

        Args:
            labels (numpy.ndarray): Classes int [N].
            iters (int): Steps.
            restarts (int): Random starts of each label.
            lr (Union[float, None]): First step in units of the image's values; None takes 5 % of the span of
                `input_bound`.
            seed (Union[int, None]): Makes the random starts repeat.

        Returns:
            numpy.ndarray, float32 [N, *input_shape], inside `input_bound`.

        Raises:
            TypeError: If an argument has another type.
            ValueError: If a label is not a class, a number is out of range, or the network's outputs are neither
                logits nor probabilities.
            ArithmeticError: If the loss of a label is never finite.
        """
        outputs = self._outputs()
        table = np.eye(outputs.shape[1], dtype=np.float32)[check_classes(labels, outputs.shape[1])]
        loss = ClassInversionLoss(self._network, *self._weights, are_probabilities("outputs of network", outputs))
        check.integer("restarts", restarts, low=1)
        low, high = self._bound
        descent = Descent(self._bound, iters, "adam", ADAM_STEP * (high - low) if lr is None else lr)
        rng = np.random.default_rng(None if seed is None else check.integer("seed", seed, low=0))
        start = rng.uniform(low, high, (len(table) * restarts, *self._shape))
        with evaluation_state(self._network):
            images, losses = minimise(loss, start, Tensor(np.repeat(table, restarts, axis=0)), descent)
        losses = losses.reshape(len(table), restarts)
        lost = ~was_finite(losses).any(axis=1)
        if lost.any():
            raise ArithmeticError(f"The loss of {lost.sum()} of {len(lost)} labels was never finite, so no image was "
                                  f"found for them. Try more restarts, or a narrower input_bound.")
        best = losses.argmin(1)
        return images.reshape(len(table), restarts, *self._shape)[np.arange(len(table)), best]

    def evaluate(self, images: np.ndarray, labels: np.ndarray, network: nn.Cell, train_images: np.ndarray,
                 test_images: np.ndarray) -> ClassInversionReport:
        """Judge images by a second network and by their distance to real ones.

        Args:
            images (numpy.ndarray): Images [N, C, H, W] from `reconstruct`.
            labels (numpy.ndarray): Their classes int [N].
            network (Cell): A classifier trained independently of the attacked one.
            train_images (numpy.ndarray): Images the attacked network was trained on.
            test_images (numpy.ndarray): Images that it was not. Of the larger of the two sets a random part as large
                as the smaller is compared, because the nearest of more images is nearer by chance.

        Returns:
            ClassInversionReport.

        Raises:
            TypeError: If an argument has another type.
            ValueError: If shapes do not fit.
        """
        images = check_images("images", images)
        labels = check_classes(labels, self._outputs().shape[1], len(images))
        check.instance("network", network, nn.Cell)
        real = [_real_images(name, others, images.shape[1:])
                for name, others in (("train_images", train_images), ("test_images", test_images))]
        guesses = predict_queries(network, images.astype(np.float32))[:, 0].argmax(1)
        return ClassInversionReport(float(np.mean(guesses == labels)),
                                    *(_nearest(images, others) for others in _equally_many(*real)))

    def _outputs(self) -> np.ndarray:
        """The network's outputs for a few random images [PROBES, K]."""
        probes = np.random.default_rng(0).uniform(*self._bound, (PROBES, *self._shape)).astype(np.float32)
        outputs = predict_queries(self._network, probes)[:, 0]
        checked_outputs("outputs of network", outputs, ndim=2)
        return outputs


def _real_images(name: str, images: np.ndarray, shape: tuple) -> np.ndarray:
    images = check_images(name, images)
    if images.shape[1:] != shape:
        raise ValueError(f"{name} must hold images of shape {shape}, but have {images.shape[1:]}.")
    return images


def _equally_many(*groups: np.ndarray) -> list[np.ndarray]:
    """Of each group a random part, always the same, as large as the smallest group."""
    count = min(map(len, groups))
    return [np.random.default_rng(0).permutation(group)[:count] for group in groups]


def _nearest(images: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Root mean squared distance of each image to the nearest of the others."""
    a, b = images.reshape(len(images), -1), others.reshape(len(others), -1)
    squares = (a ** 2).sum(1)[:, None] + (b ** 2).sum(1)[None] - 2 * a @ b.T
    return np.sqrt(np.maximum(squares.min(1), 0) / a.shape[1])
