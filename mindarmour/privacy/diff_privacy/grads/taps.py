"""Read a layer's input and output gradient out of one backward pass, without touching the user's network.

A tap passes a tensor through and, in the backward pass, hands that tensor (or the gradient that arrives at it) back
as "the gradient" of a Parameter of zeros with the tensor's shape. Differentiating with respect to these Parameters
alone yields both, and MindSpore prunes the weight gradients that nobody asks for.

The user's network stays as it is: `twin` copies the structure (never the Parameters) and puts tapped layers in the
places of the served ones.
"""
import types
from collections import OrderedDict

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn
from mindspore._c_expression import Cell_

from mindarmour.privacy.diff_privacy.primitives import cast, zeros_like


class _PassInput(nn.Cell):
    def construct(self, x, tap):
        return x

    def bprop(self, x, tap, out, dout):
        return dout, cast(x, ms.float32)


class _PassOutput(nn.Cell):
    def construct(self, y, tap):
        return y

    def bprop(self, y, tap, out, dout):
        return dout, cast(dout, ms.float32)


class _PassIndices(nn.Cell):
    def construct(self, y, indices, tap):
        return y

    def bprop(self, y, indices, tap, out, dout):
        return dout, zeros_like(indices), cast(indices, ms.float32)


# one of each for all taps: MindSpore parses every instance of a Cell anew
_PASS_INPUT, _PASS_OUTPUT, _PASS_INDICES = _PassInput(), _PassOutput(), _PassIndices()


class _Tap(nn.Cell):
    """Holds its Parameter outside of the table of Parameters: no checkpoint, optimizer or user gets to see it."""

    def __init__(self, tap, through):
        super().__init__(auto_prefix=False)
        object.__setattr__(self, "tap", tap)
        self.through = through


class ValueTap(_Tap):
    """Return `x`; the tap's gradient is `x`."""

    def __init__(self, tap):
        super().__init__(tap, _PASS_INPUT)

    def construct(self, x):
        return self.through(x, self.tap)


class GradientTap(_Tap):
    """Return `y`; the tap's gradient is the gradient at `y`."""

    def __init__(self, tap):
        super().__init__(tap, _PASS_OUTPUT)

    def construct(self, y):
        return self.through(y, self.tap)


class IndexTap(_Tap):
    """Return `y`; the tap's gradient is the integer tensor `indices` as float32 (exact below 2**24)."""

    def __init__(self, tap):
        super().__init__(tap, _PASS_INDICES)

    def construct(self, y, indices):
        return self.through(y, indices, self.tap)


class TapMaker:
    """Makes the taps of a twin, in the order in which its layers ask for them.

    Args:
        shapes (Iterable[tuple]): Shape of each tap, in that order.
    """

    def __init__(self, shapes):
        self._shapes = iter(shapes)
        self.parameters = []
        self.gradients = []  # places of the taps that read gradients

    def _parameter(self):
        name, zeros = f"ghost_tap.{len(self.parameters)}", Tensor.from_numpy(np.zeros(next(self._shapes), np.float32))
        if ms.get_context("mode") == ms.PYNATIVE_MODE:
            tap = Parameter(zeros, name=name)
        else:  # handed over instead of copied, and never written: the operating system need not provide these pages
            tap = Parameter(Tensor(np.zeros(1, np.float32)), name=name)
            tap.set_data(zeros, slice_shape=True)
        self.parameters.append(tap)
        return tap

    def value(self):
        """A tap on a tensor."""
        return ValueTap(self._parameter())

    def gradient(self):
        """A tap on the gradient at a tensor."""
        self.gradients.append(len(self.parameters))
        return GradientTap(self._parameter())

    def indices(self):
        """A tap on integer indices."""
        return IndexTap(self._parameter())


class _Recorder(nn.Cell):
    """Stands where a tap will be and notes the shapes that pass; for eager runs only."""

    def __init__(self, of_second):
        super().__init__(auto_prefix=False)
        self.calls = []
        self._of_second = of_second

    def construct(self, *tensors):
        self.calls.append(tuple(tensors[-1 if self._of_second else 0].shape))
        return tensors[0]


