"""Proof that no row of a batch reaches another: rows that are no numbers leave every other row as it was, bit by bit.

Comparing values cannot show that. So some rows of a batch are filled with NaN and infinities, at the inputs and again
at the input and the output of every layer that the engine reads, where an activation may have hidden them. If a row
that was left alone changes by a single bit, at its loss or at any of these places, it depends on the others. A family
of sets (`rows.separating_sets`) has, for each two places of the batch, one that poisons the first and spares the
second.

That settles the forward pass at the batch's own size, and with it the gradients as far as MindSpore differentiates by
itself. Gradients are looked at too: for a few rows, and for the whole batch where they could mix behind the rows'
losses, as in a loss that only the whole batch has.
"""
from __future__ import annotations

from functools import lru_cache
from typing import Optional

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from mindarmour.privacy.diff_privacy.clipping.rules import FlatClipping
from mindarmour.privacy.diff_privacy.grads.ghost.engine import GhostEngine
from mindarmour.privacy.diff_privacy.grads.ghost.row_copies import put_rows
from mindarmour.privacy.diff_privacy.grads.ghost.row_losses import OwnLoss, WeightedLoss
from mindarmour.privacy.diff_privacy.grads.ghost.sites import Survey, tapped_copy
from mindarmour.privacy.diff_privacy.grads.rows import (
    different_rows,
    lonely_sets,
    poison_like,
    poisoned,
    separating_sets,
)
from mindarmour.privacy.errors import UnsupportedLayerError

_FEW = 3
_GOLDEN = 0.6180339887498949
_LAST_BITS = 1e-5
_BLOCK = 256
_ALONG = np.array([np.nan, np.inf], np.float32)  # where the rows lie along the last axis, one for the whole
_FIX = ("Let every row be computed from itself alone (no statistics, sorting or shuffling over the batch axis, no loss "
        "that divides by a sum over the batch); or take engine='vmap' or 'loop', which ask for each row by itself.")


def refuse_if_rows_mix(network: nn.Cell, loss_fn: Optional[nn.Cell], found: Survey, columns: tuple) -> None:
    """Raise UnsupportedLayerError if a row of the batch depends on another. Call this eagerly.

    Args:
        network (Cell): The network, in training mode without dropout.
        loss_fn (Cell, optional): Its loss; None if the network returns the loss.
        found (Survey): What the ghost engine found in it.
        columns (tuple[Tensor]): A batch of real rows.
    """
    rows = columns[0].shape[0]
    sets = np.concatenate([separating_sets(rows), lonely_sets(rows)])
    _refuse_mixing_forward(network, loss_fn, found.for_rows(rows), columns, sets)
    few = different_rows(columns, _FEW)
    _refuse_mixing_gradients(network, loss_fn, found, few, np.eye(_FEW, dtype=bool))
    by_row = found.scalar_loss is None and (loss_fn is None or found.row_loss is not None)
    if not by_row or has_own_gradient(network) or (loss_fn is not None and has_own_gradient(loss_fn)):
        _refuse_mixing_gradients(network, loss_fn, found, columns, sets)


def has_own_gradient(network: nn.Cell) -> bool:
    """Whether a cell of the network brings its own backward pass, which need not follow from the forward pass."""
    return any(getattr(type(cell), "bprop", None) is not None for _, cell in network.cells_and_names())


