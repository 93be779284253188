"""Query-free inversion: train a stand-in for layers that the attacker can neither see nor query."""
from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Optional, Union

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn
from mindspore.dataset import Dataset

from mindarmour.privacy.evaluation.checks import are_probabilities, checked_outputs
from mindarmour.privacy.evaluation.forward import evaluation_state
from mindarmour.privacy.evaluation.inversion.checks import check_classes
from mindarmour.privacy.evaluation.inversion.class_entropy import class_entropy
from mindarmour.privacy.evaluation.inversion.split_network import checked_output, pynative_mode, tail_of
from mindarmour.privacy.evaluation.inversion.stand_in_training import (
    Checkpoints,
    image_tensor,
    in_evaluation,
    refuse_shared_weights,
    train_epochs,
)
from mindarmour.utils import _validate as check

FOLDER = "trained_shadow_ckpt_file"
DEFAULTS = {"epochs": 50, "learningrate": 1e-3, "eps": 1e-3, "num_classes": 10, "apply_ams": True}


class ShadowModelLoss(nn.Cell):
    """Mean cross-entropy of the target's last layers on the shadow's features.

    Args:
        tail (Callable): From (feature, images) to logits; its weights stay as they are.
        shadow_network (Cell): From images to features.
        probabilities (bool): The last layers end in Softmax: their outputs are probabilities.

    Inputs:
        images (Tensor): [B, ...].
        labels (Tensor): Probabilities float32 [B, K].

    Outputs:
        Tensor, a scalar.

    Supported Platforms:
        ``Ascend`` ``GPU`` ``CPU``
    """

    def __init__(self, tail, shadow_network, probabilities=False):
        super().__init__(auto_prefix=False)
        self.tail = tail
        self.probabilities = probabilities
        self.shadow_network = shadow_network

    def construct(self, images, labels):
        return class_entropy(self.tail(self.shadow_network(images), images), labels, self.probabilities).mean()


