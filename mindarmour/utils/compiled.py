"""A Cell that is one compiled graph in both of MindSpore's modes."""
from __future__ import annotations

from typing import Any

from mindspore import nn

from mindarmour.utils.mindspore_internals import no_gradient


class Compiled(nn.Cell):
    """Base of Cells whose `construct` carries `ms.jit`, since PyNative mode would run them operator by operator.

    Where an exception once left the inside of a gradient, MindSpore 2.10 goes on in PyNative mode as if that gradient
    were still being taken. It then compiles the gradient of every jitted function along, which is slow, or fails
    where an operator has no second derivative. Nobody differentiates these Cells, so they say so.
    """

    def __call__(self, *inputs: Any) -> Any:
        with no_gradient():
            return super().__call__(*inputs)
