"""Find out, before anything is compiled, which layers a network calls, with what shapes, and who can serve them."""
from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from dataclasses import replace as replace_fields
from typing import Optional

import numpy as np
from mindspore import Parameter, nn

from mindarmour.privacy.diff_privacy.grads.class_loss import inherits_construct
from mindarmour.privacy.diff_privacy.grads.eager import eager
from mindarmour.privacy.diff_privacy.grads.ghost.row_copies import RawParameter, put_rows
from mindarmour.privacy.diff_privacy.grads.ghost.row_losses import per_row
from mindarmour.privacy.diff_privacy.grads.layers import registered_layers, rule_class_for
from mindarmour.privacy.diff_privacy.grads.layers.products import Transposed
from mindarmour.privacy.diff_privacy.grads.network_copy import copy_network
from mindarmour.privacy.diff_privacy.grads.protocol import RowLoss
from mindarmour.privacy.diff_privacy.grads.rows import few_rows
from mindarmour.privacy.diff_privacy.grads.taps import RecorderMaker
from mindarmour.privacy.errors import UnsupportedLayerError
from mindarmour.utils.mindspore_internals import own_parameters

_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
_OTHER_ENGINE = "Take engine='auto' or 'vmap', which do not depend on the layer."


@dataclass(frozen=True)
class Site:
    """One layer that the ghost engine reads.

    Args:
        name (str): Name of the layer in the network.
        cell (Cell): The layer.
        rule_class (type): Its `LayerRule`.
        recorded (tuple[tuple]): Shapes of its taps for the whole batch, as the layer sees them.
        axes (tuple[int]): Batch axis of each tap.
    """

    name: str
    cell: nn.Cell
    rule_class: type
    recorded: tuple[tuple[int, ...], ...]
    axes: tuple[int, ...]

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shapes of the taps with the batch axis first."""
        return tuple(_axis_first(shape, axis) for shape, axis in zip(self.recorded, self.axes))

    def for_rows(self, before: int, rows: int) -> Site:
        """The site in a batch of `rows` rows, known from one of `before` rows."""
        recorded = (_scaled(shape, axis, before, rows) for shape, axis in zip(self.recorded, self.axes))
        return replace_fields(self, recorded=tuple(recorded))

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


def survey(network: nn.Cell, loss_fn: Optional[nn.Cell], columns: tuple) -> Survey:
    """Look at the structure, then run two and three rows of the batch through the network and note every shape.

    Raises:
        UnsupportedLayerError: At the first trainable Parameter that cannot be served.
    """
    candidates, raw = _candidates(network)
    with eager():
        raw = tuple(_with_row_shape(network, loss_fn, item, columns) for item in raw)
        small = [_recorded_run(network, loss_fn, candidates, columns, rows) for rows in (2, 3)]
        row_loss = None if loss_fn is None else per_row(loss_fn, small[0][1], few_rows(columns, 2)[-1])
    rows = columns[0].shape[0]
    sites = []
    for name, cell in candidates.items():
        calls = [run[0][name] for run in small]
        if any(calls[0]):
            sites.append(_site(name, cell, calls, rows))
    return Survey(tuple(sites), raw, rows, row_loss, _scalar_loss(network, loss_fn, columns, small))


def _candidates(network):
    """({name: cell} of the served layers with trainable Parameters, list of raw Parameters)."""
    trainable = {id(p) for p in network.trainable_params()}
    candidates, raw, owners = {}, [], Counter()
    for name, cell in network.cells_and_names():
        if any(outer == "" or name.startswith(f"{outer}.") for outer in candidates):
            continue
        rule_class = rule_class_for(cell)
        served = {id(p) for p in rule_class.parameters_of(cell).values()} if rule_class else set()
        unserved = [(key, p) for key, p in own_parameters(cell).items()
                    if p is not None and id(p) in trainable and id(p) not in served]
        raw += [RawParameter(name, key, p) for key, p in unserved]
        owners.update([*(served & trainable), *(id(p) for _, p in unserved)])
        _refuse_shared(name, cell, owners)
        if served & trainable:
            _refuse_configuration(name, cell, rule_class, unserved)
            candidates[name] = cell
    return candidates, raw


def _refuse(name, cell, reason, fix=_OTHER_ENGINE):
    raise UnsupportedLayerError(name, type(cell).__name__, reason, fix)


def _refuse_configuration(name, cell, rule_class, unserved):
    reason = rule_class.refusal(cell)
    if unserved:
        reason = f"the rule of its class does not know its Parameter '{unserved[0][1].name}'."
    if reason:
        _refuse(name, cell, reason)


def _refuse_shared(name, cell, owners):
    if max(owners.values(), default=0) > 1:
        _refuse(name, cell, "it shares a trainable Parameter with another layer.",
                f"{_OTHER_ENGINE} Or give each layer its own Parameter.")


def _recorded_run(network, loss_fn, candidates, columns, rows):
    """({layer name: calls per tap}, the network's output) of an eager forward run of a few rows."""
    made = {}

    def replace(name, cell):
        if name not in candidates:
            return None
        make = RecorderMaker()
        tapped = rule_class_for(cell).tapped(cell, make)
        made[name] = make.recorders
        return tapped

    few = few_rows(columns, rows)
    copied = copy_network(network, replace)
    output = copied(*(few if loss_fn is None else few[:-1]))
    calls = {name: [recorder.calls for recorder in recorders] for name, recorders in made.items()}
    return calls, output


def _with_row_shape(network, loss_fn, item, columns):
    """The raw Parameter with the row shape under which a copy per row leaves the network's output as it is."""
    expected = [_plain_output(network, loss_fn, columns, rows) for rows in (2, 3)]
    for shape in item.candidates():
        tried = replace_fields(item, row_shape=shape)
        outputs = (_plain_output(network, loss_fn, columns, rows, tried) for rows in (2, 3))
        if all(_same(a, b) for a, b in zip(outputs, expected)):
            return tried
    cell = dict(network.cells_and_names())[item.cell_name]
    known = ", ".join(sorted(kind.__name__ for kind in registered_layers()))
    _refuse(item.cell_name, cell, f"it uses its Parameter '{item.parameter.name}' by itself, and not by broadcasting "
            f"over the batch.", f"{_OTHER_ENGINE} Or register a rule for its class with register_layer, or build it "
            f"from served layers: {known}.")


def _plain_output(network, loss_fn, columns, rows, item=None):
    """Output for a few rows, with a row copy of `item` in its place; None where that does not run."""
    few = few_rows(columns, rows)
    adjust, _ = put_rows([item] if item else [], rows)
    try:
        copied = copy_network(without_dropout(network), lambda name, cell: None, adjust)
        output = copied(*(few if loss_fn is None else few[:-1]))
        return (output[0] if isinstance(output, tuple) else output).asnumpy()
    except (ValueError, RuntimeError, TypeError, IndexError):
        if item is None:
            raise
        return None


def _same(output, expected):
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
        if inherits_construct(cell, _DROPOUTS):  # others may do more in training than to drop
            cell.set_train(False)
    return quiet


def _site(name, cell, calls, rows):
    """The site of a layer from its recorded calls at two and at three rows."""
    recorded, axes = [], []
    for two, three in zip(*calls):
        if len(two) != 1 or len(three) != 1:
            _refuse(name, cell, f"it is called {len(two)} times in one forward pass.",
                    f"{_OTHER_ENGINE} {rule_class_for(cell).fix_for_several_calls}")
        axis = _batch_axis(two[0], three[0])
        if axis is None:
            _refuse(name, cell, f"no axis of a tensor of shape {two[0]} follows the number of rows.")
        axes.append(axis)
        recorded.append(_scaled(two[0], axis, 2, rows))
    return Site(name, cell, rule_class_for(cell), tuple(recorded), tuple(axes))


def _batch_axis(two, three):
    """The one axis whose length is proportional to the number of rows."""
    if len(two) != len(three):
        return None
    moving = [i for i, (a, b) in enumerate(zip(two, three)) if a != b]
    if len(moving) != 1 or two[moving[0]] * 3 != three[moving[0]] * 2:
        return None
    return moving[0]


def _scaled(shape, axis, before, rows):
    return tuple(size // before * rows if i == axis else size for i, size in enumerate(shape))


def _axis_first(shape, axis):
    moved = list(shape)
    moved[0], moved[axis] = moved[axis], moved[0]
    return tuple(moved)


def _scalar_loss(network, loss_fn, columns, small):
    """For a network that returns one number: 'mean' if it averages over its rows, 'sum' if it adds them up."""
    if loss_fn is not None:
        return None
    outputs = [output.asnumpy() for _, output in small]
    if outputs[0].ndim and outputs[0].shape[0] == 2 and outputs[1].shape[0] == 3:
        return None
    if outputs[0].size != 1:
        _refuse("", network, f"it returns a loss of shape {outputs[0].shape} for two rows.",
                "Return one loss per row, or one number.")
    with eager():
        one = RowLoss(copy_network(network, lambda name, cell: None), None)
        rows = few_rows(columns, 2)
        single = [float(one(*(column[i:i + 1] for column in rows)).asnumpy()) for i in range(2)]
    whole = float(outputs[0].reshape(()))
    if np.isclose(whole, sum(single), rtol=1e-4) and not np.isclose(whole, sum(single) / 2, rtol=1e-4):
        return "sum"
    return "mean"
