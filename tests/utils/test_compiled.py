"""A gradient that failed somewhere does not reach the compiled steps that come after it."""
import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn, ops
from mindspore.common.api import _pynative_executor

from mindarmour.privacy.diff_privacy import clipped_gradient_fn


@pytest.fixture
def failed_gradient():
    """MindSpore in PyNative mode after an exception inside of a gradient."""
    layer = nn.Dense(3, 2)

    def fails(x):
        layer(x)
        raise ValueError("out of a gradient")

    ms.set_context(mode=ms.PYNATIVE_MODE)
    with pytest.raises(ValueError, match="out of a gradient"):
        ops.value_and_grad(fails, None, layer.trainable_params())(Tensor(np.ones((2, 3), np.float32)))
    yield
    _pynative_executor.clear_res()


def test_compiled_steps_are_not_differentiated(failed_gradient):
    # max pooling has no second derivative on a CPU: a gradient of the step could not be compiled
    network = nn.SequentialCell(nn.Conv2d(1, 2, 3), nn.MaxPool2d(2, 2), nn.Flatten(), nn.Dense(8, 3))
    columns = Tensor(np.ones((4, 1, 4, 4), np.float32)), Tensor(np.zeros(4, np.int32))
    clipped = clipped_gradient_fn(network, nn.SoftmaxCrossEntropyWithLogits(True, "mean"), engine="vmap")
    assert 0 < np.sqrt(sum((total.asnumpy() ** 2).sum() for total in clipped(*columns).total)) <= 4 * (1 + 1e-5)
