"""Copies of a network's structure that share its Parameters."""
from __future__ import annotations

import types
from typing import Callable, Optional

from mindspore import Parameter, ParameterTuple, nn

from mindarmour.utils.mindspore_internals import copy_cell, own_cells, own_parameters

_WAYS = 8  # ways to the cells of a network, per cell, that are told apart; each needs a copy of its own


def hide_parameter(cell: nn.Cell, attribute: str, parameter: Parameter) -> None:
    """Let a copied cell read `parameter` as its `attribute`, or in its ParameterTuple, outside of its own table."""
    old = own_parameters(cell).pop(attribute, None)
    for key, value in cell.__dict__.items():
        if isinstance(value, ParameterTuple) and any(item is old for item in value):
            cell.__dict__[key] = ParameterTuple(parameter if item is old else item for item in value)
            return
    object.__setattr__(cell, attribute, parameter)


def copy_network(network: nn.Cell, replace: Callable[[str, nn.Cell], Optional[nn.Cell]],
                 adjust: Optional[Callable[[str, nn.Cell], Optional[nn.Cell]]] = None, apart: bool = False,
                 name: str = "") -> nn.Cell:
    """A copy of the network's structure that shares its Parameters.

    Args:
        network (Cell): The network.
        replace (Callable): `replace(name, cell)` returns the cell to put in the place of `cell`, or None to
            descend into it.
        adjust (Callable, optional): `adjust(name, copied)` is called with every cell that was copied; it may return
            a cell to put around it.
        apart (bool): Whether a cell with trainable Parameters that several cells hold is copied once for each of
            them, under the name of the way; one cell otherwise.
        name (str): Name of the network itself.

    Returns:
        Cell, the copy.
    """
    return _Copier(replace, adjust, apart).of(network, name)


def reached_cells(network: nn.Cell, stop: Callable[[str, nn.Cell], bool]) -> dict[str, nn.Cell]:
    """{name: cell} of the cells a copy apart consists of, by every way; not of what is below a cell where `stop`."""
    found: dict[str, nn.Cell] = {}

    def note(name, cell):
        found[name] = cell
        return cell if stop(name, cell) else None

    copy_network(network, note, apart=True)
    return found


class _Copier:
    def __init__(self, replace, adjust, apart):
        self._replace = replace
        self._adjust = adjust
        self._apart = apart
        self._made = {}
        self._ways = {}
        self._open = set()  # cells around the present one
        self._siblings = {}  # what the present one holds so far; it may hold a cell twice, as in a list

    def of(self, cell, name):
        if id(cell) in self._siblings:
            return self._siblings[id(cell)]
        if id(cell) in self._made and self._stays_one(cell):
            return self._made[id(cell)]
        self._ways[id(cell)] = self._ways.get(id(cell), 0) + 1
        replaced = self._replace(name, cell)
        if replaced is None:
            self._made[id(cell)] = copied = copy_cell(cell)
            self._open.add(id(cell))
            siblings, self._siblings = self._siblings, {}
            self._fill(copied, name)
            self._siblings = siblings
            self._open.discard(id(cell))
            replaced = self._adjust(name, copied) if self._adjust is not None else None
            replaced = copied if replaced is None else replaced
        self._made[id(cell)] = replaced
        self._siblings[id(cell)] = replaced
        return replaced

    def _stays_one(self, cell):
        if not self._apart or id(cell) in self._open or self._ways.get(id(cell), 0) >= _WAYS:
            return True
        return not cell.trainable_params()  # every copy is compiled anew

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
