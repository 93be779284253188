"""Every private name of MindSpore that this package uses, each with its reason; tried with MindSpore 2.7.2 to 2.10.

MindSpore has no public way to do these things. A new release is checked here, and nowhere else.
"""
from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any, Callable

import mindspore as ms
import mindspore.dataset as ds
from mindspore import nn
from mindspore._c_expression import Cell_, MSContext, ms_ctx_param
from mindspore.nn.layer.rnns import _DynamicRNNRelu
from mindspore.ops.operations._grad_ops import Conv2DBackpropFilter
from mindspore.train import serialization

try:  # its place since 2.9; the old one prints a deprecation there
    from mindspore.graph.api import _pynative_executor
except ImportError:
    from mindspore.common.api import _pynative_executor  # pyright: ignore[reportAttributeAccessIssue]

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


def forget_graphs(cell: nn.Cell) -> None:
    """Let a network be compiled anew: MindSpore would go on with the graph of the cells that it had before."""
    for _, inner in cell.cells_and_names():
        inner.compile_cache.clear()
        inner.phase_cache.clear()


def copy_cell(cell: nn.Cell) -> nn.Cell:
    """A copy of one cell that shares everything with it except its tables of children and its compiled graphs."""
    copied = cell.__class__.__new__(cell.__class__)
    Cell_.__setstate__(copied, Cell_.__getstate__(cell))
    copied.__dict__ = dict(cell.__dict__)
    copied.__dict__.update(_cells=OrderedDict(cell._cells), _params=OrderedDict(cell._params),
                           _compile_cache=None, _phase_cache=None)
    return copied


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


def watch_checkpoints(to_append: Callable[[Iterable[ms.Parameter]], dict], arrived: Callable[[str, dict, bool], None],
                      copied: Callable[[ms.Parameter, ms.Parameter], None]) -> None:
    """Take part in whatever MindSpore saves and loads; MindSpore offers no hook for it.

    Wraps the three inner functions that all of `save_checkpoint`, `load_checkpoint` and `load_param_into_net` go
    through, so that it does not matter from where these were imported. A release without one of them is left alone.

    Args:
        to_append (Callable): Parameters that are saved to {name: Tensor} of what is saved beside them.
        arrived (Callable): Called with a file, the dictionary that was read from it, and whether only part of the file
            was asked for.
        copied (Callable): Called with a Parameter and the one whose value it takes over.
    """
    _wrap("_convert_save_obj_to_param_list", lambda inner: _saving(inner, to_append))
    _wrap("_load_into_param_dict", lambda inner: _reading(inner, arrived))
    _wrap("_update_param", lambda inner: _copying(inner, copied))


def watch_copies(copied: Callable[[ms.Parameter, ms.Parameter], None], told: Callable[[ms.Parameter], Any],
                 hear: Callable[[ms.Parameter, Any], None]) -> None:
    """Take part where a Parameter's value is copied in memory; MindSpore offers no hook for it.

    Covers `copy.copy`, `copy.deepcopy`, `pickle`, `clone`, `set_data` and `Parameter(parameter)`.

    Args:
        copied (Callable): Called with a Parameter and the one whose value it takes over.
        told (Callable): Parameter to what travels with it where it is pickled, or None.
        hear (Callable): Called with an unpickled Parameter and what travelled with it.
    """
    parameter_class: Any = ms.Parameter
    initialise, set_data, reduce = parameter_class.__init__, parameter_class.set_data, parameter_class.__reduce_ex__

    @functools.wraps(initialise)
    def initialised(self: ms.Parameter, default_input: Any, *arguments: Any, **named: Any) -> None:
        initialise(self, default_input, *arguments, **named)
        if isinstance(default_input, ms.Parameter):
            copied(self, default_input)

    @functools.wraps(set_data)
    def data_set(self: ms.Parameter, data: Any, *arguments: Any, **named: Any) -> Any:
        result = set_data(self, data, *arguments, **named)
        if isinstance(data, ms.Parameter) and data is not self:
            copied(self, data)
        return result

    @functools.wraps(reduce)
    def reduced(self: ms.Parameter, protocol: Any) -> tuple:
        make, arguments, *rest = reduce(self, protocol)
        message = told(self)
        return (make, arguments, *rest) if message is None else (_Carried(make, hear), (arguments, message), *rest)

    parameter_class.__init__, parameter_class.set_data, parameter_class.__reduce_ex__ = initialised, data_set, reduced


class _Carried:
    """Makes a Parameter again and hands over what travelled with it."""

    def __init__(self, make: Callable, hear: Callable) -> None:
        self._make, self._hear = make, hear

    def __call__(self, arguments: tuple, message: Any) -> ms.Parameter:
        parameter = self._make(*arguments)
        self._hear(parameter, message)
        return parameter


def _wrap(name: str, wrapper: Callable) -> None:
    inner = getattr(serialization, name, None)
    if inner is not None:
        setattr(serialization, name, functools.wraps(inner)(wrapper(inner)))


def _saving(inner: Callable, to_append: Callable) -> Callable:
    def save(save_obj: Any, integrated_save: bool, append_dict: Any, choice_func: Any) -> list:
        rows = inner(save_obj, integrated_save, append_dict, choice_func)
        taken = {row["name"] for row in rows} | set(append_dict or ())
        extra = to_append(_saved_parameters(save_obj))
        return rows + [{"name": name, "data": value} for name, value in extra.items() if name not in taken]
    return save


def _saved_parameters(save_obj: Any) -> list:
    """The Parameters among what may be saved: a Cell, a dictionary, or a list of Parameters or of dictionaries."""
    if isinstance(save_obj, nn.Cell):
        return list(save_obj.get_parameters())
    items = save_obj.values() if isinstance(save_obj, dict) else save_obj
    items = [item.get("data") if isinstance(item, dict) else item for item in items]
    return [item for item in items if isinstance(item, ms.Parameter)]


def _reading(inner: Callable, arrived: Callable) -> Callable:
    def read(file: Any, parameter_dict: dict, *arguments: Any) -> Any:
        result = inner(file, parameter_dict, *arguments)
        # the next three are the prefixes and the choice of what to load
        arrived(file, parameter_dict, any(argument is not None for argument in arguments[:3]))
        return result
    return read


def _copying(inner: Callable, copied: Callable) -> Callable:
    def update(param: ms.Parameter, new_param: ms.Parameter, *arguments: Any) -> Any:
        result = inner(param, new_param, *arguments)
        copied(param, new_param)
        return result
    return update
