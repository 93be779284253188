"""Reading and writing the Parameters of a model."""
from __future__ import annotations

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, ops


def values_of(parameter: Tensor) -> np.ndarray:
    """A copy as a NumPy array that NumPy can calculate with."""
    if parameter.dtype == ms.bfloat16:
        return parameter.astype(ms.float32).asnumpy().copy()
    return parameter.asnumpy().copy()


def assign(parameter: Parameter, values: np.ndarray) -> None:
    """Set the Parameter to the values, those beyond its type's range to the range's end.

    By assignment in place: after `set_data` MindSpore's optimizers go on updating the former tensor in PyNative mode,
    so that the parameter would stand still from then on.
    """
    if np.issubdtype(values.dtype, np.floating):
        largest = np.finfo(np.dtype("float16" if parameter.dtype == ms.float16 else "float32")).max
        values = np.clip(values, -largest, largest) if parameter.dtype != ms.float64 else values
    value = ms.Tensor(np.array(values, order="C"), parameter.dtype)  # ascontiguousarray makes a vector of a scalar
    if parameter.dtype == ms.bfloat16:  # no Assign on the CPU
        parameter.set_data(value)
    else:
        ops.assign(parameter, value)
