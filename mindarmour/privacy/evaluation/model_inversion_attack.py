"""Black-box inversion: train a decoder that turns a network's features back into its inputs."""
from __future__ import annotations

from pathlib import Path
from typing import Union

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn
from mindspore.dataset import Dataset

from mindarmour.privacy.evaluation.forward import evaluation_state
from mindarmour.privacy.evaluation.inversion.checks import check_bound, check_input_shape
from mindarmour.privacy.evaluation.inversion.split_network import checked_output, head_of
from mindarmour.privacy.evaluation.inversion.stand_in_training import (
    Checkpoints,
    image_tensor,
    in_evaluation,
    refuse_shared_weights,
    train_epochs,
)
from mindarmour.utils import _validate as check
from mindarmour.utils.image_metrics import compute_psnr, compute_ssim
from mindarmour.utils.logger import LogUtil

TAG = "ModelInversionAttack"
FOLDER = "trained_inv_ckpt_file"


class ModelInversionLoss(nn.Cell):
    """Mean squared error between the inputs and what the decoder makes of their features.

    Args:
        inv_network (Cell): The decoder, from features to inputs.

    Inputs:
        features (Tensor): Features of the inputs.
        original_images (Tensor): The inputs.

    Outputs:
        Tensor, a scalar.

    Supported Platforms:
        ``Ascend`` ``GPU`` ``CPU``
    """

    def __init__(self, inv_network):
        super().__init__(auto_prefix=False)
        self.inv_network = inv_network

    def construct(self, features, original_images):
        difference = self.inv_network(features) - original_images
        return (difference * difference).mean()