class ShadowModelAttack:
    """Train a shadow of a network's first layers through its last layers, without a single query.

    Threat model: the attacker knows the last layers (he runs them, as the server in split inference), sees
    features, has labelled images of the same kind, and cannot query the first layers. The shadow is trained until
    the last layers classify its features well; it then stands in for the first layers in `ImageInversionAttack`,
    which inverts features it did not make.

    Args:
        network (Cell): The network under attack. Either it has a method `forward_from(feature, layer_name)`, or
            `split_layer` is the name of a child cell that a forward pass calls once. Its weights are not changed.
        shadow_network (Cell): The stand-in to train, from images to the feature's shape.
        ckpoint_path (Union[str, Path]): A file '*.ckpt' is loaded into the shadow at once, and new checkpoints go
            beside it, numbered on from its number. Any other path is the folder for new checkpoints; '' means
            './trained_shadow_ckpt_file'.
        split_layer (str): The layer whose output the attacker sees.

    Raises:
        TypeError: If an argument has another type.
        ValueError: If the layer does not exist (the message lists those that do) or the checkpoint is another
            network's.
        FileNotFoundError: If the checkpoint file does not exist.

    References:
        He, Zhang and Lee (2019), "Model inversion attacks against collaborative inference", algorithm 3.

    Examples:
        >>> from mindspore import nn
        >>> from mindarmour.privacy.evaluation import ShadowModelAttack
        >>> victim = nn.SequentialCell(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Dense(256, 10))
        >>> attack = ShadowModelAttack(victim, nn.Conv2d(1, 4, 3), split_layer="0")
    """

    def __init__(self, network: nn.Cell, shadow_network: nn.Cell, ckpoint_path: Union[str, Path] = "",
                 split_layer: str = "conv1") -> None:
        self._network = check.instance("network", network, nn.Cell)
        self._shadow = check.instance("shadow_network", shadow_network, nn.Cell)
        self._layer = check.instance("split_layer", split_layer, str)
        self._tail = tail_of(network, split_layer)
        self._checkpoints = Checkpoints(shadow_network, ckpoint_path, FOLDER, f"shadowmodel_{split_layer}")

    def train_shadow_model(self, dataset: Dataset, attack_config: Optional[dict] = None, *,
                           progress: bool = True) -> list[float]:
        """Train the shadow; saves it every 10 epochs and at the end.

        A second call trains on, with a new optimizer, and numbers its files on.

        Args:
            dataset (Dataset): Batches of (images, labels int [B]).
            attack_config (Union[dict, None]): Any of epochs (50), learningrate (1e-3), eps (1e-3, of Adam),
                num_classes (10) and apply_ams (True, AMSGrad).
            progress (bool): Show a progress bar.

        Returns:
            list[float]: mean loss of each epoch.

        Raises:
            TypeError: If an argument has another type.
            ValueError: If the configuration has an unknown key, a number is out of range, a label is not a class,
                `num_classes` is not the network's, the dataset is empty or holds NaN, or the shadow shares weights
                with the network.
            ArithmeticError: If training diverges.
        """
        check.instance("dataset", dataset, ms.dataset.Dataset)
        config = _check_config(attack_config)
        refuse_shared_weights("shadow_network", self._shadow, self._network)
        optimizer = nn.Adam(self._shadow.trainable_params(), config["learningrate"], eps=config["eps"],
                            use_amsgrad=config["apply_ams"])
        with self._running():
            step = nn.TrainOneStepCell(self._loss(dataset, config["num_classes"]), optimizer)
            return train_epochs(self._shadow, lambda: _mean_loss(step, dataset, config["num_classes"]),
                                config["epochs"], self._checkpoints, "Shadow network" if progress else "")

    def evaluate(self, dataset: Dataset, num_classes: int = 10) -> float:
        """Mean cross-entropy per example of the target's last layers on the shadow's features.

        Args:
            dataset (Dataset): Batches of (images, labels int [B]).
            num_classes (int): Classes.

        Returns:
            float.

        Raises:
            TypeError: If an argument has another type.
            ValueError: If a label is not a class, `num_classes` is not the network's, or the dataset is empty or holds
                NaN.
        """
        check.instance("dataset", dataset, ms.dataset.Dataset)
        check.integer("num_classes", num_classes, low=1)
        with self._running(), evaluation_state(self._shadow):
            return _mean_loss(self._loss(dataset, num_classes), dataset, num_classes)

    def _running(self) -> AbstractContextManager:
        """PyNative where the network is split by hooks; else the mode that is set."""
        return evaluation_state(self._network) if isinstance(self._tail, nn.Cell) else _hooked(self._network)

    def _loss(self, dataset: Dataset, num_classes: int) -> ShadowModelLoss:
        """The loss for what the last layers return on the first batch: logits or probabilities."""
        images, _ = next(_batches(dataset, num_classes))
        outputs = checked_output(self._tail, self._network, self._layer, in_evaluation(self._shadow, images), images)
        outputs = outputs.asnumpy()
        checked_outputs("outputs of network", outputs, ndim=2)
        if outputs.shape[1] != num_classes:
            raise ValueError(f"num_classes must be the network's number of classes, {outputs.shape[1]}, but got "
                             f"{num_classes}.")
        return ShadowModelLoss(self._tail, self._shadow, are_probabilities("outputs of network", outputs))


def _batches(dataset, num_classes):
    """Batches (images float32, labels one-hot), at least one."""
    empty = True
    for images, labels in dataset.create_tuple_iterator(num_epochs=1):
        empty = False
        yield image_tensor(images), _one_hot(labels.asnumpy(), num_classes)
    if empty:
        raise ValueError("dataset must hold at least one batch, but is empty.")


def _mean_loss(step: nn.Cell, dataset: Dataset, num_classes: int) -> float:
    """Mean over the examples, batches of different sizes counted by their size."""
    total, count = 0.0, 0
    for images, table in _batches(dataset, num_classes):
        total += float(step(images, table)) * len(table)
        count += len(table)
    return total / count


def _hooked(network: nn.Cell) -> AbstractContextManager:
    stack = ExitStack()
    stack.enter_context(pynative_mode())
    stack.enter_context(evaluation_state(network))
    return stack


def _one_hot(labels: np.ndarray, num_classes: int) -> Tensor:
    return Tensor(np.eye(num_classes, dtype=np.float32)[check_classes(labels, num_classes)])


def _check_config(config):
    config = {} if config is None else check.instance("attack_config", config, dict)
    unknown = set(config) - set(DEFAULTS)
    if unknown:
        raise ValueError(f"attack_config has the unknown keys {sorted(map(str, unknown))}; known are "
                         f"{', '.join(DEFAULTS)}.")
    merged = {**DEFAULTS, **config}
    return {"epochs": check.integer("attack_config['epochs']", merged["epochs"], low=1),
            "learningrate": check.real("attack_config['learningrate']", merged["learningrate"], low=0),
            "eps": check.real("attack_config['eps']", merged["eps"], low=0),
            "num_classes": check.integer("attack_config['num_classes']", merged["num_classes"], low=1),
            "apply_ams": check.boolean("attack_config['apply_ams']", merged["apply_ams"])}
