"""Read a layer's input and output gradient out of one backward pass, without touching the user's network.

A tap passes a tensor through and, in the backward pass, hands that tensor (or the gradient that arrives at it) back
as "the gradient" of a Parameter of zeros with the tensor's shape. Differentiating with respect to these Parameters
alone yields both, and MindSpore prunes the weight gradients that nobody asks for.

The user's network stays as it is: `copy_network` copies the structure (never the Parameters) and puts tapped layers
in the
places of the served ones.
"""

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn

from mindarmour.privacy.diff_privacy.operators import cast, zeros_like


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
    """Makes the taps of a network copy, in the order in which its layers ask for them.

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
    """A layer with taps around it. Attributes of the layer stay readable: `copy.dense.in_channels` works.

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








