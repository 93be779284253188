"""The smallest cells whose own derivative serves the Parameters that no rule serves."""
from __future__ import annotations

from dataclasses import replace as replace_fields
from typing import Any, Optional

import numpy as np
from mindspore import Parameter, Tensor, nn

from mindarmour.privacy.diff_privacy.grads.class_loss import inherits_construct
from mindarmour.privacy.diff_privacy.grads.ghost.blocks import FLOATS, Block
from mindarmour.privacy.diff_privacy.grads.ghost.row_copies import RawParameter
from mindarmour.privacy.diff_privacy.grads.ghost.sites import (
    DROPOUTS,
    OTHER_ENGINE,
    Site,
    batch_axis,
    output_of,
    refuse,
    same_output,
    scaled,
    tapped_copy,
)
from mindarmour.privacy.diff_privacy.grads.layers import registered_layers
from mindarmour.privacy.diff_privacy.grads.taps import RecorderMaker

_INNER_AXES = 3
_RUNS = 3  # of a cell on equal inputs, to see whether it draws random numbers


def blocks_for(network: nn.Cell, loss_fn: Optional[nn.Cell], columns: tuple, cells: dict[str, nn.Cell],
               notes: list[dict], left: list[RawParameter], fixed: list[str]) -> list[Site]:
    """Sites of the blocks that serve what is left.

    Args:
        network (Cell): The network.
        loss_fn (Cell, optional): Its loss.
        columns (tuple[Tensor]): A batch.
        cells (dict): All its cells by name.
        notes (list[dict]): For two and for three rows, the calls of each cell.
        left (list): Parameters that cells use by themselves and not by broadcasting.
        fixed (list[str]): Names of served layers whose input does not follow the rows.

    Raises:
        UnsupportedLayerError: At the first Parameter that no block serves.
    """
    search = _Search(network, loss_fn, columns, cells, notes)
    wanted: list[tuple[str, Parameter]] = [(item.cell_name, item.parameter) for item in left]
    wanted += [(name, p) for name in fixed for p in cells[name].trainable_params()]
    found: list[Site] = []
    while wanted:
        site, why = search.smallest(wanted)
        if site is None:
            _refuse_parameter(cells, *wanted[0], why)
        found.append(site)
        wanted = [(name, p) for name, p in wanted if not _inside(name, site.name)]
    return found


def _refuse_parameter(cells, name, parameter, why):
    known = ", ".join(sorted(kind.__name__ for kind in registered_layers()))
    refuse(name, cells[name], f"it uses its Parameter '{parameter.name}' by itself, and not by broadcasting over the "
           f"batch; nor can the derivative of the cell be taken for each row: {why}", f"{OTHER_ENGINE} Or register a "
           f"rule for its class with register_layer, or build it from served layers: {known}.")


def _inside(name, outer):
    return outer == "" or name == outer or name.startswith(f"{outer}.")


