"""Save and load the weights of one cell: written whole or not at all, refused if they are another network's."""
from __future__ import annotations

from pathlib import Path
from typing import Optional, Union

import mindspore as ms

from mindarmour.utils import _validate as check
from mindarmour.utils.files import replacing

SUFFIX = ".ckpt"


def checkpoint_folder(path: Union[str, Path, None], default: str) -> Path:
    """Folder to save in: that of a file, a folder itself, or the default for '' and None."""
    if not path:
        return Path(default)
    path = Path(path)
    return path.parent if path.suffix == SUFFIX else path


def checkpoint_file(path: Union[str, Path, None]) -> Optional[Path]:
    """The file to load if `path` names one, else None."""
    if not path:
        return None
    check.instance("ckpoint_path", path, (str, Path))
    return Path(path) if Path(path).suffix == SUFFIX else None


def save_cell(cell: ms.nn.Cell, path: Union[str, Path]) -> Path:
    """Save the cell's weights as a checkpoint, through a temporary file."""
    path = Path(path)
    with replacing(path) as temporary:
        ms.save_checkpoint(cell, str(temporary))
    return path


def load_cell(cell: ms.nn.Cell, path: Union[str, Path]) -> None:
    """Load a checkpoint into the cell; every weight must be in the file, with its shape.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is no checkpoint, or another network's.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"ckpoint_path must be a checkpoint file or a folder to save in, but there is no "
                                f"file '{path}'.")
    try:
        weights = ms.load_checkpoint(str(path))
    except (ValueError, RuntimeError, TypeError) as error:
        raise ValueError(f"ckpoint_path must be a MindSpore checkpoint, but '{path}' cannot be read as one.") from error
    for name, parameter in cell.parameters_dict().items():
        if name not in weights or tuple(weights[name].shape) != tuple(parameter.shape):
            found = f"shape {tuple(weights[name].shape)}" if name in weights else "nothing"
            raise ValueError(f"ckpoint_path must hold the weights of {type(cell).__name__}, but '{path}' has {found} "
                             f"for '{name}' of shape {tuple(parameter.shape)}: it is another network's.")
    ms.load_param_into_net(cell, {name: weights[name] for name in cell.parameters_dict()})
    return cell
