"""Cells that use Parameters in a way no rule knows: their own derivative, evaluated for every unit apart.

Taps read what goes into the cell and the gradients at what comes out of it. From these the derivative of the cell
itself, mapped over the units, gives each unit's gradient of the Parameters in it, whatever the cell computes. A cell
whose output does not follow the rows, such as a table of positions, gets a copy of its output for every row.
"""
from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace as replace_fields
from typing import Any, Optional

import mindspore as ms
from mindspore import Parameter, Tensor, nn, ops

from mindarmour.privacy.diff_privacy.grads.layers.registry import UnitGradient
from mindarmour.privacy.diff_privacy.grads.taps import TappedCell
from mindarmour.privacy.diff_privacy.operators import add_up, cast, multiply, reshape

FLOATS = (ms.float32, ms.float16, ms.bfloat16)


@dataclass(frozen=True)
class Block:
    """How one cell is read and differentiated; stands where a `LayerRule` stands.

    Args:
        parameters (tuple[Parameter]): The Parameters that it serves.
        arguments (tuple): One entry per argument of the cell: 'rows' for a Tensor that follows the rows, otherwise
            the argument itself.
        outputs (int): Tensors that the cell returns.
        single (bool): Whether it returns one Tensor rather than a tuple.
        copies (tuple, optional): Shape of one row of the output's copies, for an output that does not follow the rows.
        copies_per_row (int): Copies for each row of the batch.
        rows (int): Rows of the batch.
    """

    parameters: tuple[Parameter, ...]
    arguments: tuple[Any, ...]
    outputs: int = 1
    single: bool = True
    copies: Optional[tuple[int, ...]] = None
    copies_per_row: int = 1
    rows: int = 0

    def parameters_of(self, _: nn.Cell) -> dict[str, Parameter]:
        """{name: Parameter} of what it serves."""
        return {parameter.name: parameter for parameter in self.parameters}

    def for_rows(self, rows: int) -> Block:
        """The same in a batch of `rows` rows."""
        return replace_fields(self, rows=rows)

    def around(self, copied: nn.Cell, make: Any) -> nn.Cell:
        """The cell, copied, inside its taps."""
        return _TappedBlock(copied, self, make)

    def gradients(self, cell: nn.Cell, shapes: Sequence[tuple], axes: Sequence[int], units: int) -> BlockGradients:
        """What computes the units' gradients of `parameters` from the taps."""
        return BlockGradients(self, cell, tuple(zip(shapes, axes)), units)


class _TappedBlock(TappedCell):
    """A cell with taps at the Tensors that follow the rows, and at the gradients of its outputs."""

    def __init__(self, inner, block, make):
        super().__init__(inner)
        self.follows = tuple(isinstance(a, str) and a == "rows" for a in block.arguments)
        self.inputs = nn.CellList([make.value() for follows in self.follows if follows], auto_prefix=False)
        self.outputs = nn.CellList([make.gradient() for _ in range(block.outputs)], auto_prefix=False)
        self.places = tuple(sum(self.follows[:i]) for i in range(len(self.follows)))
        self.single = block.single
        self.one_copy = self.all_copies = None
        if block.copies is not None:
            self.one_copy = (1, *block.copies)
            self.all_copies = (block.rows * block.copies_per_row, *block.copies)

    def construct(self, *arguments):
        given = ()
        for i in range(len(arguments)):
            given += (self.inputs[self.places[i]](arguments[i]) if self.follows[i] else arguments[i],)
        output = self.inner(*given)
        if self.all_copies is not None:
            output = ops.broadcast_to(reshape(output, self.one_copy), self.all_copies)
        if self.single:
            return self.outputs[0](output)
        tapped = ()
        for i in range(len(self.outputs)):
            tapped += (self.outputs[i](output[i]),)
        return tapped


class _Pairing(nn.Cell):
    """Sum of the block's outputs times given gradients: its gradient is the block's derivative applied to them."""

    def __init__(self, block, cell):
        super().__init__(auto_prefix=False)
        self.cell = cell
        self.follows = tuple(isinstance(a, str) and a == "rows" for a in block.arguments)
        self.places = tuple(sum(self.follows[:i]) for i in range(len(self.follows)))
        self.fixed = tuple(None if follows else a for follows, a in zip(self.follows, block.arguments))
        self.inputs, self.outputs, self.single = sum(self.follows), block.outputs, block.single
        self.copies = block.copies

    def construct(self, *taps):
        given = ()
        for i in range(len(self.follows)):
            given += (taps[self.places[i]] if self.follows[i] else self.fixed[i],)
        output = self.cell(*given)
        if self.single:
            output = (output,)
        total = Tensor(0.0, ms.float32)
        for i in range(self.outputs):
            value = cast(output[i], ms.float32)
            gradient = taps[self.inputs + i]
            if self.copies is not None:
                value = reshape(value, gradient.shape)
            total = total + add_up(multiply(value, gradient), ())
        return total


class BlockGradients(nn.Cell):
    """Every unit's gradient of each of a block's Parameters, a tuple of float32 [units, size], from its taps."""

    def __init__(self, block, cell, taps, units):
        super().__init__(auto_prefix=False)
        self.splits = tuple((*shape[:axis], units, shape[axis] // units, *shape[axis + 1:]) for shape, axis in taps)
        self.copied = None if block.copies is None else tuple(block.copies)
        gradient = ops.grad(_Pairing(block, cell), None, tuple(block.parameters))
        axes = tuple(axis for _, axis in taps)
        if self.copied is not None:  # copies of one output: their gradients add up
            self.splits, axes = ((units, taps[0][0][0] // units, math.prod(block.copies)),), (0,)
        self.mapped = ops.vmap(gradient, in_axes=axes, out_axes=0)
        self.shapes = tuple((units, parameter.size) for parameter in block.parameters)
        self.units = units

    def construct(self, *taps):
        apart = ()
        for i in range(len(taps)):
            apart += (reshape(taps[i], self.splits[i]),)
        if self.copied is not None:
            apart = (reshape(add_up(apart[0], 1), (self.units, *self.copied)),)
        gradients = self.mapped(*apart)
        rows = ()
        for i in range(len(self.shapes)):
            rows += (cast(reshape(gradients[i], self.shapes[i]), ms.float32),)
        return rows


class DerivativeOfCell(UnitGradient):
    """Gradient of a Parameter that a `BlockGradients` has computed."""

    def construct(self, rows):
        return rows


class SumOfGradients(UnitGradient):
    """Gradient of a Parameter that is used in several places: the sum of theirs.

    Args:
        units (int): Units.
        shape (tuple): Shape of the Parameter.
        parts (tuple): The gradients of the places, each with `unit_rows(held)`.
        taps (tuple[tuple]): Which of the given taps each of them reads.
    """

    def __init__(self, units, shape, parts, taps):
        super().__init__(units, shape)
        self.parts, self.taps = tuple(parts), tuple(taps)

    def hold(self, *taps):
        total = None
        for part, reads in zip(self.parts, self.taps):
            given = ()
            for place in reads:
                given += (taps[place],)
            rows = reshape(part.unit_rows(part.hold(*given)), self.rows_shape)
            total = rows if total is None else total + rows
        return total
