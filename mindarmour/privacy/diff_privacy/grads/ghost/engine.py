"""Clipped sums from one forward and one backward pass: nothing per example is stored but what the layers keep anyway.

Taps (`grads.taps`) read each layer's input A and the gradient B at its output. From these a rule per layer kind
(`grads.layers`) computes each unit's squared gradient norm, and, once the clipping factors are known, the sum of
factor times gradient as one contraction. There is no second backward pass.

References:
    Bu et al. 2023, "Differentially private optimization on large model at small cost" (book-keeping).
    Li et al. 2022, "Large language models can be strong differentially private learners" (ghost clipping).
"""
from __future__ import annotations

import math
from typing import Optional

import mindspore as ms
from mindspore import ParameterTuple, nn, ops

from mindarmour.privacy.diff_privacy.grads.ghost.blocks import DerivativeOfCell, SumOfGradients
from mindarmour.privacy.diff_privacy.grads.ghost.row_copies import Refresh, RowsGradient, put_rows
from mindarmour.privacy.diff_privacy.grads.ghost.row_losses import OwnLoss, WeightedLoss
from mindarmour.privacy.diff_privacy.grads.ghost.sites import Survey, tapped_copy
from mindarmour.privacy.diff_privacy.grads.ghost.survey import survey
from mindarmour.privacy.diff_privacy.grads.layers.products import NoGradient
from mindarmour.privacy.diff_privacy.grads.layers.registry import squares_of
from mindarmour.privacy.diff_privacy.grads.protocol import UnitWeights, loss_reduction, real_mean
from mindarmour.privacy.diff_privacy.grads.rounding import shrink
from mindarmour.privacy.diff_privacy.grads.taps import TapMaker
from mindarmour.privacy.diff_privacy.operators import (
    add_up,
    at,
    both,
    cast,
    for_each,
    greater,
    is_finite,
    multiply,
    partial,
    reshape,
    select,
    zeros_like,
)


