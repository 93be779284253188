"""Which rule serves which layer, and what a rule must offer."""
from mindspore import nn, ops

from mindarmour.privacy.diff_privacy.grads.taps import InputAndOutput

_RULES = {}


class LayerRule(nn.Cell):
    """Per-unit gradients of one layer, from what its taps read.

    A rule lives inside the compiled step. For every layer it serves, the engine calls, once per step,

        held = rule.hold(*taps)                          what both phases need
        squares = rule.squares(held)                     one float32 [units] per trainable parameter
        totals = rule.totals(held, factors, finite)      one float32 tensor of the parameter's shape each

    A rule for a layer of your own overrides `unit_gradients`, nothing else; the rules of this package override
    the three methods where they know something cheaper than materialising every unit's gradient.

    Args:
        cell (Cell): The layer.
        shapes (tuple[tuple]): Shapes of the taps for the whole batch, batch axis first.
        units (int): Units per batch; unit u owns the u-th part of the batch axis.
    """

    #: names of the layer's Parameters that the rule serves
    parameter_names = ("weight", "bias")

    def __init__(self, cell, shapes, units):
        super().__init__(auto_prefix=False)
        self.units = units
        self.served = tuple(p for p in self.parameters_of(cell) if p.requires_grad)
        self.shapes_of_served = tuple(tuple(p.shape) for p in self.served)

    @classmethod
    def parameters_of(cls, cell):
        """The Parameters of the layer that the rule serves, frozen ones included."""
        found = (getattr(cell, name, None) for name in cls.parameter_names)
        return tuple(p for p in found if p is not None)

    @classmethod
    def refusal(cls, cell):
        """Why this layer, configured as it is, cannot be served; None if it can."""
        return None

    @classmethod
    def tapped(cls, cell, make):
        """The layer inside its taps. `make` makes them, see `taps.TapMaker`."""
        return InputAndOutput(cell, make)

    def unit_gradients(self, *taps):
        """Materialised gradients: per served parameter, float32 [units, *shape]."""
        raise NotImplementedError

    def hold(self, *taps):
        """What `squares` and `totals` share."""
        return self.unit_gradients(*taps)

    def squares(self, held):
        """Squared gradient norms of the units, per served parameter."""
        results = ()
        for gradient in held:
            results += (square_norms(gradient.reshape(self.units, -1)),)
        return results

    def totals(self, held, factors, finite):
        """Sum over units of factor times gradient, per served parameter."""
        results = ()
        for gradient, factor, shape in zip(held, factors, self.shapes_of_served):
            results += (weighted_sum(gradient, factor, finite).reshape(shape),)
        return results


def square_norms(rows):
    """Squared norm of each row: float32 [n, d] to [n]. A batched product reads memory once, unlike square and sum."""
    rows = rows.expand_dims(1)
    return ops.BatchMatMul(transpose_b=True)(rows, rows).reshape(-1)


def keep_finite(values, finite):
    """Zero what belongs to units that are not finite: values [units, ...], finite bool [units]."""
    shape = (finite.shape[0],) + (1,) * (values.ndim - 1)
    return ops.select(finite.reshape(shape), values, ops.zeros_like(values))


def weighted_sum(gradient, factor, finite):
    """Sum over units of factor [units] times gradient [units, ...], flat; units that are not finite add nothing."""
    rows = gradient.reshape(factor.shape[0], -1)
    return ops.MatMul()(factor.reshape(1, -1), keep_finite(rows, finite)).reshape(-1)


def register_layer(*kinds):
    """Class decorator: the decorated `LayerRule` serves layers of exactly these classes.

    A later registration replaces an earlier one. Subclasses are not included, because a subclass may compute
    something else.

    Args:
        kinds (type): Cell classes.

    Raises:
        TypeError: If a kind is not a Cell class or the decorated class is not a `LayerRule`.
    """
    for kind in kinds:
        if not (isinstance(kind, type) and issubclass(kind, nn.Cell)):
            raise TypeError(f"register_layer takes subclasses of mindspore.nn.Cell, but got {kind!r}.")

    def register(rule):
        if not (isinstance(rule, type) and issubclass(rule, LayerRule)):
            raise TypeError(f"register_layer decorates subclasses of LayerRule, but got {rule!r}.")
        for kind in kinds:
            _RULES[kind] = rule
        return rule

    return register


def rule_class_for(cell):
    """The rule class registered for the cell's exact class, or None."""
    return _RULES.get(type(cell))


def registered_layers():
    """All layer classes that have a rule."""
    return tuple(_RULES)
