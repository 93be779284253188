"""Which rule serves which layer, and what a rule must offer."""
import math

from mindspore import nn, ops

from mindarmour.privacy.diff_privacy.grads.taps import InputAndOutput

_RULES = {}


class UnitGradient(nn.Cell):
    """Per-unit gradients of one Parameter, from what the taps of its layer read.

    Lives inside the compiled step, which calls, once per step and Parameter,

        held = gradient.hold(*taps)                     what both phases need
        squares = gradient.squares(held)                squared norms, float32 [units]
        total = gradient.total(held, factor, usable)    sum over units of factor times gradient

    A subclass implements `construct(*taps)`, which returns every unit's gradient, float32 [units, *shape]. One that
    knows something cheaper than materialising them overrides the three methods instead. Code in these methods is
    compiled: decisions belong into `__init__`.

    Args:
        units (int): Units of the batch; unit u owns the u-th of `units` equal parts of the batch axis.
        shape (tuple): Shape of the Parameter.
    """

    def __init__(self, units, shape):
        super().__init__(auto_prefix=False)
        self.units = units
        self.shape = tuple(shape)
        self.rows_shape = (units, math.prod(self.shape))
        self.norms = SquareNorms(*self.rows_shape)
        self.sum = WeightedSum(*self.rows_shape, self.shape)
        self.reshape = ops.Reshape()

    def construct(self, *taps):
        """Every unit's gradient, float32 [units, *shape]."""
        raise NotImplementedError

    def hold(self, *taps):
        """What `squares` and `total` share."""
        return self.reshape(self.construct(*taps), self.rows_shape)

    def squares(self, held):
        """Squared gradient norm of each unit, float32 [units]."""
        return self.norms(held)

    def total(self, held, factor, usable):
        """Sum of factor [units] times gradient; units with usable False (bool [units]) add exactly zero."""
        return self.sum(held, factor, usable)


class SquareNorms(nn.Cell):
    """Squared norms of rows: float32 [n, size] to [n]. A batched product reads memory once, unlike square and sum."""

    def __init__(self, n, size):
        super().__init__(auto_prefix=False)
        self.flat, self.row = (n,), (n, 1, size)
        self.reshape = ops.Reshape()
        self.product = ops.BatchMatMul(transpose_b=True)

    def construct(self, rows):
        rows = self.reshape(rows, self.row)
        return self.reshape(self.product(rows, rows), self.flat)


class KeepUsable(nn.Cell):
    """Zero what belongs to unusable units. Not a product with 0: what it drops may be NaN.

    Args:
        units (int): Units.
        ndim (int): Rank of the values [units, ...].
    """

    def __init__(self, units, ndim):
        super().__init__(auto_prefix=False)
        self.shape = (units,) + (1,) * (ndim - 1)
        self.reshape = ops.Reshape()
        self.select = ops.Select()
        self.zeros_like = ops.ZerosLike()

    def construct(self, values, usable):
        return self.select(self.reshape(usable, self.shape), values, self.zeros_like(values))


class WeightedSum(nn.Cell):
    """Sum of factor times row: float32 [units, size] to `shape`."""

    def __init__(self, units, size, shape):
        super().__init__(auto_prefix=False)
        self.row, self.shape = (1, units), shape
        self.reshape = ops.Reshape()
        self.product = ops.MatMul()
        self.keep = KeepUsable(units, 2)

    def construct(self, rows, factor, usable):
        factor = self.reshape(factor, self.row)
        return self.reshape(self.product(factor, self.keep(rows, usable)), self.shape)


class LayerRule:
    """How one layer kind is read, and which gradient each of its Parameters has. Never instantiated."""

    #: attributes of the layer that hold the Parameters it serves
    parameter_names = ("weight", "bias")

    @classmethod
    def parameters_of(cls, cell):
        """{attribute: Parameter} of the layer, frozen ones included."""
        found = ((name, getattr(cell, name, None)) for name in cls.parameter_names)
        return {name: parameter for name, parameter in found if parameter is not None}

    @classmethod
    def refusal(cls, cell):
        """Why this layer, configured as it is, cannot be served; None if it can."""
        return None

    @classmethod
    def tapped(cls, cell, make):
        """The layer inside its taps, by default one at its input and one at its output. See `taps.TapMaker`."""
        return InputAndOutput(cell, make)

    @classmethod
    def gradient(cls, name, cell, shapes, units):
        """The `UnitGradient` of the Parameter in attribute `name`.

        Args:
            name (str): One of the names that `parameters_of` gives.
            cell (Cell): The layer.
            shapes (tuple[tuple]): Shapes of the taps for the whole batch, batch axis first.
            units (int): Units of the batch.
        """
        raise NotImplementedError


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
    """The rule registered for the cell's exact class, or None."""
    return _RULES.get(type(cell))


def registered_layers():
    """All layer classes that have a rule."""
    return tuple(_RULES)