class ModelInversionAttack:
    """Learn the inverse of a network's first layers from queries, then invert any feature at once.

    Threat model: black box. The attacker sends images of his own (of the same kind as the victim's) through the
    layers, sees their features, and knows neither weights nor architecture. `train_inversion_model` makes these
    queries; `inverse` then works on features of images the attacker has not seen.

    Args:
        network (Cell): The network under attack. Either it has a method `get_layer_output(x, layer_name)`, or
            `split_layer` is the name of a child cell that a forward pass calls once.
        inv_network (Cell): The decoder to train, from the feature's shape to `input_shape`.
        input_shape (Union[tuple, list]): Shape of one input, channels first.
        ckpoint_path (Union[str, Path, None]): A file '*.ckpt' is loaded into the decoder at once, and new
            checkpoints go beside it, numbered on from its number. Any other path is the folder for new checkpoints.
            None loads nothing and saves in './trained_inv_ckpt_file'.
        split_layer (str): The layer whose output the attacker sees.

    Raises:
        TypeError: If an argument has another type.
        ValueError: If the layer does not exist (the message lists those that do), the decoder does not return
            the input's shape, or the checkpoint is another network's.
        FileNotFoundError: If the checkpoint file does not exist.

    References:
        He, Zhang and Lee (2019), "Model inversion attacks against collaborative inference", algorithm 2.

    Examples:
        >>> from mindspore import nn
        >>> from mindarmour.privacy.evaluation import ModelInversionAttack
        >>> victim = nn.SequentialCell(nn.Conv2d(1, 4, 3), nn.ReLU())
        >>> attack = ModelInversionAttack(victim, nn.Conv2d(4, 1, 3), (1, 8, 8), split_layer="0")
    """

    def __init__(self, network: nn.Cell, inv_network: nn.Cell, input_shape: Union[tuple, list],
                 ckpoint_path: Union[str, Path, None] = None, split_layer: str = "conv1") -> None:
        self._network = check.instance("network", network, nn.Cell)
        self._inv_network = check.instance("inv_network", inv_network, nn.Cell)
        self._layer = check.instance("split_layer", split_layer, str)
        self._head = head_of(network, split_layer)
        self._checkpoints = Checkpoints(inv_network, ckpoint_path, FOLDER, f"invmodel_{split_layer}")
        self.check_inv_network(input_shape)

    def check_inv_network(self, input_shape: Union[tuple, list]) -> None:
        """Refuse a decoder that does not return the input's shape.

        Args:
            input_shape (Union[tuple, list]): Shape of one input.

        Raises:
            ValueError: If the shapes differ.
        """
        check.instance("input_shape", input_shape, (tuple, list))
        shape = (1, *check_input_shape(tuple(input_shape)))
        with evaluation_state(self._network):
            feature = checked_output(self._head, self._network, self._layer, Tensor(np.zeros(shape, np.float32)))
        try:
            found = in_evaluation(self._inv_network, feature).shape
        except (ValueError, TypeError, RuntimeError) as error:
            raise ValueError(f"inv_network must take the feature of shape {feature.shape} at '{self._layer}', but "
                             f"refuses it.") from error
        if tuple(found) != shape:
            raise ValueError(f"inv_network must turn the feature of shape {feature.shape} at '{self._layer}' into "
                             f"{shape}, but returns {tuple(found)}.")

    def train_inversion_model(self, dataset: Dataset, epochs: int = 50, learningrate: float = 1e-3, eps: float = 1e-3,
                              apply_ams: bool = True, *, progress: bool = True) -> list[float]:
        """Train the decoder on features of the attacker's images; saves it every 10 epochs and at the end.

        A second call trains on, with a new optimizer, and numbers its files on.

        Args:
            dataset (Dataset): Batches whose first column holds images, as the network takes them.
            epochs (int): Passes over the data.
            learningrate (float): Learning rate of Adam.
            eps (float): Term of Adam's denominator.
            apply_ams (bool): Use the AMSGrad variant of Adam.
            progress (bool): Show a progress bar.

        Returns:
            list[float]: mean loss of each epoch.

        Raises:
            TypeError: If an argument has another type.
            ValueError: If a number is out of range, the dataset is empty or holds NaN, or the decoder shares weights
                with the network.
            ArithmeticError: If training diverges.
        """
        check.instance("dataset", dataset, ms.dataset.Dataset)
        check.integer("epochs", epochs, low=1)
        refuse_shared_weights("inv_network", self._inv_network, self._network)
        optimizer = nn.Adam(self._inv_network.trainable_params(), check.real("learningrate", learningrate, low=0),
                            eps=check.real("eps", eps, low=0), use_amsgrad=check.boolean("apply_ams", apply_ams))
        step = nn.TrainOneStepCell(ModelInversionLoss(self._inv_network), optimizer)
        with evaluation_state(self._network):
            return train_epochs(self._inv_network, lambda: self._train_epoch(step, dataset), epochs, self._checkpoints,
                                "Inverse network" if progress else "")

    def _train_epoch(self, step: nn.Cell, dataset: Dataset) -> float:
        losses = []
        for batch, *_ in dataset.create_tuple_iterator(num_epochs=1):
            images = image_tensor(batch)
            losses.append(float(step(self._head(images), images)))
        if not losses:
            raise ValueError("dataset must hold at least one batch, but is empty.")
        return float(np.mean(losses))

    def evaluate(self, dataset: Dataset, *, input_bound: tuple = (0.0, 1.0)) -> tuple[float, float]:
        """Mean SSIM and PSNR of the decoder's images.

        Neither says whether an image is recognisable: `reconstruction_report` puts them beside those of random pairs.

        Args:
            dataset (Dataset): Batches whose first column holds images.
            input_bound (tuple): (low, high) of the images' values: reconstructions are clipped to it and its span
                is the data range. Give it where images are not in [0, 1].

        Returns:
            tuple[float, float]: mean SSIM, mean PSNR in dB; (0, 0) for an empty dataset.

        Raises:
            TypeError: If an argument has another type.
            ValueError: If the bound is not one.
        """
        check.instance("dataset", dataset, ms.dataset.Dataset)
        low, high = check_bound(input_bound)
        ssim, psnr, outside = [], [], False
        for batch, *_ in dataset.create_tuple_iterator(num_epochs=1):
            images = image_tensor(batch)
            with evaluation_state(self._network):
                feature = self._head(images)
            found = self.inverse(feature).asnumpy()
            originals = images.asnumpy()
            outside = outside or originals.min() < low - 1e-6 or originals.max() > high + 1e-6
            for a, b in zip(np.clip(originals, low, high), np.clip(found, low, high)):
                ssim.append(compute_ssim(a, b, high - low, channel_axis=0))
                psnr.append(compute_psnr(a, b, high - low))
        if outside:
            LogUtil.get_instance().warn(TAG, "images leave the bound (%g, %g) and were clipped; give input_bound.",
                                        low, high)
        return (float(np.mean(ssim)), float(np.mean(psnr))) if ssim else (0, 0)

    def inverse(self, target_feature: Tensor) -> Tensor:
        """The decoder's images for features.

        Args:
            target_feature (Tensor): Features [B, ...].

        Returns:
            Tensor, images [B, *input_shape].

        Raises:
            TypeError: If the feature is not a Tensor.
        """
        check.instance("target_feature", target_feature, Tensor)
        return in_evaluation(self._inv_network, target_feature)