class GhostEngine(nn.Cell):
    """Clipped sum by book-keeping. See `grads.protocol` for inputs and outputs.

    The network object is not changed: the engine works on a copy of its structure that shares its Parameters.
    Frozen Parameters cost nothing. Parameters whose layers the network does not call get zeros, which is their
    gradient.

    Args:
        network (Cell): The network; its `trainable_params()` are differentiated.
        loss_fn (Cell, optional): Loss; None if the network returns its loss, per row or as one number.
        rule (Cell): Clipping rule.
        units (int): Units per batch.
        columns (tuple[Tensor]): A batch, for its shapes.
        found (Survey, optional): What a survey of this network on other rows has found; looked for if None.

    Raises:
        UnsupportedLayerError: If a trainable Parameter sits where no rule can follow it.
    """

    compiled = True

    def __init__(self, network: nn.Cell, loss_fn: Optional[nn.Cell], rule: nn.Cell, units: int, columns: tuple,
                 found: Optional[Survey] = None) -> None:
        super().__init__(auto_prefix=False)
        found = (found or survey(network, loss_fn, columns)).for_rows(columns[0].shape[0])
        self.rule = rule
        self.units = units
        self.rows = found.rows
        self.weights = UnitWeights(units, loss_reduction(loss_fn))
        self.scalar_loss = found.scalar_loss is not None
        # a hole beside real rows of its unit must not reach the unit's norm
        self.several_rows = found.rows > units
        self.masks = tuple((found.rows,) + (1,) * (column.ndim - 1) for column in columns)
        self._build(network, loss_fn, found)

    def _build(self, network, loss_fn, found):
        make = TapMaker(shape for site in found.sites for shape in site.recorded)
        adjust, copies = put_rows(found.raw, found.rows)
        self.refresh = Refresh(found.raw, copies)
        tapped = tapped_copy(network, found.sites, make, adjust)
        if loss_fn is None:
            self.loss = OwnLoss(tapped, found.loss_scale)
        else:
            self.loss = WeightedLoss(tapped, loss_fn, found.row_loss, found.rows)
        read = ParameterTuple([*make.parameters, *copies])
        self.backward = ops.value_and_grad(self.loss, None, read, has_aux=True)
        self._collect(network, found)
        axes = [(shape, axis) for site in found.sites for shape, axis in zip(site.recorded, site.axes)]
        before = [math.prod(shape[:axis]) for shape, axis in axes]
        self.axes_before = (*before, *(1 for _ in copies))
        self.before = (*(size if i in make.gradients else 0 for i, size in enumerate(before)), *(1 for _ in copies))

    def _collect(self, network, found):
        """The gradients in the order of the Parameters, and the places of the taps that each of them reads."""
        sources, blocks, first = {}, [], 0
        derived = sum(len(site.axes) for site in found.sites) + len(found.raw)  # what blocks compute comes after these
        for site in found.sites:
            reads = tuple(range(first, first + len(site.axes)))
            first += len(site.axes)
            if site.is_block:
                blocks.append((site.rule_class.gradients(site.cell, site.recorded, site.axes, self.units), reads))
            for name, parameter in site.trainable().items():
                if site.is_block:
                    part = (DerivativeOfCell(self.units, parameter.shape), (derived,))
                    derived += 1
                else:
                    part = (site.gradient(name, self.units), reads)
                sources.setdefault(id(parameter), []).append(part)
        for place, item in enumerate(found.raw, first):
            rows = RowsGradient(self.units, item.parameter.shape, found.rows)
            sources.setdefault(id(item.parameter), []).append((rows, (place,)))
        chosen = [_added_up(self.units, p.shape, sources.get(id(p), [])) for p in network.trainable_params()]
        self.gradients = tuple(gradient for gradient, _ in chosen)
        self.shrink = shrink(gradient.understatement for gradient in self.gradients)
        self.reads = tuple(reads for _, reads in chosen)
        self.blocks, self.block_reads = tuple(block for block, _ in blocks), tuple(reads for _, reads in blocks)

    def construct(self, norm_bound, is_real, *columns):
        weights = self.refresh(self.weights(is_real))
        columns = for_each(partial(_filled, greater(is_real, 0.0)), columns, self.masks)
        (total, losses), readings = self.backward(reshape(weights, is_real.shape), *columns)
        losses = ops.depend(losses, total)
        if self.scalar_loss:
            readings = for_each(partial(_weighted, weights), readings, self.before)
        if self.several_rows:
            readings = for_each(partial(_without_holes, greater(weights, 0.0)), readings, self.axes_before)
        if self.blocks:
            for rows in for_each(partial(_derived, readings), self.blocks, self.block_reads):
                readings += rows
        held = for_each(partial(_hold, readings), self.gradients, self.reads)
        factors, norms = self.rule(for_each(squares_of, self.gradients, held), norm_bound * self.shrink)
        filled = greater(add_up(weights, 1), 0.0)
        norms = select(filled, norms, zeros_like(norms))
        finite = is_finite(norms)
        totals = for_each(partial(_total, both(finite, filled)), self.gradients, held, factors)
        return totals, norms, real_mean(losses, is_real), add_up(1.0 - cast(finite, ms.float32), ())


def _filled(present, column, mask):
    """The column with zeros in its holes, so that what a hole holds cannot reach anything."""
    return select(reshape(present, mask), column, zeros_like(column))


def _weighted(weights, reading, before):
    """Output gradients times the weights of their rows, where the loss could not be weighted.

    `before` is the size of the axes before the batch axis; 0 for what is no gradient.
    """
    if not before:
        return reading
    rows_apart = reshape(reading, (before, weights.size, -1))
    weight = ops.broadcast_to(reshape(weights, (1, weights.size, 1)), rows_apart.shape)
    kept = select(greater(weight, 0.0), multiply(rows_apart, weight), zeros_like(rows_apart))
    return reshape(kept, reading.shape)


def _without_holes(present, reading, before):
    """The reading with zeros in the places of the holes, whose values and gradients may be NaN."""
    rows_apart = reshape(reading, (before, present.size, -1))
    kept = ops.broadcast_to(reshape(present, (1, present.size, 1)), rows_apart.shape)
    return reshape(select(kept, rows_apart, zeros_like(rows_apart)), reading.shape)


def _added_up(units, shape, sources):
    """(the gradient of a Parameter that is used in these places, the readings that it takes)."""
    if not sources:
        return NoGradient(units, shape), ()
    if len(sources) == 1:
        return sources[0]
    reads, taps = (), []
    for _, own in sources:
        taps.append(tuple(range(len(reads), len(reads) + len(own))))
        reads += own
    return SumOfGradients(units, shape, tuple(part for part, _ in sources), tuple(taps)), reads


def _derived(readings, block, reads):
    return block(*for_each(partial(at, readings), reads))


def _hold(readings, gradient, reads):
    return gradient.hold(*for_each(partial(at, readings), reads))


def _total(usable, gradient, held, factor):
    return gradient.total(held, select(usable, factor, zeros_like(factor)))
