"""The places where the ghost engine reads a network, and copies of it with something there."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace as replace_fields
from typing import Any, Callable, Optional, Union

import numpy as np
from mindspore import Parameter, nn

from mindarmour.privacy.diff_privacy.grads.class_loss import inherits_construct
from mindarmour.privacy.diff_privacy.grads.ghost.blocks import Block
from mindarmour.privacy.diff_privacy.grads.ghost.row_copies import RawParameter
from mindarmour.privacy.diff_privacy.grads.layers.products import Transposed
from mindarmour.privacy.diff_privacy.grads.network_copy import copy_network
from mindarmour.privacy.diff_privacy.grads.rows import few_rows
from mindarmour.privacy.errors import UnsupportedLayerError

DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
OTHER_ENGINE = "Take engine='auto' or 'vmap', which do not depend on the layer."


@dataclass(frozen=True)
class Site:
    """One layer that the ghost engine reads.

    Args:
        name (str): Name of the layer in the network.
        cell (Cell): The layer.
        rule_class (type or Block): Its `LayerRule`, or how its own derivative is had.
        recorded (tuple[tuple]): Shapes of its taps for the whole batch, as the layer sees them.
        axes (tuple[int]): Batch axis of each tap.
    """

    name: str
    cell: nn.Cell
    rule_class: Union[type, Block]
    recorded: tuple[tuple[int, ...], ...]
    axes: tuple[int, ...]

    @property
    def is_block(self) -> bool:
        """Whether the cell's own derivative takes the place of a rule."""
        return isinstance(self.rule_class, Block)

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shapes of the taps with the batch axis first."""
        return tuple(_axis_first(shape, axis) for shape, axis in zip(self.recorded, self.axes))

    def for_rows(self, before: int, rows: int) -> Site:
        """The site in a batch of `rows` rows, known from one of `before` rows."""
        recorded = (scaled(shape, axis, before, rows) for shape, axis in zip(self.recorded, self.axes))
        rule = self.rule_class.for_rows(rows) if self.is_block else self.rule_class
        return replace_fields(self, rule_class=rule, recorded=tuple(recorded))

    def trainable(self) -> dict[str, Parameter]:
        """{attribute: Parameter} of the layer's trainable Parameters."""
        found = self.rule_class.parameters_of(self.cell)
        return {name: parameter for name, parameter in found.items() if parameter.requires_grad}

    def gradient(self, name: str, units: int) -> nn.Cell:
        """The `UnitGradient` of the Parameter in attribute `name`, which takes the taps as they come."""
        gradient = self.rule_class.gradient(name, self.cell, self.shapes, units)
        return Transposed(gradient, self.axes) if any(self.axes) else gradient


@dataclass(frozen=True)
class Survey:
    """What the ghost engine needs to know.

    Args:
        sites (tuple[Site]): The layers to read.
        raw (tuple[RawParameter]): Parameters that cells use by themselves.
        rows (int): Rows of the batch.
        row_loss (Cell, optional): The loss row by row, where there is a way; see `row_losses.per_row`.
        scalar_loss (str, optional): 'mean' or 'sum' for a network that returns one number as its loss: what it does
            with the rows' losses. None otherwise.
    """

    sites: tuple[Site, ...]
    raw: tuple[RawParameter, ...]
    rows: int
    row_loss: Optional[nn.Cell] = None
    scalar_loss: Optional[str] = None

    def for_rows(self, rows: int) -> Survey:
        """The same for a batch of `rows` rows."""
        return replace_fields(self, sites=tuple(site.for_rows(self.rows, rows) for site in self.sites), rows=rows)

    @property
    def loss_scale(self) -> Optional[float]:
        """What makes the one number that the network returns the sum of the rows' losses; None for other networks."""
        return {None: None, "mean": float(self.rows), "sum": 1.0}[self.scalar_loss]

    @property
    def axes(self) -> tuple[int, ...]:
        """Batch axis of every tap, in the order of the sites."""
        return tuple(axis for site in self.sites for axis in site.axes)


def tapped_copy(network: nn.Cell, sites: Sequence[Site], make: Any,
                adjust: Optional[Callable[[str, nn.Cell], None]] = None) -> nn.Cell:
    """A copy of the network with what `make` makes around the sites; `adjust` as in `copy_network`."""
    by_name = {site.name: site for site in sites}

    def replace(name, cell):
        site = by_name.get(name)
        return site.rule_class.tapped(cell, make) if site and not site.is_block else None

    def around(name, copied):
        if adjust is not None:
            adjust(name, copied)
        site = by_name.get(name)
        return site.rule_class.around(copied, make) if site else None

    return copy_network(network, replace, around, apart=True)


def in_order(network: nn.Cell, sites: Sequence[Site]) -> tuple[Site, ...]:
    """The sites in the order in which a copy of the network makes their taps."""
    order = []

    def note(name, _):
        order.append(name)

    layers = {site.name: site for site in sites if not site.is_block}

    def replace(name, cell):
        if name in layers:
            order.append(name)
            return cell
        return None

    copy_network(network, replace, note, apart=True)
    by_name = {site.name: site for site in sites}
    return tuple(by_name[name] for name in order if name in by_name)


def refuse(name, cell, reason, fix=OTHER_ENGINE):
    raise UnsupportedLayerError(name, type(cell).__name__, reason, fix)


def output_of(network, loss_fn, columns, rows, changed, may_fail):
    """Output for a few rows of what `changed` makes of the network without dropout; None where that fails."""
    few = few_rows(columns, rows)
    try:
        output = changed(without_dropout(network))(*(few if loss_fn is None else few[:-1]))
        return (output[0] if isinstance(output, tuple) else output).asnumpy()
    except (ValueError, RuntimeError, TypeError, IndexError):
        if not may_fail:
            raise
        return None


def same_output(output, expected):
    if output is None or output.shape != expected.shape:
        return False
    return np.allclose(output, expected, rtol=1e-4, atol=1e-5, equal_nan=True)


def without_dropout(network: nn.Cell) -> nn.Cell:
    """A copy of the network in training mode, except that dropout passes everything."""
    def replace(_, cell):
        if isinstance(cell, nn.MultiheadAttention) and cell.dropout:
            silent = copy_network(cell, lambda name, inner: None)
            silent.__dict__["dropout"] = 0.0
            return silent
        return None

    quiet = copy_network(network, replace)
    quiet.set_train()
    for _, cell in quiet.cells_and_names():
        if inherits_construct(cell, DROPOUTS):  # others may do more in training than to drop
            cell.set_train(False)
    return quiet


def batch_axis(two, three):
    """The one axis whose length is proportional to the number of rows."""
    if len(two) != len(three):
        return None
    moving = [i for i, (a, b) in enumerate(zip(two, three)) if a != b]
    if len(moving) != 1 or two[moving[0]] * 3 != three[moving[0]] * 2:
        return None
    return moving[0]


def scaled(shape, axis, before, rows):
    return tuple(size // before * rows if i == axis else size for i, size in enumerate(shape))


def _axis_first(shape, axis):
    moved = list(shape)
    moved[0], moved[axis] = moved[axis], moved[0]
    return tuple(moved)


