"""Instance normalisation: why it is refused, and that what replaces it computes the same and is served exactly."""
import mindspore as ms
import numpy as np
import pytest
from ghost_oracle import assert_layer_exact
from mindspore import Tensor, nn

from mindarmour.privacy.diff_privacy import clipped_gradient_fn, replace_batch_norm
from mindarmour.privacy.errors import UnsupportedLayerError

KINDS = [(nn.InstanceNorm1d, (6, 3, 5)), (nn.InstanceNorm2d, (6, 3, 4, 2)), (nn.InstanceNorm3d, (6, 3, 2, 2, 3))]


@pytest.fixture(autouse=True)
def eager():
    ms.set_context(mode=ms.PYNATIVE_MODE)


def normal(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("engine", ["auto", "ghost", "vmap", "loop"])
def test_moving_statistics_are_refused(engine):
    network = nn.SequentialCell(nn.Conv2d(1, 3, 3), nn.InstanceNorm2d(3))
    with pytest.raises(UnsupportedLayerError, match="moving statistics.*GroupNorm") as caught:
        clipped_gradient_fn(network, None, norm_bound=1.0, engine=engine)
    assert (caught.value.cell_name, caught.value.cell_class) == ("1", "InstanceNorm2d")


@pytest.mark.parametrize("kind, shape", KINDS, ids=lambda value: getattr(value, "__name__", None))
def test_the_replacement_is_the_same_function_and_served_exactly(kind, shape):
    gamma, beta = normal(3), normal(3) + 1
    network = nn.SequentialCell(kind(3, eps=1e-3, gamma_init=Tensor(gamma), beta_init=Tensor(beta)))
    names = [parameter.name for parameter in network.trainable_params()]
    replace_batch_norm(network)
    assert [parameter.name for parameter in network.get_parameters()] == names
    x, axes = normal(*shape), tuple(range(2, len(shape)))
    over = (slice(None), *(None for _ in axes))
    expected = (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + 1e-3)
    np.testing.assert_allclose(network(Tensor(x)).asnumpy(), expected * gamma[over] + beta[over], rtol=1e-4, atol=1e-5)
    assert_layer_exact(network, x, 3, [1, 1, 0, 1, 1, 1])


def test_what_is_not_trained_stays_so():
    new = replace_batch_norm(nn.InstanceNorm1d(2, affine=False))
    assert isinstance(new, nn.GroupNorm) and new.num_groups == 2 and not new.trainable_params()
