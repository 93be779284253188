"""replace_batch_norm keeps all but the statistics: names, order, values, dtype, what is trained, the input."""
import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn, ops

from mindarmour.privacy.diff_privacy import clipped_gradient_fn, replace_batch_norm
from mindarmour.privacy.errors import UnsupportedLayerError


@pytest.fixture(autouse=True)
def eager():
    ms.set_context(mode=ms.PYNATIVE_MODE)


class Block(nn.Cell):
    def __init__(self, channels):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(channels, channels, 3), nn.BatchNorm2d(channels)

    def construct(self, x):
        return self.bn(self.conv(x))


class Nested(nn.Cell):
    """Blocks as attributes, in a CellList, in a SequentialCell and in a plain list, and one layer used twice."""

    def __init__(self):
        super().__init__()
        self.a, self.b = Block(16), Block(16)
        self.listed = nn.CellList([Block(16), nn.BatchNorm2d(16)])
        self.sequence = nn.SequentialCell(Block(16), nn.SequentialCell(nn.BatchNorm2d(16), nn.ReLU()))
        self.twice = nn.BatchNorm2d(16)
        self.again = self.twice
        self.plain = [self.b.bn]

    def construct(self, x):
        x = self.b(self.a(x))
        for cell in self.listed:
            x = cell(x)
        return self.plain[0](self.again(self.twice(self.sequence(x))))


def randomised(network):
    for i, parameter in enumerate(network.get_parameters()):
        value = np.random.default_rng(i).uniform(0.5, 1.5, parameter.shape)
        parameter.set_data(Tensor(value, parameter.dtype))
    return network


def facts(network):
    return [(p.name, p.shape, p.dtype, p.requires_grad, p.asnumpy().tobytes()) for p in network.get_parameters()
            if "moving" not in p.name and "mean" not in p.name and "variance" not in p.name]


def test_nested_networks_keep_names_order_values_and_flags():
    network = randomised(Nested())
    network.a.bn.gamma.requires_grad = False
    before = facts(network)
    assert replace_batch_norm(network) is network
    assert facts(network) == before
    assert not any("BatchNorm" in type(cell).__name__ for _, cell in network.cells_and_names())
    assert network.twice is network.again and network.plain[0] is network.b.bn
    assert network(Tensor(np.ones((2, 16, 4, 4), np.float32))).shape == (2, 16, 4, 4)
    nn.Momentum(network.trainable_params(), 0.1, 0.9)  # refuses names that collide


def test_a_checkpoint_with_batch_norm_gives_its_affine_parts(tmp_path):
    old = randomised(Nested())
    ms.save_checkpoint(old, str(tmp_path / "old.ckpt"))
    new = replace_batch_norm(Nested())
    missing, unused = ms.load_param_into_net(new, ms.load_checkpoint(str(tmp_path / "old.ckpt")))
    assert not missing and all("moving" in name or "mean" in name or "variance" in name for name in unused)
    assert facts(new) == facts(old)


@pytest.mark.parametrize("dtype", [ms.float16, ms.float32])
def test_dtype_is_kept(dtype):
    new = replace_batch_norm(nn.BatchNorm2d(32, dtype=dtype))
    assert new.gamma.dtype == new.beta.dtype == dtype


@pytest.mark.parametrize("channels, most, groups", [(1, 32, 1), (6, 32, 1), (16, 32, 1), (64, 32, 4), (48, 2, 2),
                                                    (2048, 32, 32), (37, 32, 1)])
def test_number_of_groups(channels, most, groups):
    assert replace_batch_norm(nn.BatchNorm2d(channels), most).num_groups == groups


@pytest.mark.parametrize("norm, shape", [(nn.BatchNorm1d(16), (10, 16)), (nn.BatchNorm1d(64), (10, 64)),
                                         (nn.BatchNorm1d(4), (10, 4)), (nn.BatchNorm2d(16), (10, 16, 1, 1)),
                                         (nn.BatchNorm2d(64), (10, 64, 1, 1)), (nn.BatchNorm3d(16), (10, 16, 1, 2, 1))])
def test_the_output_still_depends_on_the_input(norm, shape):
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    out = replace_batch_norm(norm)(Tensor(x)).asnumpy().reshape(10, -1)
    assert len(np.unique(np.round(out, 2))) > 20


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_vectors_of_which_nothing_would_be_left_are_refused(channels):
    network = nn.SequentialCell(nn.Dense(8, channels), nn.BatchNorm1d(channels))
    with pytest.raises(ValueError, match="at least 4 channels"):
        replace_batch_norm(network)


class Norm(nn.BatchNorm2d):
    """A subclass whose name does not tell what it is."""


class Home(nn.Cell):
    """Looks like a batch normalisation by its name only."""

    def __init__(self):
        super().__init__()
        self.inner = nn.BatchNorm2d(16)

    def construct(self, x):
        return ops.relu(self.inner(x))


BatchNormAct = type("BatchNormAct", (Home,), {})


@pytest.mark.parametrize("make", [lambda: Norm(16), lambda: nn.BatchNorm3d(16), BatchNormAct,
                                  lambda: nn.BatchNorm2d(16)])
def test_every_descendant_is_refused_and_replaced(make):
    network = nn.SequentialCell(make(), nn.Flatten())
    with pytest.raises(UnsupportedLayerError, match="replace_batch_norm"):
        clipped_gradient_fn(network, None, 1.0)
    clipped_gradient_fn(replace_batch_norm(network), None, 1.0)


@pytest.mark.parametrize("kind", [nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d])
def test_frozen_statistics_are_left_alone(kind):
    network = nn.SequentialCell(kind(16, use_batch_statistics=False))
    layer = network[0]
    clipped_gradient_fn(replace_batch_norm(network), None, 1.0)
    assert network[0] is layer