class _Search:
    """Tries the owner of a Parameter, then the cells around it."""

    def __init__(self, network, loss_fn, columns, cells, notes):
        self.network, self.loss_fn, self.columns = network, loss_fn, columns
        self.cells, self.notes = cells, notes
        self.expected, self.times = None, 1  # the network's output; what served the last cell serves the next

    def smallest(self, wanted):
        """(the site for the first of `wanted` and what else lies in it, or None, why not)."""
        name, why = wanted[0][0], "no cell of it is called once in a forward pass."
        while True:
            if name in self.notes[0]:
                inside = {id(p): p for owner, p in wanted if _inside(owner, name)}
                site = self._site(name, tuple(inside.values()))
                if isinstance(site, Site):
                    return site, ""
                why = site
            if not name:
                return None, why
            name = name.rpartition(".")[0]

    def _site(self, name, parameters):
        """The site of the cell as a block, or why it cannot be one."""
        calls = [note.get(name, []) for note in self.notes]
        if any(len(call) != 1 for call in calls):
            return f"it is called {len(calls[0])} times in one forward pass."
        (two, named, out_two), (three, _, out_three) = calls[0][0], calls[1][0]
        single = isinstance(out_two, Tensor)
        outputs = [(out_two,), (out_three,)] if single else [out_two, out_three]
        reason = _unreadable(named, outputs) or _random(self.cells[name], two)
        if reason:
            return reason
        kinds = [_kind(a, b) for a, b in zip(two, three)]
        if any(kind is _UNKNOWN for kind in kinds) or len(two) != len(three):
            return "an argument of it neither follows the rows nor stays the same."
        follow = [(a, b) for a, b, kind in zip(two, three, kinds) if isinstance(kind, str) and kind == "rows"]
        axes = [batch_axis(a.shape, b.shape) for a, b in (*follow, *zip(*outputs))]
        block = Block(parameters, tuple(kinds), len(outputs[0]), single)
        if None in axes:
            if follow or not single or outputs[0][0].shape != outputs[1][0].shape:
                return "what it returns does not follow the rows."
            return self._copied(name, block, outputs[0][0].shape)
        read = [*(a for a, _ in follow), *outputs[0]]
        recorded = [scaled(tensor.shape, axis, 2, self.rows) for tensor, axis in zip(read, axes)]
        return Site(name, self.cells[name], block.for_rows(self.rows), tuple(recorded), tuple(axes))

    @property
    def rows(self):
        return self.columns[0].shape[0]

    def _copied(self, name, block, shape):
        """The block whose output, the same for all rows, is given to each of them."""
        shapes = [shape[1:]] if shape and shape[0] == 1 else []
        shapes += [(1,) * axes + tuple(shape) for axes in range(_INNER_AXES + 1)]
        self.expected = self.expected or [self._output(rows, ()) for rows in (2, 3)]
        for times in sorted(self._multiples(), key=lambda times: times != self.times):
            for copies in shapes:
                tried = replace_fields(block, copies=tuple(copies), copies_per_row=times)
                site = Site(name, self.cells[name], tried.for_rows(1), ((times, *copies),), (0,))
                outputs = (self._output(rows, (site.for_rows(1, rows),)) for rows in (2, 3))
                if all(same_output(a, b) for a, b in zip(outputs, self.expected)):
                    self.times = times
                    return site.for_rows(1, self.rows)
        return "what it returns is not used by broadcasting over the rows."

    def _output(self, rows, sites):
        return output_of(self.network, self.loss_fn, self.columns, rows,
                         lambda quiet: tapped_copy(quiet, sites, RecorderMaker()), may_fail=bool(sites))

    def _multiples(self):
        """How many entries along the batch axis a row has, in what passes between the cells."""
        found = {1}
        for name, calls in self.notes[0].items():
            for (arguments, _, _), (others, _, _) in zip(calls, self.notes[1].get(name, [])):
                for a, b in zip(arguments, others):
                    if isinstance(a, Tensor) and isinstance(b, Tensor) and batch_axis(a.shape, b.shape) == 0:
                        found.add(a.shape[0] // 2)
        return sorted(found)


_UNKNOWN = object()


def _kind(two: Any, three: Any) -> Any:
    """'rows' for an argument that follows the rows, itself for one that stays as it is."""
    if isinstance(two, Tensor) and two is three:
        return two
    if isinstance(two, Tensor) and isinstance(three, Tensor):
        follows = batch_axis(two.shape, three.shape) is not None and two.dtype in FLOATS
        if follows:
            return "rows"
        # no trained value comes by integers, which may therefore be kept
        kept = two.dtype not in FLOATS and two.shape == three.shape and (two == three).all()
        return two if kept else _UNKNOWN
    plain = two is None or isinstance(two, (bool, int, float))
    return two if plain and type(two) is type(three) and two == three else _UNKNOWN


def _unreadable(named, outputs):
    if named:
        return "it is called with named arguments."
    for output in outputs:
        if not isinstance(output, tuple) or any(not isinstance(t, Tensor) or t.dtype not in FLOATS for t in output):
            return "it returns something else than float Tensors."
    return None


def _random(cell, arguments):
    """Why a second run need not give the same, or None: a derivative of its own would see other random numbers."""
    for _, inner in cell.cells_and_names():
        if inherits_construct(inner, DROPOUTS) and getattr(inner, "p", 1) != 0:
            return "there is dropout in it."
        if isinstance(inner, nn.MultiheadAttention) and inner.dropout:
            return "there is dropout in it."
    runs = [[t.asnumpy() for t in _flat(cell(*arguments))] for _ in range(_RUNS)]
    if any(not np.array_equal(a, b, equal_nan=True) for run in runs[1:] for a, b in zip(runs[0], run)):
        return "it draws random numbers."
    return None


def _flat(output):
    return (output,) if isinstance(output, Tensor) else output
