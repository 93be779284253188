"""Which rule serves which layer, and what a rule must offer."""
from __future__ import annotations

import math
from typing import Any, Callable, Optional

from mindspore import Parameter, nn

from mindarmour.privacy.diff_privacy.grads.rounding import block_length, squares_roundoff
from mindarmour.privacy.diff_privacy.grads.taps import InputAndOutput
from mindarmour.privacy.diff_privacy.operators import (
    add_up,
    batched_product,
    less,
    product,
    reshape,
    select,
    zero_if_not_finite,
    zeros_like,
)

_RULES = {}
# What a subclass may say anew without computing anything else.
_NO_COMPUTATION = frozenset(("__init__", "__module__", "__qualname__", "__doc__", "__annotations__", "__dict__",
                             "__weakref__", "__repr__", "extend_repr", "__static_attributes__", "__firstlineno__"))


class UnitGradient(nn.Cell):
    """Per-unit gradients of one Parameter, from what the taps of its layer read.

    Lives inside the compiled step, which calls, once per step and Parameter,

        held = gradient.hold(*taps)                     what both phases need
        squares = gradient.squares(held)                squared norms, float32 [units]
        total = gradient.total(held, factor)            sum over units of factor times gradient

    A subclass implements `construct(*taps)`, which returns every unit's gradient, float32 [units, *shape]. One that
    knows something cheaper than materialising them overrides the three methods instead, and `understatement` with
    them. Code in these methods is compiled: decisions belong into `__init__`.

    Args:
        units (int): Units of the batch; unit u owns the u-th of `units` equal parts of the batch axis.
        shape (tuple): Shape of the Parameter.
    """

    def __init__(self, units: int, shape: tuple) -> None:
        super().__init__(auto_prefix=False)
        self.units = units
        self.shape = tuple(shape)
        self.rows_shape = (units, math.prod(self.shape))

    @property
    def understatement(self):
        """Share by which rounding may leave `squares` below the square of what `total` adds."""
        return squares_roundoff(self.rows_shape[1])

    def construct(self, *taps):
        """Every unit's gradient, float32 [units, *shape]."""
        raise NotImplementedError

    def hold(self, *taps):
        """What `squares` and `total` share."""
        return reshape(self.construct(*taps), self.rows_shape)

    def unit_rows(self, held):
        """Every unit's gradient as a row, float32 [units, size]."""
        return held

    def squares(self, held):
        """Squared gradient norm of each unit, float32 [units]."""
        return square_norms(held, self.units, self.rows_shape[1])

    def total(self, held, factor):
        """Sum of factor [units] times gradient. A unit of factor 0 adds exactly zero, NaN and infinite as it may be."""
        return reshape(weighted_sum(held, factor, self.units), self.shape)


class OfChangedTaps(nn.Cell):
    """Another gradient of other taps: a subclass's `hold(*taps)` changes them and returns `self.gradient.hold(...)`.

    Args:
        gradient (UnitGradient): The other gradient.
    """

    def __init__(self, gradient):
        super().__init__(auto_prefix=False)
        self.gradient = gradient

    @property
    def understatement(self):
        """See `UnitGradient`."""
        return self.gradient.understatement

    def unit_rows(self, held):
        """See `UnitGradient`."""
        return self.gradient.unit_rows(held)

    def squares(self, held):
        """See `UnitGradient`."""
        return self.gradient.squares(held)

    def total(self, held, factor):
        """See `UnitGradient`."""
        return self.gradient.total(held, factor)


def squares_of(gradient, held):
    """`gradient.squares(held)`, for `primitives.for_each`."""
    return gradient.squares(held)


def square_norms(rows, units, size):
    """Squared norm of each row of [units, size], added in blocks: off by at most `squares_roundoff(size)`.

    A batched product reads memory once, unlike square and sum.
    """
    block = block_length(size)
    if block == size:
        rows = reshape(rows, (units, 1, size))
        return reshape(batched_product(rows, rows), (units,))
    blocks = reshape(rows, (units * (size // block), 1, block))
    return add_up(reshape(batched_product(blocks, blocks), (units, size // block)), 1)


def not_below_zero(squares):
    """A sum that only rounding can bring below zero; NaN stays NaN, which a ReLU would lose."""
    return select(less(squares, 0.0), zeros_like(squares), squares)


def weighted_sum(rows, factor, units):
    """Sum over units of factor times row [units, size], as [1, size]; units of factor 0 add exactly zero.

    NaN and infinity go first, since 0 times NaN is NaN; by value and not by unit, since a mask that has to be
    broadcast costs MindSpore several times the memory of the values.
    """
    return product(reshape(factor, (1, units)), zero_if_not_finite(rows))


class LayerRule:
    """How one layer kind is read, and which gradient each of its Parameters has. Never instantiated."""

    #: attributes of the layer that hold the Parameters it serves
    parameter_names = ("weight", "bias")

    #: what else a user can do whose network calls such a layer several times in one forward pass
    fix_for_several_calls = "Or use a layer of its own for each call."

    @classmethod
    def parameters_of(cls, cell: nn.Cell) -> dict[str, Parameter]:
        """{attribute: Parameter} of the layer, frozen ones included."""
        found = ((name, getattr(cell, name, None)) for name in cls.parameter_names)
        return {name: parameter for name, parameter in found if parameter is not None}

    @classmethod
    def refusal(cls, cell: nn.Cell) -> Optional[str]:
        """Why this layer, configured as it is, cannot be served; None if it can."""
        return None

    @classmethod
    def tapped(cls, cell: nn.Cell, make: Any) -> nn.Cell:
        """The layer inside its taps, by default one at its input and one at its output. See `taps.TapMaker`."""
        return InputAndOutput(cell, make)

    @classmethod
    def gradient(cls, name: str, cell: nn.Cell, shapes: tuple, units: int) -> UnitGradient:
        """The `UnitGradient` of the Parameter in attribute `name`.

        Args:
            name (str): One of the names that `parameters_of` gives.
            cell (Cell): The layer.
            shapes (tuple[tuple]): Shapes of the taps for the whole batch, batch axis first.
            units (int): Units of the batch.
        """
        raise NotImplementedError


def register_layer(*kinds: type) -> Callable[[type], type]:
    """Class decorator: the decorated `LayerRule` serves layers of these classes.

    A later registration replaces an earlier one. Subclasses are included that override nothing but `__init__` and what
    they print: others may compute something else.

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


def rule_class_for(cell: nn.Cell) -> Optional[type]:
    """The rule registered for the cell's class, or for one whose computation it inherits; None if there is none."""
    ancestry = type(cell).__mro__
    place = next((i for i, kind in enumerate(ancestry) if kind in _RULES), None)
    if place is None or any(_overrides(kind, ancestry[place]) for kind in ancestry[:place]):
        return None
    return _RULES[ancestry[place]]


def _overrides(kind, registered):
    # a Cell has no bprop until somebody writes one
    return any(name == "bprop" or hasattr(registered, name) for name in vars(kind) if name not in _NO_COMPUTATION)


def registered_layers() -> tuple[type, ...]:
    """All layer classes that have a rule."""
    return tuple(_RULES)
