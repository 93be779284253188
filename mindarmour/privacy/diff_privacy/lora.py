"""Low-rank adapters: a large network is fine-tuned by few Parameters beside frozen ones.

Noise of differential privacy grows with the number of Parameters that are trained, so few of them suit it. An adapter
is made of two bias-free `nn.Dense`, which every gradient engine serves; frozen Parameters need no rule.

    lora.insert(network, ["query", "value"], rank=4)     # before optimizer and DPModel are made
    model = DPModel(network=network, optimizer=nn.Adam(network.trainable_params(), 1e-3), ...)
    lora.save(network, "adapters.ckpt")                  # the adapters alone, with their ledger
    release = lora.merged(network)                       # a plain network of the same outputs

References:
    Hu et al. 2022, "LoRA: Low-rank adaptation of large language models". Yu et al. 2022, "Differentially private
    fine-tuning of language models".
"""
from __future__ import annotations

import gc
import os
from collections.abc import Sequence
from typing import Any, Optional, Union

import numpy as np
from mindspore import Parameter, Tensor, load_checkpoint, nn, save_checkpoint

from mindarmour.privacy.diff_privacy.grads.network_copy import copy_network
from mindarmour.privacy.diff_privacy.train import spending
from mindarmour.privacy.diff_privacy.train.step import steps_on
from mindarmour.utils import _validate
from mindarmour.utils.mindspore_internals import forget_graphs, own_cells, own_parameters

_PARTS = ("lora_down", "lora_up")
_SCALE = "lora_scale"


class LoRADense(nn.Cell):
    """A frozen `nn.Dense` with a low-rank adapter beside it: base(x) + alpha / rank * up(down(x)).

    Args:
        base (Dense): The layer; it keeps its Parameters and their names.
        name (str): Prefix of the adapter's Parameters.
        rank (int): Rank of the update.
        alpha (float): Its scale; the product is multiplied by alpha / rank.

    Inputs:
        x (Tensor): As of the layer.

    Outputs:
        Tensor, as of the layer; equal to it until the adapter is trained, since `up` starts at zero.

    Supported Platforms:
        ``Ascend`` ``GPU`` ``CPU``
    """

    def __init__(self, base: nn.Dense, name: str, rank: int, alpha: float) -> None:
        super().__init__(auto_prefix=False)
        kind = base.weight.dtype
        self.base = base
        self.lora_down = nn.Dense(base.in_channels, rank, has_bias=False, dtype=kind)
        self.lora_up = nn.Dense(rank, base.out_channels, weight_init="zeros", has_bias=False, dtype=kind)
        self.scale = float(alpha / rank)
        for part in _PARTS:
            getattr(self, part).weight.name = f"{name}.{part}.weight"

    def construct(self, x):
        return self.base(x) + self.lora_up(self.lora_down(x)) * self.scale


def insert(network: nn.Cell, targets: Union[str, Sequence[str]], rank: int = 4, alpha: Optional[float] = None,
           trainable: Union[str, Sequence[str]] = ()) -> nn.Cell:
    """Freeze a network and put adapters beside some of its dense layers, in place.

    Call it before the optimizer and the DPModel are made: what was made before trains Parameters that are frozen now.

    Args:
        network (Cell): The network.
        targets (str, Sequence[str]): Names of `nn.Dense` layers, whole ('blocks.0.attention.query') or their ends
            ('query', for all of that name).
        rank (int): Rank of the updates, at least 1 and at most the smaller side of each layer.
        alpha (float, optional): Scale of the updates, > 0; default 2 * rank.
        trainable (str, Sequence[str]): Cells, named in the same way, that are trained too, for example a new head.

    Returns:
        Cell, the same network.

    Raises:
        TypeError: A target that is no plain `nn.Dense`.
        ValueError: A name that fits nothing, adapters that are there already, a rank that is no saving, a network that
            a DPModel or PrivateLoop was made for.

    Examples:
        >>> from mindspore import nn
        >>> from mindarmour.privacy.diff_privacy import lora
        >>> network = nn.SequentialCell(nn.Dense(16, 32), nn.ReLU(), nn.Dense(32, 4))
        >>> network = lora.insert(network, ["0"], rank=2, trainable="2")
        >>> [parameter.name for parameter in network.trainable_params()]
        ['0.lora_down.weight', '0.lora_up.weight', '2.weight', '2.bias']
    """
    _validate.instance("network", network, nn.Cell)
    rank = _validate.integer("rank", rank, low=1)
    alpha = 2.0 * rank if alpha is None else _validate.real("alpha", alpha, low=0)
    _refuse_trained(network)
    if _adapters(network):
        raise ValueError(f"network must hold no adapters yet, but {next(iter(_adapters(network)))!r} is one. Merge "
                         f"them first, with lora.merged(network).")
    layers = _named(network, "targets", targets)
    kept = _named(network, "trainable", trainable)
    for name, layer in layers.items():
        _check_target(name, layer, rank)
    for parameter in network.get_parameters():
        parameter.requires_grad = False
    for cell in kept.values():
        for parameter in cell.get_parameters():
            parameter.requires_grad = True
    new = {id(layer): LoRADense(layer, name, rank, alpha) for name, layer in layers.items()}
    for cell in [cell for _, cell in network.cells_and_names()]:
        _put(cell, new)
    forget_graphs(network)
    return network


