"""Parameters that a cell of the user's own uses by itself: a scale, a bias, a class token, position embeddings.

No layer is there to tap. But where the Parameter meets the batch by broadcasting, it may as well have a batch axis of
its own: the copy reads a copy of shape [B, 1, ..., *shape] that holds the same values in every row, and the gradient
of that copy is the gradient of every row.
"""
from dataclasses import dataclass

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from mindarmour.privacy.diff_privacy.grads.layers.registry import UnitGradient
from mindarmour.privacy.diff_privacy.grads.network_copy import hide_parameter
from mindarmour.privacy.diff_privacy.operators import add_up, reshape

_MAX_INNER_AXES = 3


@dataclass(frozen=True)
class RawParameter:
    """A trainable Parameter in no served layer.

    Args:
        cell_name (str): Name of the cell that holds it.
        attribute (str): Its attribute there.
        parameter (Parameter): The Parameter.
        row_shape (tuple): Shape of one row of the copy, without the batch axis; None until it is known.
    """

    cell_name: str
    attribute: str
    parameter: Parameter
    row_shape: tuple = None

    def candidates(self):
        """Row shapes under which the copy may broadcast like the Parameter."""
        shape = tuple(self.parameter.shape)
        if len(shape) > 1 and shape[0] == 1:
            yield shape[1:]
        for axes in range(_MAX_INNER_AXES + 1):
            yield (1,) * axes + shape

    def expanded(self, rows):
        """A Parameter that holds the values once per row."""
        values = self.parameter.asnumpy().astype(np.float32).reshape(self.row_shape)
        copied = np.ascontiguousarray(np.broadcast_to(values, (rows, *self.row_shape)))
        return Parameter(Tensor(copied), name=f"ghost_rows.{self.cell_name}.{self.attribute}")


def put_rows(raw, rows):
    """(`adjust` for `copy_network` that puts copies in the places of Parameters, the copies)."""
    copies = {(item.cell_name, item.attribute): item.expanded(rows) for item in raw}

    def adjust(name, cell):
        for (owner, attribute), copied in copies.items():
            if owner == name:
                hide_parameter(cell, attribute, copied)

    return adjust, tuple(copies.values())


class Refresh(nn.Cell):
    """Copy the Parameters' present values into their row copies; call it before the forward pass."""

    def __init__(self, raw, copies):
        super().__init__(auto_prefix=False)
        self.steps = nn.CellList([_RefreshOne(item, copied) for item, copied in zip(raw, copies)], auto_prefix=False)

    def construct(self, x):
        for step in self.steps:
            x = ops.depend(x, step())
        return x


class _RefreshOne(nn.Cell):
    def __init__(self, item, copied):
        super().__init__(auto_prefix=False)
        object.__setattr__(self, "source", item.parameter)
        object.__setattr__(self, "copied", copied)
        self.row_shape, self.shape = (1, *item.row_shape), tuple(copied.shape)

    def construct(self):
        values = ops.cast(self.source, ms.float32)
        return ops.assign(self.copied, ops.broadcast_to(reshape(values, self.row_shape), self.shape))


class RowsGradient(UnitGradient):
    """Gradient of a raw Parameter from the gradient of its row copy."""

    def __init__(self, units, shape, rows):
        super().__init__(units, shape)
        self.split = (units, rows // units, self.rows_shape[1])

    def construct(self, rows):
        return add_up(reshape(rows, self.split), 1)
