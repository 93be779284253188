"""Engines: vmap equals the loop, the loop equals plain autograd, neighbours stay within the sensitivity."""
import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn, ops
from small_networks import BUILDERS, CLASSES, batch_for, flat

from mindarmour.privacy.accounting.events import REPLACE_ONE, ZERO_OUT
from mindarmour.privacy.diff_privacy import clipped_gradient_fn
from mindarmour.privacy.diff_privacy.clipping.rules import FlatClipping
from mindarmour.privacy.diff_privacy.grads.protocol import loss_reduction

ROWS = 6
MASK = np.array([1, 0, 1, 1, 1, 1], np.float32)


def loss_of(reduction="mean"):
    return nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction=reduction)


def clipped(network, kind, engine, *, reduction="mean", units=None, bound=0.2, mask=MASK, seed=0):
    fn = clipped_gradient_fn(network, loss_of(reduction), norm_bound=bound, micro_batches=units, engine=engine)
    return fn(*batch_for(kind, ROWS, seed), is_real=mask)


def assert_equal(result, oracle):
    a, b = flat(result.total), flat(oracle.total)
    assert np.linalg.norm(a - b) <= 1e-5 * np.linalg.norm(b)
    np.testing.assert_allclose(result.norms.asnumpy(), oracle.norms.asnumpy(), rtol=1e-5, atol=1e-7)
    assert float(result.loss) == pytest.approx(float(oracle.loss), rel=1e-5)
    assert float(result.dropped) == float(oracle.dropped)


@pytest.mark.parametrize("kind, reduction, units", [
    ("dense", "mean", None), ("dense", "sum", 2), ("dense", "none", 3),
    ("conv", "mean", 2), ("conv", "none", None), ("text", "mean", 3), ("text", "sum", None)])
def test_vmap_equals_the_loop_in_graph_mode(kind, reduction, units):
    ms.set_context(mode=ms.GRAPH_MODE)
    network = BUILDERS[kind]()
    result, oracle = (clipped(network, kind, engine, reduction=reduction, units=units) for engine in ("vmap", "loop"))
    assert_equal(result, oracle)


