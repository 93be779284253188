"""Find out, before anything is compiled, which layers a network calls, with what shapes, and who can serve them."""
from __future__ import annotations

from dataclasses import replace as replace_fields
from typing import Optional

import numpy as np
from mindspore import nn

from mindarmour.privacy.diff_privacy.grads.eager import eager
from mindarmour.privacy.diff_privacy.grads.ghost.block_search import blocks_for
from mindarmour.privacy.diff_privacy.grads.ghost.row_copies import RawParameter, put_rows
from mindarmour.privacy.diff_privacy.grads.ghost.row_losses import per_row
from mindarmour.privacy.diff_privacy.grads.ghost.sites import (
    OTHER_ENGINE,
    Site,
    Survey,
    batch_axis,
    in_order,
    output_of,
    refuse,
    same_output,
    scaled,
)
from mindarmour.privacy.diff_privacy.grads.layers import rule_class_for
from mindarmour.privacy.diff_privacy.grads.network_copy import copy_network, reached_cells
from mindarmour.privacy.diff_privacy.grads.protocol import RowLoss
from mindarmour.privacy.diff_privacy.grads.rows import few_rows
from mindarmour.privacy.diff_privacy.grads.taps import RecorderMaker
from mindarmour.utils.mindspore_internals import own_parameters


def survey(network: nn.Cell, loss_fn: Optional[nn.Cell], columns: tuple) -> Survey:
    """Look at the structure, then run two and three rows of the batch through the network and note every shape.

    Raises:
        UnsupportedLayerError: At the first trainable Parameter that cannot be served.
    """
    candidates, raw, cells = _candidates(network)
    rows = columns[0].shape[0]
    with eager():
        tried = _with_row_shapes(network, loss_fn, raw, cells, columns)
        small = [_recorded_run(network, loss_fn, candidates, columns, few) for few in (2, 3)]
        row_loss = None if loss_fn is None else per_row(loss_fn, small[0][1], few_rows(columns, 2)[-1])
        sites, fixed = _called_sites(candidates, small, rows)
        left = [item for item, found in zip(raw, tried) if found is None]
        if left or fixed:
            if fixed:
                others = {name: cell for name, cell in candidates.items() if name not in fixed}
                small = [_recorded_run(network, loss_fn, others, columns, few) for few in (2, 3)]
            sites += blocks_for(network, loss_fn, columns, cells, [run[2] for run in small], left, fixed)
    raw = tuple(item for item in tried if item is not None)
    return Survey(in_order(network, sites), raw, rows, row_loss, _scalar_loss(network, loss_fn, columns, small))


def _candidates(network):
    """({name: cell} of the served layers with trainable Parameters, list of raw Parameters, {name: cell} of all)."""
    trainable = {id(p) for p in network.trainable_params()}

    def served_by(cell):
        rule_class = rule_class_for(cell)
        return {id(p) for p in rule_class.parameters_of(cell).values()} & trainable if rule_class else set()

    cells = reached_cells(network, lambda _, cell: bool(served_by(cell)))
    candidates, raw = {}, []
    for name, cell in cells.items():
        served = served_by(cell)
        unserved = [(key, p) for key, p in own_parameters(cell).items()
                    if p is not None and id(p) in trainable and id(p) not in served]
        if served:
            _refuse_configuration(name, cell, rule_class_for(cell), unserved)
            candidates[name] = cell
        else:
            raw += [RawParameter(name, key, p) for key, p in unserved]
    return candidates, raw, cells


def _called_sites(candidates, small, rows):
    """(sites of the candidates that are called, names of those whose input does not follow the rows)."""
    sites, fixed = [], []
    for name, cell in candidates.items():
        calls = [run[0][name] for run in small]
        if not any(calls[0]):
            continue
        if all(len(two) == 1 and two == three for two, three in zip(*calls)):
            fixed.append(name)
        else:
            sites.append(_site(name, cell, calls, rows))
    return sites, fixed


def _refuse_configuration(name, cell, rule_class, unserved):
    reason = rule_class.refusal(cell)
    if unserved:
        reason = f"the rule of its class does not know its Parameter '{unserved[0][1].name}'."
    if reason:
        refuse(name, cell, reason)


