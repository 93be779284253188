"""Values go into Parameters of every type and shape, scalars too, and stay under the optimizer's hand."""
import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, Tensor

from mindarmour.utils.parameters import assign, values_of


@pytest.mark.parametrize("dtype", [ms.float32, ms.float16, ms.bfloat16, ms.int32], ids=str)
@pytest.mark.parametrize("shape", [(), (1,), (2, 3), (3, 1)], ids=str)
def test_values_come_out_as_they_went_in(dtype, shape):
    parameter = Parameter(Tensor(np.zeros(shape), dtype))
    values = np.arange(1, 1 + np.prod(shape, dtype=int), dtype=np.float32).reshape(shape)
    assign(parameter, values.T.copy().T if len(shape) > 1 else values)  # also in column order
    assert parameter.shape == shape and parameter.dtype == dtype
    np.testing.assert_array_equal(values_of(parameter), values)
    values_of(parameter)[...] = 7
    np.testing.assert_array_equal(values_of(parameter), values)


def test_values_beyond_the_range_become_its_end():
    parameter = Parameter(Tensor([0.0, 0.0], ms.float16))
    assign(parameter, np.array([1e9, -1e9]))
    assert values_of(parameter).tolist() == [65504.0, -65504.0]
