"""What the trained attacks share: epochs with checkpoints, batches as networks take them, an end where it diverges."""
from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Optional, Union

import numpy as np
from mindspore import Tensor, nn
from tqdm import tqdm

from mindarmour.privacy.evaluation.forward import evaluation_state
from mindarmour.privacy.evaluation.inversion.cell_checkpoint import (
    checkpoint_file,
    checkpoint_folder,
    load_cell,
    save_cell,
)

SAVE_EVERY = 10


class Checkpoints:
    """Where a cell's weights are loaded from and saved to, numbered by all epochs it has been trained.

    Args:
        cell (Cell): Loaded at once if `path` is a file.
        path (Union[str, Path, None]): A file '*.ckpt' to load, beside which new ones go; else the folder for them.
        folder (str): Folder where `path` names none.
        stem (str): Of the files' names; the number of epochs follows.
    """

    def __init__(self, cell: nn.Cell, path: Union[str, Path, None], folder: str, stem: str) -> None:
        file: Optional[Path] = checkpoint_file(path)
        self._cell, self._stem, self._folder = cell, stem, checkpoint_folder(path, folder)
        if file is not None:
            load_cell(cell, file)
        found = None if file is None else re.fullmatch(re.escape(stem) + r"_(\d+)", file.stem)
        self.epochs = int(found.group(1)) if found else 0

    def save(self) -> None:
        """Save the weights as those of `epochs` epochs."""
        save_cell(self._cell, self._folder / f"{self._stem}_{self.epochs}.ckpt")


def train_epochs(cell: nn.Cell, run_epoch: Callable[[], float], epochs: int, checkpoints: Checkpoints,
                 progress: str = "") -> list[float]:
    """Train `cell`, save it every 10 epochs and at the end, and leave it in evaluation state.

    Args:
        cell (Cell): What is trained.
        run_epoch (Callable): One pass over the data, which returns the mean loss.
        epochs (int): Passes.
        checkpoints (Checkpoints): Counts the epochs and saves.
        progress (str): Text of the progress bar; '' for none.

    Returns:
        list[float]: mean loss of each epoch.

    Raises:
        ArithmeticError: If a loss or weight is not finite; the weights of that epoch are not saved.
    """
    history: list[float] = []
    cell.set_train()
    try:
        with tqdm(range(epochs), desc=progress, unit="epoch", disable=not progress, leave=False) as bar:
            for number in bar:
                loss = run_epoch()
                if not (math.isfinite(loss) and _is_finite(cell)):
                    raise ArithmeticError(f"Training diverged in epoch {number + 1} of {epochs}: loss ({loss:.3g}) or "
                                          f"weights are not finite. Lower learningrate. Files saved before hold finite "
                                          f"weights.")
                history.append(loss)
                checkpoints.epochs += 1
                bar.set_postfix(loss=f"{loss:.3g}")
                if checkpoints.epochs % SAVE_EVERY == 0 or number == epochs - 1:
                    checkpoints.save()
    finally:
        cell.set_train(False)
    return history


def _is_finite(cell: nn.Cell) -> bool:
    return all(np.isfinite(parameter.asnumpy()).all() for parameter in cell.get_parameters())


def image_tensor(images: Tensor) -> Tensor:
    """A batch's images in float32, whatever numbers they are.

    Raises:
        TypeError: If they are no numbers.
        ValueError: If a value is NaN or infinite.
    """
    array = images.asnumpy()
    if array.dtype.kind not in "biuf":
        raise TypeError(f"dataset must hold images of numbers in its first column, but they are {array.dtype}.")
    if not np.isfinite(array).all():
        raise ValueError("dataset must hold finite images, but some values are NaN or infinite.")
    return Tensor(array.astype(np.float32))


def refuse_shared_weights(name: str, cell: nn.Cell, network: nn.Cell) -> None:
    """Refuse to train a cell that holds Parameters of the network under attack, which must stay as it is."""
    known = {id(parameter) for parameter in network.get_parameters()}
    shared = [parameter.name for parameter in cell.get_parameters() if id(parameter) in known]
    if shared:
        raise ValueError(f"{name} must have weights of its own, but shares {', '.join(shared[:3])} with the network "
                         f"under attack, which training would change. Build a new cell.")


def in_evaluation(cell: nn.Cell, *inputs: Any) -> Any:
    """Output of a cell in evaluation state: asking must not move statistics or draw dropout."""
    with evaluation_state(cell):
        return cell(*inputs)