class _Ward:
    """Which rows are poisoned in this run, and what the others looked like at every place in the first one."""

    def __init__(self, rows):
        self.rows = rows
        self.poison = np.zeros(rows, bool)
        self.turn = 0
        self._marks = {}

    def look(self, place, value, axis):
        """Raise `_Mixed` if a row that is not poisoned differs from what it was in the first run."""
        rows = rows_of(value, axis, self.rows)
        if place not in self._marks:
            self._marks[place] = row_marks(rows), row_sizes(rows)
            return
        before, sizes = self._marks[place]
        spared = ~self.poison
        if not _same_rows(before[spared], row_marks(rows[spared]), sizes[spared]).all():
            raise _Mixed(place)

    def poisoned(self, value, axis):
        """`value` with poison in its poisoned rows."""
        if not self.poison.any() or value.dtype not in (ms.float32, ms.float16, ms.bfloat16):
            return value
        shape = [1] * value.ndim
        shape[axis] = value.shape[axis]
        mask = np.repeat(self.poison, value.shape[axis] // self.rows).reshape(shape)
        poison = poison_like(value.shape, self.turn) if axis != value.ndim - 1 else np.roll(_ALONG, self.turn)[0]
        poison = Tensor(poison, value.dtype)
        return ops.where(Tensor(mask), poison, value)


class _Mixed(Exception):
    """A row changed at a place because others did."""


class _Probe(nn.Cell):
    """Stands where a tap will be: looks at the rows, and poisons them anew; for eager runs only."""

    def __init__(self, ward, place, axis):
        super().__init__(auto_prefix=False)
        self._ward, self._place, self._axis = ward, place, axis

    def construct(self, value, *noted):
        self._ward.look((self._place, "value"), value, self._axis)
        if noted:
            self._ward.look((self._place, "noted"), noted[0], self._axis)
        return self._ward.poisoned(value, self._axis)


class _ProbeMaker:
    """Makes probes instead of taps, in the same order."""

    def __init__(self, ward, axes):
        self._ward, self._axes, self._made = ward, axes, 0

    def value(self):
        """A probe where a tap will be."""
        self._made += 1
        return _Probe(self._ward, self._made - 1, self._axes[self._made - 1])

    gradient = indices = value


def rows_of(value: Tensor, axis: int, rows: int) -> np.ndarray:
    """The values of each row, [rows, values]: float32, or float64 where they were no floats of at most 32 bits."""
    if value.dtype == ms.bfloat16:
        value = value.astype(ms.float32)
    array = np.moveaxis(value.asnumpy(), axis, 0).reshape(rows, -1)
    return array.astype(np.float32 if array.dtype in (np.float16, np.float32) else np.float64, copy=False)


def row_marks(rows: np.ndarray) -> np.ndarray:
    """Two numbers per row, float64 [rows, 2]: how many values are not finite, and a weighted sum of the others.

    Every place of a row has a weight of its own, so that a change of order shows too.
    """
    sums, odd = _finite_sums(rows)
    counts = np.zeros_like(sums)
    counts[odd] = (~np.isfinite(rows[odd])).sum(axis=1)
    return np.stack([counts, sums], axis=1)


def row_sizes(rows: np.ndarray) -> np.ndarray:
    """Weighted sum of the absolute finite values of each row, float64 [rows]."""
    return _finite_sums(np.abs(rows))[0]


def _finite_sums(rows):
    """(weighted sums of the finite values, which rows have others or sums beyond their precision)."""
    with np.errstate(invalid="ignore", over="ignore"):
        sums = _weighted_sums(rows)
    odd = ~np.isfinite(sums)
    if odd.any():
        sums[odd] = _weighted_sums(np.where(np.isfinite(rows[odd]), rows[odd], 0.0).astype(np.float64))
    return sums, odd


def _weighted_sums(rows):
    """Blocks in the rows' own precision, whose rounding stays far below `_LAST_BITS`, and their sums in float64."""
    width = min(_BLOCK, rows.shape[1]) or 1
    whole = rows.shape[1] // width * width
    blocks = rows[:, :whole].reshape(len(rows), -1, width) @ _weights(width).astype(rows.dtype)
    rest = rows[:, whole:].astype(np.float64) @ _weights(rows.shape[1] - whole)
    return blocks.astype(np.float64) @ _weights(blocks.shape[1]) + rest


@lru_cache(maxsize=64)
def _weights(count):
    return 1.0 + np.arange(1, count + 1) * _GOLDEN % 1.0


def _same_rows(one: np.ndarray, other: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Bool [rows]: equal but for last bits. Vectorised kernels round a row differently where its neighbours are NaN;
    arithmetic that takes the poison in turns the row itself into NaN or infinity, however small its share is."""
    return (one[:, 0] == other[:, 0]) & (np.abs(one[:, 1] - other[:, 1]) <= _LAST_BITS * sizes)


def _refuse_mixing_forward(network, loss_fn, found, columns, sets):
    ward = _Ward(found.rows)
    make = _ProbeMaker(ward, found.axes)
    by_name = {site.name: site for site in found.sites}
    adjust, copies = put_rows(found.raw, found.rows)
    values = [copied.asnumpy().copy() for copied in copies]
    probed = tapped_copy(network, found.sites, make, adjust)
    if loss_fn is None:
        loss, by_row = OwnLoss(probed, found.loss_scale), found.scalar_loss is None
    else:
        loss, by_row = WeightedLoss(probed, loss_fn, found.row_loss, found.rows), found.row_loss is not None
    weights = ops.ones(found.rows, ms.float32)
    for turn, poison in enumerate([ward.poison, *sets]):
        ward.poison, ward.turn = poison, turn
        for copied, value in zip(copies, values):
            copied.set_data(ward.poisoned(Tensor(value), 0))
        given = poisoned(columns, poison, turn) if turn else columns
        with _named(network, by_name):
            losses = loss(weights, *given)[1]
            if by_row:
                ward.look("loss", losses, 0)


def _refuse_mixing_gradients(network, loss_fn, found, columns, sets):
    rows = columns[0].shape[0]
    engine = GhostEngine(network, loss_fn, FlatClipping(), rows, columns, found)
    axes = (*found.axes, *(0 for _ in found.raw))
    weights, ward = ops.ones(rows, ms.float32), _Ward(rows)
    for turn, poison in enumerate([ward.poison, *sets, *sets[:2]]):
        ward.poison, ward.turn = poison, turn
        given = poisoned(columns, poison, turn) if turn else columns
        _, readings = engine.backward(weights, *given)
        with _named(network, {}):
            for place, (reading, axis) in enumerate(zip(readings, axes)):
                ward.look(place, reading, axis)


class _named:
    """Turns `_Mixed` into the refusal that names the layer."""

    def __init__(self, network, by_name):
        self._network, self._by_name = network, by_name

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if kind is _Mixed:
            name = self._owner(error.args[0])
            cell = dict(self._network.cells_and_names()).get(name, self._network)
            raise UnsupportedLayerError(name, type(cell).__name__, "rows of the batch depend on each other: a row that "
                                        "was left alone changed when others did.", _FIX) from None

    def _owner(self, place):
        if not isinstance(place, tuple):
            return ""
        tap = place[0]
        for name, site in self._by_name.items():
            if tap < len(site.axes):
                return name
            tap -= len(site.axes)
        return ""