def merged(network: nn.Cell) -> nn.Cell:
    """A copy of the network whose adapters are part of its weights: W + alpha / rank * up down.

    What the adapters' training cost goes with the weights, into every checkpoint of the copy. Frozen Parameters are
    shared with `network`.

    Raises:
        ValueError: There are no adapters.
    """
    _require_adapters(network)
    return copy_network(network, lambda _, cell: _merged_dense(cell) if isinstance(cell, LoRADense) else None)


def save(network: nn.Cell, path: Union[str, os.PathLike]) -> None:
    """Write the adapters, and cells that were trained beside them, to a checkpoint of their own, with their ledger.

    Args:
        network (Cell): With adapters.
        path (str, PathLike): The file; MindSpore wants it to end in '.ckpt'.
    """
    adapters = _require_adapters(network)
    rows = [{"name": name, "data": parameter} for name, parameter in _trained(network).items()]
    rows += [{"name": f"{name}.{_SCALE}", "data": Tensor(np.float32(cell.scale))} for name, cell in adapters.items()]
    save_checkpoint(rows, os.fspath(path))


def load(network: nn.Cell, path: Union[str, os.PathLike]) -> None:
    """Take over the values, and the ledger, that `save` wrote.

    Args:
        network (Cell): With adapters at the same layers, of the same rank and alpha.
        path (str, PathLike): The file.

    Raises:
        ValueError: The file was written for other adapters; nothing is changed.
    """
    adapters, stored = _require_adapters(network), load_checkpoint(os.fspath(path))
    wanted = _trained(network)
    scales = {f"{name}.{_SCALE}": np.float32(cell.scale) for name, cell in adapters.items()}
    have = {name for name in stored if name in wanted or name.endswith(_SCALE)}
    if have != wanted.keys() | scales.keys():
        odd = sorted(have ^ (wanted.keys() | scales.keys()))[0]
        raise ValueError(f"path must hold the adapters of this network, but {odd!r} is in one of them only. Insert "
                         f"adapters with the targets that the file was written with.")
    for name, parameter in wanted.items():
        if stored[name].shape != parameter.shape:
            raise ValueError(f"The rank of the adapters must be that of the file, but {name!r} has shape "
                             f"{parameter.shape} and the file holds {stored[name].shape}.")
    for name, scale in scales.items():
        if np.float32(stored[name].asnumpy()) != scale:
            raise ValueError(f"alpha of the adapters must be that of the file, but alpha / rank of {name!r} is {scale} "
                             f"and the file holds {stored[name].asnumpy()}.")
    for name, parameter in wanted.items():
        parameter.set_data(stored[name].value())
        spending.inherit(parameter, stored[name])


def _refuse_trained(network: nn.Cell) -> None:
    if steps_on(network):
        gc.collect()  # a model that was let go may not be gone yet
    if steps_on(network):
        raise ValueError("network must not belong to a DPModel or PrivateLoop yet, but one was made for it: it would "
                         "go on with the Parameters it knows, and the adapters would never move. Insert the adapters "
                         "first, then make optimizer and model; `del` a model that is no longer needed.")