class RecorderMaker:
    """Makes recorders instead of taps."""

    def __init__(self):
        self.recorders = []

    def _recorder(self, of_second=False):
        self.recorders.append(_Recorder(of_second))
        return self.recorders[-1]

    def value(self):
        """A recorder where a `ValueTap` will be."""
        return self._recorder()

    def gradient(self):
        """A recorder where a `GradientTap` will be."""
        return self._recorder()

    def indices(self):
        """A recorder where an `IndexTap` will be."""
        return self._recorder(of_second=True)


class TappedCell(nn.Cell):
    """A layer with taps around it. Attributes of the layer stay readable: `twin.dense.in_channels` works.

    Args:
        inner (Cell): The layer, which keeps its Parameters.
    """

    def __init__(self, inner):
        super().__init__(auto_prefix=False)
        self.inner = inner

    def __getattr__(self, name):
        try:
            return super().__getattr__(name)
        except AttributeError:
            inner = self.__dict__.get("_cells", {}).get("inner")
            if inner is None:
                raise
            return getattr(inner, name)


class InputAndOutput(TappedCell):
    """A layer of one input and one output, read at both ends."""

    def __init__(self, inner, make):
        super().__init__(inner)
        self.input_tap = make.value()
        self.output_tap = make.gradient()

    def construct(self, x):
        return self.output_tap(self.inner(self.input_tap(x)))


class OutputOnly(TappedCell):
    """A layer whose gradient needs the output's gradient alone, as a bias does."""

    def __init__(self, inner, make):
        super().__init__(inner)
        self.output_tap = make.gradient()

    def construct(self, x):
        return self.output_tap(self.inner(x))


def shell(cell):
    """A copy of one cell that shares everything with it except its tables of children and its compiled graphs."""
    copied = cell.__class__.__new__(cell.__class__)
    Cell_.__setstate__(copied, Cell_.__getstate__(cell))
    copied.__dict__ = dict(cell.__dict__)
    copied.__dict__.update(_cells=OrderedDict(cell._cells), _params=OrderedDict(cell._params),
                           _compile_cache=None, _phase_cache=None)
    return copied


def set_aside(cell, attribute, parameter):
    """Let a copied cell read `parameter` as its `attribute`, outside of its table of Parameters."""
    cell._params.pop(attribute, None)
    object.__setattr__(cell, attribute, parameter)


def twin(network, replace, adjust=None):
    """A copy of the network's structure that shares its Parameters.

    Args:
        network (Cell): The network.
        replace (Callable): `replace(name, cell)` returns the cell to put in the place of `cell`, or None to
            descend into it.
        adjust (Callable, optional): `adjust(name, copied)` is called with every cell that was copied.

    Returns:
        Cell. A cell that the network reaches by two ways stays one cell.
    """
    return _Twin(replace, adjust).of(network, "")


class _Twin:
    def __init__(self, replace, adjust):
        self._replace = replace
        self._adjust = adjust
        self._made = {}

    def of(self, cell, name):
        if id(cell) not in self._made:
            replaced = self._replace(name, cell)
            self._made[id(cell)] = shell(cell) if replaced is None else replaced
            if replaced is None:
                self._fill(self._made[id(cell)], name)
                if self._adjust is not None:
                    self._adjust(name, self._made[id(cell)])
        return self._made[id(cell)]

    def _fill(self, copied, name):
        prefix = f"{name}." if name else ""
        for key, child in copied._cells.items():
            if child is not None:
                copied._cells[key] = self.of(child, prefix + key)
        for key, value in copied.__dict__.items():
            if key not in ("_cells", "_params"):
                copied.__dict__[key] = self._mapped(value, prefix + key)

    def _mapped(self, value, name):
        """Cells inside plain containers, and methods bound to cells, follow the copy."""
        if isinstance(value, nn.Cell):
            return self.of(value, name)
        if type(value) in (list, tuple):
            return type(value)(self._mapped(item, f"{name}.{i}") for i, item in enumerate(value))
        if type(value) is dict:
            return {key: self._mapped(item, f"{name}.{key}") for key, item in value.items()}
        if isinstance(value, types.MethodType) and id(value.__self__) in self._made:
            return types.MethodType(value.__func__, self._made[id(value.__self__)])
        return value
