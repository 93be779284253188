"""Copies of a network's structure that share its Parameters."""
from __future__ import annotations

import types
from typing import Callable, Optional

from mindspore import Parameter, nn

from mindarmour.utils.mindspore_internals import copy_cell, own_cells, own_parameters


def hide_parameter(cell: nn.Cell, attribute: str, parameter: Parameter) -> None:
    """Let a copied cell read `parameter` as its `attribute`, outside of its table of Parameters."""
    own_parameters(cell).pop(attribute, None)
    object.__setattr__(cell, attribute, parameter)


def copy_network(network: nn.Cell, replace: Callable[[str, nn.Cell], Optional[nn.Cell]],
                 adjust: Optional[Callable[[str, nn.Cell], None]] = None) -> nn.Cell:
    """A copy of the network's structure that shares its Parameters.

    Args:
        network (Cell): The network.
        replace (Callable): `replace(name, cell)` returns the cell to put in the place of `cell`, or None to
            descend into it.
        adjust (Callable, optional): `adjust(name, copied)` is called with every cell that was copied.

    Returns:
        Cell. A cell that the network reaches by two ways stays one cell.
    """
    return _Copier(replace, adjust).of(network, "")


class _Copier:
    def __init__(self, replace, adjust):
        self._replace = replace
        self._adjust = adjust
        self._made = {}

    def of(self, cell, name):
        if id(cell) not in self._made:
            replaced = self._replace(name, cell)
            self._made[id(cell)] = copy_cell(cell) if replaced is None else replaced
            if replaced is None:
                self._fill(self._made[id(cell)], name)
                if self._adjust is not None:
                    self._adjust(name, self._made[id(cell)])
        return self._made[id(cell)]

    def _fill(self, copied, name):
        prefix = f"{name}." if name else ""
        for key, child in own_cells(copied).items():
            if child is not None:
                own_cells(copied)[key] = self.of(child, prefix + key)
        for key, value in copied.__dict__.items():
            if key not in ("_cells", "_params"):
                copied.__dict__[key] = self._mapped(value, prefix + key)

    def _mapped(self, value, name):
        """Cells inside plain containers, and methods bound to cells, follow the copy."""
        if isinstance(value, nn.Cell):
            return self.of(value, name)
        if type(value) in (list, tuple):
            return type(value)(self._mapped(item, f"{name}.{i}") for i, item in enumerate(value))
        if type(value) is dict:
            return {key: self._mapped(item, f"{name}.{key}") for key, item in value.items()}
        if isinstance(value, types.MethodType) and id(value.__self__) in self._made:
            return types.MethodType(value.__func__, self._made[id(value.__self__)])
        return value