def _named(network: nn.Cell, argument: str, names: Union[str, Sequence[str]]) -> dict[str, nn.Cell]:
    """{whole name: cell} of the cells that the names fit."""
    names = [names] if isinstance(names, str) else list(names)
    if argument == "targets" and not names:
        raise ValueError("targets must name at least one nn.Dense, but is empty.")
    cells = [(name, cell) for name, cell in network.cells_and_names() if name]
    found: dict[str, nn.Cell] = {}
    for wanted in names:
        _validate.instance(argument, wanted, str)
        fits = {name: cell for name, cell in cells if name == wanted or name.endswith(f".{wanted}")}
        if not fits:
            raise ValueError(f"{argument} must name cells of the network, but {wanted!r} fits none of "
                             f"{', '.join(name for name, _ in cells)}.")
        found.update(fits)
    return found


def _check_target(name: str, layer: nn.Cell, rank: int) -> None:
    if not isinstance(layer, nn.Dense) or type(layer).construct is not nn.Dense.construct:
        raise TypeError(f"targets must name nn.Dense layers, but {name!r} is {type(layer).__name__}.")
    if layer.activation is not None:
        raise ValueError(f"targets must have no activation of their own, but {name!r} has one: it would come before "
                         f"the adapter. Make it a layer behind the dense one.")
    _validate.integer("rank", rank, low=1, high=min(layer.in_channels, layer.out_channels))


def _put(cell: nn.Cell, new: dict[int, LoRADense]) -> None:
    """Let a cell reach the new layers instead of the old ones."""
    children = own_cells(cell)
    for key, child in children.items():
        children[key] = new.get(id(child), child)
    if isinstance(cell, nn.SequentialCell):
        cell.cell_list = list(children.values())
    for key, value in list(vars(cell).items()):
        if key not in ("_cells", "_params"):
            changed = _exchanged(value, new)
            if changed is not value:
                object.__setattr__(cell, key, changed)


def _exchanged(value: Any, new: dict[int, LoRADense]) -> Any:
    if isinstance(value, nn.Cell):
        return new.get(id(value), value)
    items = list(value.values()) if type(value) is dict else value if type(value) in (list, tuple) else []
    if not any(isinstance(item, (nn.Cell, list, tuple, dict)) for item in items):
        return value
    if type(value) is dict:
        return {key: _exchanged(item, new) for key, item in value.items()}
    return type(value)(_exchanged(item, new) for item in value)


def _adapters(network: nn.Cell) -> dict[str, LoRADense]:
    return {name: cell for name, cell in network.cells_and_names() if isinstance(cell, LoRADense)}


def _require_adapters(network: nn.Cell) -> dict[str, LoRADense]:
    adapters = _adapters(_validate.instance("network", network, nn.Cell))
    if not adapters:
        raise ValueError("network must hold adapters, but has none. Put them in with lora.insert(network, targets).")
    return adapters


def _trained(network: nn.Cell) -> dict[str, Parameter]:
    """{name: Parameter} of the adapters and of what is trained beside them; names do not depend on wrappers."""
    return {f"{name}.{attribute}" if name else attribute: parameter
            for name, cell in network.cells_and_names()
            for attribute, parameter in own_parameters(cell).items()
            if parameter is not None and parameter.requires_grad}


def _merged_dense(cell: LoRADense) -> nn.Dense:
    base, up, down = cell.base, cell.lora_up.weight, cell.lora_down.weight
    product = up.asnumpy().astype(np.float64) @ down.asnumpy().astype(np.float64)
    weight = base.weight.asnumpy().astype(np.float64) + cell.scale * product
    dense = nn.Dense(base.in_channels, base.out_channels, has_bias=base.has_bias, dtype=base.weight.dtype)
    dense.weight.set_data(Tensor(weight, base.weight.dtype))
    dense.weight.name = base.weight.name
    for source in (base.weight, up, down):
        spending.inherit(dense.weight, source)
    if base.has_bias:
        dense.bias.set_data(base.bias.value())
        dense.bias.name = base.bias.name
        spending.inherit(dense.bias, base.bias)
    return dense