def _recorded_run(network, loss_fn, candidates, columns, rows):
    """({layer name: calls per tap}, output, {cell name: its calls}) of an eager forward run of a few rows."""
    made, notes = {}, {}

    def replace(name, cell):
        if name not in candidates:
            return None
        make = RecorderMaker()
        tapped = rule_class_for(cell).tapped(cell, make)
        made[name] = make.recorders
        return tapped

    def note(name, copied):
        copied.__dict__["construct"] = _noting(copied.construct, notes.setdefault(name, []))

    few = few_rows(columns, rows)
    copied = copy_network(network, replace, note, apart=True)
    output = copied(*(few if loss_fn is None else few[:-1]))
    calls = {name: [recorder.calls for recorder in recorders] for name, recorders in made.items()}
    return calls, output, notes


def _noting(construct, calls):
    """`construct`, its arguments and what it returns noted in `calls`."""
    def noted(*arguments, **named):
        output = construct(*arguments, **named)
        calls.append((arguments, named, output))
        return output

    return noted


def _with_row_shapes(network, loss_fn, raw, cells, columns):
    """Each raw Parameter with the row shape under which a copy per row leaves the network's output as it is, or None.

    What was found for one cell of a class is tried first for the next, and what failed is not tried again.
    """
    if not raw:
        return []
    expected = [_plain_output(network, loss_fn, columns, rows) for rows in (2, 3)]
    places, found = {}, []
    for item in raw:
        kind = (type(cells[item.cell_name]), item.attribute, len(item.parameter.shape))
        shapes = list(enumerate(item.candidates()))
        first = places.get(kind, -1)
        shapes = [] if first is None else sorted(shapes, key=lambda shape, first=first: shape[0] != first)
        place = next((place for place, shape in shapes
                      if _fits(network, loss_fn, columns, replace_fields(item, row_shape=shape), expected)), None)
        places[kind] = place
        found.append(None if place is None else replace_fields(item, row_shape=dict(shapes)[place]))
    return found


def _fits(network, loss_fn, columns, item, expected):
    outputs = (_plain_output(network, loss_fn, columns, rows, item) for rows in (2, 3))
    return all(same_output(a, b) for a, b in zip(outputs, expected))


def _plain_output(network, loss_fn, columns, rows, item=None):
    """Output for a few rows, with a row copy of `item` in its place; None where that does not run."""
    adjust, _ = put_rows([item] if item else [], rows)
    return output_of(network, loss_fn, columns, rows, lambda quiet: copy_network(quiet, _descend, adjust, apart=True),
                     may_fail=item is not None)


def _descend(_, cell):
    return None


def _site(name, cell, calls, rows):
    """The site of a layer from its recorded calls at two and at three rows."""
    recorded, axes = [], []
    for two, three in zip(*calls):
        if len(two) != 1 or len(three) != 1:
            refuse(name, cell, f"it is called {len(two)} times in one forward pass.",
                    f"{OTHER_ENGINE} {rule_class_for(cell).fix_for_several_calls}")
        axis = batch_axis(two[0], three[0])
        if axis is None:
            refuse(name, cell, f"no axis of a tensor of shape {two[0]} follows the number of rows.")
        axes.append(axis)
        recorded.append(scaled(two[0], axis, 2, rows))
    return Site(name, cell, rule_class_for(cell), tuple(recorded), tuple(axes))


def _scalar_loss(network, loss_fn, columns, small):
    """For a network that returns one number: 'mean' if it averages over its rows, 'sum' if it adds them up."""
    if loss_fn is not None:
        return None
    outputs = [output.asnumpy() for _, output, _ in small]
    if outputs[0].ndim and outputs[0].shape[0] == 2 and outputs[1].shape[0] == 3:
        return None
    if outputs[0].size != 1:
        refuse("", network, f"it returns a loss of shape {outputs[0].shape} for two rows.",
                "Return one loss per row, or one number.")
    with eager():
        one = RowLoss(copy_network(network, lambda name, cell: None), None)
        rows = few_rows(columns, 2)
        single = [float(one(*(column[i:i + 1] for column in rows)).asnumpy()) for i in range(2)]
    whole = float(outputs[0].reshape(()))
    if np.isclose(whole, sum(single), rtol=1e-4) and not np.isclose(whole, sum(single) / 2, rtol=1e-4):
        return "sum"
    return "mean"
