"""Query-free inversion: train a stand-in for layers that the attacker can neither see nor query."""
from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops
from tqdm import tqdm

from mindarmour.privacy.evaluation.forward import evaluation_state
from mindarmour.privacy.evaluation.inversion.cell_checkpoint import (
    checkpoint_file,
    checkpoint_folder,
    load_cell,
    save_cell,
)
from mindarmour.privacy.evaluation.inversion.checks import check_classes
from mindarmour.privacy.evaluation.inversion.split_network import checked_output, pynative_mode, tail_of
from mindarmour.utils import _validate as check

FOLDER = "trained_shadow_ckpt_file"
SAVE_EVERY = 10
DEFAULTS = {"epochs": 50, "learningrate": 1e-3, "eps": 1e-3, "num_classes": 10, "apply_ams": True}


class ShadowModelLoss(nn.Cell):
    """Mean cross-entropy of the target's last layers on the shadow's features.

    Args:
        tail (Callable): From (feature, images) to logits; its weights stay as they are.
        shadow_network (Cell): From images to features.

    Inputs:
        images (Tensor): [B, ...].
        labels (Tensor): Probabilities float32 [B, K].

    Outputs:
        Tensor, a scalar.

    Supported Platforms:
        ``Ascend`` ``GPU`` ``CPU``
    """

    def __init__(self, tail, shadow_network):
        super().__init__(auto_prefix=False)
        self.tail = tail
        self.shadow_network = shadow_network

    def construct(self, images, labels):
        logits = self.tail(self.shadow_network(images), images)
        return ((ops.logsumexp(logits, 1, True) - logits) * labels).sum(axis=1).mean()


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
            beside it. Any other path is the folder for new checkpoints; '' means './trained_shadow_ckpt_file'.
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

    def __init__(self, network, shadow_network, ckpoint_path="", split_layer="conv1"):
        self._network = check.instance("network", network, nn.Cell)
        self._shadow = check.instance("shadow_network", shadow_network, nn.Cell)
        self._layer = check.instance("split_layer", split_layer, str)
        self._tail = tail_of(network, split_layer)
        if checkpoint_file(ckpoint_path) is not None:
            load_cell(shadow_network, ckpoint_path)
        self._folder = checkpoint_folder(ckpoint_path, FOLDER)

    def train_shadow_model(self, dataset, attack_config=None, *, progress=True):
        """Train the shadow; saves it every 10 epochs and at the end.

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
                or the dataset is empty.
        """
        check.instance("dataset", dataset, ms.dataset.Dataset)
        config = _check_config(attack_config)
        optimizer = nn.Adam(self._shadow.trainable_params(), config["learningrate"], eps=config["eps"],
                            use_amsgrad=config["apply_ams"])
        step = nn.TrainOneStepCell(ShadowModelLoss(self._tail, self._shadow), optimizer)
        history = []
        with self._running(), tqdm(range(1, config["epochs"] + 1), desc="Shadow network", unit="epoch",
                                   disable=not progress, leave=False) as bar:
            self._shadow.set_train()
            for epoch in bar:
                history.append(self._mean_loss(step, dataset, config["num_classes"]))
                bar.set_postfix(loss=f"{history[-1]:.3g}")
                if epoch % SAVE_EVERY == 0 or epoch == config["epochs"]:
                    save_cell(self._shadow, self._folder / f"shadowmodel_{self._layer}_{epoch}.ckpt")
        self._shadow.set_train(False)
        return history

    def evaluate(self, dataset, num_classes=10):
        """Mean cross-entropy per example of the target's last layers on the shadow's features.

        Args:
            dataset (Dataset): Batches of (images, labels int [B]).
            num_classes (int): Classes.

        Returns:
            float.

        Raises:
            TypeError: If an argument has another type.
            ValueError: If a label is not a class or the dataset is empty.
        """
        check.instance("dataset", dataset, ms.dataset.Dataset)
        check.integer("num_classes", num_classes, low=1)
        with self._running(), evaluation_state(self._shadow):
            return self._mean_loss(ShadowModelLoss(self._tail, self._shadow), dataset, num_classes)

    def _running(self):
        """PyNative where the network is split by hooks; else the mode that is set."""
        return evaluation_state(self._network) if isinstance(self._tail, nn.Cell) else _hooked(self._network)

    def _mean_loss(self, step, dataset, num_classes):
        """Mean over the examples, batches of different sizes counted by their size."""
        total, count = 0.0, 0
        for images, labels in dataset.create_tuple_iterator(num_epochs=1):
            table = _one_hot(labels.asnumpy(), num_classes)
            if count == 0:
                self._check_shadow(images)
            total += float(step(images, table)) * len(table)
            count += len(table)
        if count == 0:
            raise ValueError("dataset must hold at least one batch, but is empty.")
        return total / count

    def _check_shadow(self, images):
        checked_output(self._tail, self._network, self._layer, self._shadow(images), images)


def _hooked(network):
    from contextlib import ExitStack
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
