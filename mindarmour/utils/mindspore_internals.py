"""Every private name of MindSpore that this package uses, each with its reason; tried with MindSpore 2.7.2 to 2.10.

MindSpore has no public way to do these things. A new release is checked here, and nowhere else.
"""
from __future__ import annotations

from collections import OrderedDict
from typing import Any

import mindspore as ms
import mindspore.dataset as ds
from mindspore import nn
from mindspore._c_expression import Cell_, MSContext, ms_ctx_param
from mindspore.nn.layer.rnns import _DynamicRNNRelu
from mindspore.ops.operations._grad_ops import Conv2DBackpropFilter

try:  # its place since 2.9; the old one prints a deprecation there
    from mindspore.graph.api import _pynative_executor
except ImportError:
    from mindspore.common.api import _pynative_executor

# nn.RNN keeps its nonlinearity in the class of an inner cell only.
DynamicRNNRelu = _DynamicRNNRelu

# Correlates an image with a gradient: the public convolution has no form of it with the strides swapped.
WeightGradientOfConv2d = Conv2DBackpropFilter

# Nodes of a data pipeline are told apart by their classes, which the public names only construct.
dataset_nodes = ds.engine.datasets


def no_gradient() -> Any:
    """Context in which nobody differentiates: PyNative mode then skips what it would note for a gradient."""
    return ms._no_grad()


def waits_for_operators() -> bool:
    """Whether PyNative mode runs each operator to its end."""
    return ms.get_context("pynative_synchronize")


def wait_for_operators(waits: bool) -> None:
    """Set it; `ms.set_context(pynative_synchronize=...)` does the same and logs a deprecation at each call."""
    MSContext.get_instance().set_param(ms_ctx_param.pynative_synchronize, waits)


def forget_failed_gradient() -> None:
    """Where an exception left the inside of a gradient, MindSpore would go on as if it were still being taken."""
    if _pynative_executor.grad_flag():
        _pynative_executor.clear_res()


def own_parameters(cell: nn.Cell) -> dict:
    """{attribute: Parameter or None} of the cell itself, its own table; `parameters_dict` knows no attributes."""
    return cell._params


def own_cells(cell: nn.Cell) -> dict:
    """{attribute: Cell or None} of the cell's children, its own table; `name_cells` leaves out repeated ones."""
    return cell._cells


def copy_cell(cell: nn.Cell) -> nn.Cell:
    """A copy of one cell that shares everything with it except its tables of children and its compiled graphs."""
    copied = cell.__class__.__new__(cell.__class__)
    Cell_.__setstate__(copied, Cell_.__getstate__(cell))
    copied.__dict__ = dict(cell.__dict__)
    copied.__dict__.update(_cells=OrderedDict(cell._cells), _params=OrderedDict(cell._params),
                           _compile_cache=None, _phase_cache=None)
    return copied


def appended_to_checkpoints(callback: Any) -> dict:
    """What a ModelCheckpoint appends to each of its files: the live dictionary."""
    return callback._append_dict


def ascend_products() -> tuple:
    """What Ascend rounds float32 inputs of (matrix products, convolutions) to, by chip and `op_precision` settings.

    The weakest that the chip may choose where the settings cannot be read.
    """
    if MSContext.get_instance().get_ascend_soc_version() not in ("ascend910b", "ascend910_93"):
        return "float16", "float16"
    try:  # comes with the plugin of the device
        from mindspore._c_expression import AscendOpPrecisionConf
    except ImportError:
        return "hf32", "hf32"
    settings = AscendOpPrecisionConf.get_instance()
    mode = settings.precision_mode()
    for word in ("fp16", "bf16", "mix"):
        if word in mode:
            return ("float16", "float16") if word == "fp16" else ("bfloat16", "bfloat16")
    return ("hf32" if settings.matmul_allow_hf32() == "1" else "float32",
            "float32" if settings.conv_allow_hf32() == "0" else "hf32")