@pytest.mark.parametrize("kind, reduction, units", [("conv", "mean", 2), ("text", "none", None)])
def test_vmap_equals_the_loop_in_pynative_mode(kind, reduction, units):
    ms.set_context(mode=ms.PYNATIVE_MODE)
    network = BUILDERS[kind]()
    result, oracle = (clipped(network, kind, engine, reduction=reduction, units=units) for engine in ("vmap", "loop"))
    assert_equal(result, oracle)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_loop_equals_plain_autograd_of_each_unit(reduction, mode):
    network = BUILDERS["dense"]()
    images, labels = batch_for("dense", ROWS)
    bound, units = 0.2, 3
    expected, norms = 0, []
    gradient = ops.grad(nn.WithLossCell(network, loss_of(reduction)), None, tuple(network.trainable_params()))
    for unit in range(units):
        rows = slice(2 * unit, 2 * unit + 2)
        g = np.concatenate([t.asnumpy().ravel() for t in gradient(images[rows], labels[rows])])
        norms.append(np.linalg.norm(g))
        expected = expected + g * min(1, bound / norms[-1])
    result = clipped(network, "dense", "loop", reduction=reduction, units=units, bound=bound, mask=None)
    np.testing.assert_allclose(flat(result.total), expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(result.norms.asnumpy(), norms, rtol=1e-5)


@pytest.mark.parametrize("units, relation", [(None, ZERO_OUT), (2, ZERO_OUT)])
def test_neighbours_stay_within_the_stated_sensitivity(units, relation):
    network, bound = BUILDERS["dense"](), 0.1
    fn = clipped_gradient_fn(network, loss_of(), norm_bound=bound, micro_batches=units, engine="vmap")
    limit = bound * FlatClipping.sensitivity(ROWS // (units or ROWS), relation)
    distances = []
    for seed in range(10):
        columns = batch_for("dense", ROWS, seed)
        whole = flat(fn(*columns).total)
        for absent in range(ROWS):
            mask = (np.arange(ROWS) != absent).astype(np.float32)
            distances.append(np.linalg.norm(whole - flat(fn(*columns, is_real=mask).total)))
    assert max(distances) <= limit * (1 + 1e-5)
    assert max(distances) > limit * (0.99 if units is None else 0.25), "the stated sensitivity is not this loose"


def test_two_examples_in_a_unit_need_twice_the_bound():
    """One strong example that vanishes turns the unit's clipped mean around: the distance reaches 2 C."""
    network = nn.Dense(1, 1, weight_init="zeros", has_bias=False)
    fn = clipped_gradient_fn(network, nn.MSELoss(), norm_bound=1.0, micro_batches=1, engine="vmap")
    inputs, labels = Tensor([[1.0], [1.0]], ms.float32), Tensor([[100.0], [-50.0]], ms.float32)
    both = flat(fn(inputs, labels).total)
    one = flat(fn(inputs, labels, is_real=np.array([0, 1], np.float32)).total)
    assert abs(both - one) == pytest.approx(2.0, rel=1e-5)
    assert FlatClipping.sensitivity(2, ZERO_OUT) == 2.0
    assert FlatClipping.sensitivity(1, REPLACE_ONE) == 2.0


@pytest.mark.parametrize("engine", ["vmap", "loop"])
def test_a_bad_unit_contributes_zero_and_is_counted(engine):
    network = BUILDERS["dense"]()
    images, labels = batch_for("dense", ROWS)
    spoiled = images.asnumpy().copy()
    spoiled[2, 0] = np.nan
    fn = clipped_gradient_fn(network, loss_of(), norm_bound=0.2, engine=engine)
    result = fn(Tensor(spoiled), labels)
    clean = fn(images, labels, is_real=(np.arange(ROWS) != 2).astype(np.float32))
    np.testing.assert_allclose(flat(result.total), flat(clean.total), rtol=1e-5, atol=1e-7)
    assert float(result.dropped) == 1 and float(clean.dropped) == 0


@pytest.mark.parametrize("engine", ["vmap", "loop"])
def test_nan_in_padding_does_no_harm(engine):
    network = BUILDERS["dense"]()
    images, labels = batch_for("dense", ROWS)
    padded = images.asnumpy().copy()
    padded[1] = np.nan
    fn = clipped_gradient_fn(network, loss_of(), norm_bound=0.2, micro_batches=3, engine=engine)
    assert_equal(fn(Tensor(padded), labels, is_real=MASK), fn(images, labels, is_real=MASK))


def test_empty_batch_gives_zero():
    result = clipped(BUILDERS["dense"](), "dense", "vmap", mask=np.zeros(ROWS, np.float32))
    assert not flat(result.total).any() and not result.norms.asnumpy().any() and float(result.loss) == 0


def test_network_that_returns_its_loss_and_takes_several_inputs():
    class TwoInputs(nn.Cell):
        def __init__(self):
            super().__init__()
            self.dense = nn.Dense(6, 1)

        def construct(self, x, weight, target):
            return ops.square(self.dense(x)[:, 0] * weight - target).mean()

    network = TwoInputs()
    rng = np.random.default_rng(1)
    columns = [Tensor(rng.normal(size=shape).astype(np.float32)) for shape in ((ROWS, 6), (ROWS,), (ROWS,))]
    results = [clipped_gradient_fn(network, None, norm_bound=0.3, engine=engine)(*columns, is_real=MASK)
               for engine in ("vmap", "loop")]
    assert_equal(*results)


def test_tied_parameters_and_frozen_parameters():
    class Tied(nn.Cell):
        def __init__(self):
            super().__init__()
            self.dense = nn.Dense(6, 6)
            self.head = nn.Dense(6, CLASSES)
            self.head.bias.requires_grad = False

        def construct(self, x):
            return self.head(self.dense(self.dense(x).tanh()))

    network = Tied()
    results = [clipped(network, "dense", engine) for engine in ("vmap", "loop")]
    assert [t.shape for t in results[0].total] == [(6, 6), (6,), (3, 6)]
    assert_equal(*results)


@pytest.mark.parametrize("loss, expected", [
    (nn.SoftmaxCrossEntropyWithLogits(reduction="sum"), "sum"), (nn.MSELoss(), "mean"), (nn.MSELoss("sum"), "sum"),
    (nn.L1Loss("none"), "none"), (nn.CrossEntropyLoss(reduction="sum"), "sum"), (None, "mean")])
def test_reduction_is_read_from_the_loss(loss, expected):
    assert loss_reduction(loss) == expected


@pytest.mark.parametrize("name, value, error", [
    ("norm_bound", 0.0, ValueError), ("norm_bound", float("nan"), ValueError), ("norm_bound", "1", TypeError),
    ("norm_bound", float("inf"), ValueError), ("micro_batches", 0, ValueError), ("micro_batches", 1.0, TypeError),
    ("network", None, TypeError), ("loss_fn", "mse", TypeError)])
def test_bad_arguments_are_refused(name, value, error):
    arguments = {"network": BUILDERS["dense"](), "loss_fn": loss_of(), name: value}
    with pytest.raises(error, match=name):
        clipped_gradient_fn(**arguments)


def test_unknown_engine_and_uneven_units_are_refused():
    with pytest.raises(ValueError, match="engine"):
        clipped(BUILDERS["dense"](), "dense", "fast")
    with pytest.raises(ValueError, match="micro_batches"):
        clipped(BUILDERS["dense"](), "dense", "vmap", units=4)
