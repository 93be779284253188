"""Clipped sums from one forward and one backward pass: nothing per example is stored but what the layers keep anyway.

Taps (`grads.taps`) read each layer's input A and the gradient B at its output. From these a rule per layer kind
(`grads.layers`) computes each unit's squared gradient norm, and, once the clipping factors are known, the sum of
factor times gradient as one contraction. There is no second backward pass.

References:
    Bu et al. 2023, "Differentially private optimization on large model at small cost" (book-keeping).
    Li et al. 2022, "Large language models can be strong differentially private learners" (ghost clipping).
"""
import mindspore as ms
from mindspore import ParameterTuple, nn, ops

from mindarmour.privacy.diff_privacy.grads.engine import UnitWeights, loss_reduction, real_mean
from mindarmour.privacy.diff_privacy.grads.row_losses import WeightedLoss
from mindarmour.privacy.diff_privacy.grads.survey import survey
from mindarmour.privacy.diff_privacy.grads.taps import TapMaker, twin


class GhostEngine(nn.Cell):
    """Clipped sum by book-keeping. See `grads.engine` for inputs and outputs.

    The network object is not changed: the engine works on a copy of its structure that shares its Parameters.
    Frozen Parameters cost nothing. Parameters whose layers the network does not call get zeros, which is their
    gradient.

    Args:
        network (Cell): The network; its `trainable_params()` are differentiated.
        loss_fn (Cell, optional): Loss; None if the network returns its loss, per row or as one number.
        rule (Cell): Clipping rule.
        units (int): Units per batch.
        columns (tuple[Tensor]): A batch, for its shapes.

    Raises:
        UnsupportedLayerError: If a trainable Parameter sits where no rule can follow it.
    """

    compiled = True

    def __init__(self, network, loss_fn, rule, units, columns):
        super().__init__(auto_prefix=False)
        found = survey(network, loss_fn, columns)
        self.rule = rule
        self.units = units
        self.parameters = tuple(network.trainable_params())
        self.weights = UnitWeights(units, loss_reduction(loss_fn))
        self.scalar_loss = found.loss_scale is not None
        self._build(network, loss_fn, found)

    def _build(self, network, loss_fn, found):
        make = TapMaker(shape for site in found.sites for shape in site.recorded)
        by_name = {site.name: site for site in found.sites}

        def replace(name, cell):
            site = by_name.get(name)
            return site.rule_class.tapped(cell, make) if site else None

        self.loss = WeightedLoss(twin(network, replace), loss_fn, found.loss_scale)
        self.backward = ops.value_and_grad(self.loss, None, ParameterTuple(make.parameters), has_aux=True)
        self.rules = nn.CellList([site.rule_class(site.cell, site.shapes, self.units) for site in found.sites],
                                 auto_prefix=False)
        self.axes = tuple(axis for site in found.sites for axis in site.axes)
        self.tap_counts = tuple(len(site.axes) for site in found.sites)
        self._order(found)

    def _order(self, found):
        """Where each Parameter's square and total stand in the list that the sites yield; -1: nowhere."""
        positions = {}
        for rule in self.rules:
            for parameter in rule.served:
                positions[id(parameter)] = len(positions)
        self.places = tuple(positions.get(id(p), -1) for p in self.parameters)
        self.parameter_shapes = tuple(tuple(p.shape) for p in self.parameters)
        self.served_counts = tuple(len(rule.served) for rule in self.rules)

    def construct(self, norm_bound, is_real, *columns):
        weights = self.weights(is_real)
        (_, losses), readings = self.backward(weights.reshape(-1), *self._filled(is_real, columns))
        held = self._hold(readings, weights)
        squares, filled = self._squares(held, weights)
        factors, norms = self.rule(squares, norm_bound)
        finite = ops.isfinite(norms)
        totals = self._totals(held, factors, ops.logical_and(finite, filled))
        bad = (1.0 - finite.astype(ms.float32)).sum()
        return totals, norms, real_mean(losses, is_real), bad

    def _filled(self, is_real, columns):
        """The batch with zeros in its holes, so that what a hole holds cannot reach anything."""
        results = ()
        for column in columns:
            present = (is_real > 0).reshape((column.shape[0],) + (1,) * (column.ndim - 1))
            results += (ops.select(present, column, ops.zeros_like(column)),)
        return results

    def _hold(self, readings, weights):
        held, start = (), 0
        for rule, count in zip(self.rules, self.tap_counts):
            taps = ()
            for i in range(start, start + count):
                taps += (self._batch_first(readings[i], self.axes[i]),)
            if self.scalar_loss:
                taps = taps[:-1] + (self._weighted(taps[-1], weights),)
            held += (rule.hold(*taps),)
            start += count
        return held

    def _batch_first(self, reading, axis):
        reading = reading.astype(ms.float32)
        return reading if axis == 0 else reading.swapaxes(0, axis)

    def _weighted(self, gradient, weights):
        rows = weights.size
        weight = ops.broadcast_to(weights.reshape(rows, 1), (rows, gradient.size // rows))
        flat = gradient.reshape(rows, -1)
        return ops.select(weight > 0, flat * weight, ops.zeros_like(flat)).reshape(gradient.shape)

    def _squares(self, held, weights):
        """Squares in the order of the Parameters, 0 for units without real rows; and which units have some."""
        filled = weights.sum(axis=1) > 0
        nothing = ops.zeros((self.units,), ms.float32)
        found = ()
        for rule, kept in zip(self.rules, held):
            found += rule.squares(kept)
        squares = ()
        for place in self.places:
            squares += (nothing if place < 0 else ops.select(filled, found[place], nothing),)
        return squares, filled

    def _totals(self, held, factors, usable):
        by_site, start = self._by_site(factors), 0
        found = ()
        for i, rule in enumerate(self.rules):
            count = self.served_counts[i]
            found += rule.totals(held[i], by_site[start:start + count], usable)
            start += count
        totals = ()
        for place, shape in zip(self.places, self.parameter_shapes):
            totals += (ops.zeros(shape, ms.float32) if place < 0 else found[place],)
        return totals

    def _by_site(self, factors):
        """Factors, which come in the order of the Parameters, in the order of the sites."""
        results = ()
        for position in range(sum(self.served_counts)):
            results += (factors[self.places.index(position)],)
        return results
