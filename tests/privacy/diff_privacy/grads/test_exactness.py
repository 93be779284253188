"""What the ghost engine refuses and why, and which engine 'auto' takes."""
import logging

import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, Tensor, nn, ops
from mindspore.common.api import _pynative_executor

from mindarmour.privacy.diff_privacy.clipping.rules import FlatClipping
from mindarmour.privacy.diff_privacy.grads.choose import choose_engine
from mindarmour.privacy.diff_privacy.grads.exactness import refuse_if_inexact
from mindarmour.privacy.diff_privacy.grads.ghost.engine import GhostEngine
from mindarmour.privacy.diff_privacy.grads.layers import LayerRule, UnitGradient, register_layer
from mindarmour.privacy.diff_privacy.grads.loop import LoopEngine
from mindarmour.privacy.diff_privacy.grads.vmap import VmapEngine
from mindarmour.privacy.errors import UnsupportedLayerError
from mindarmour.utils.logger import LogUtil

ROWS = 4


@pytest.fixture(autouse=True)
def eager():
    ms.set_context(mode=ms.PYNATIVE_MODE)


def loss():
    return nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean")


def batch(size=4):
    rng = np.random.default_rng(0)
    return Tensor(rng.normal(size=(ROWS, size)).astype(np.float32)), Tensor(rng.integers(0, 3, ROWS).astype(np.int32))


def choose(name, network, columns=None):
    return choose_engine(name, network, loss(), FlatClipping(), ROWS, columns or batch())


class TwoCalls(nn.Cell):
    def __init__(self):
        super().__init__()
        self.again, self.head = nn.Dense(4, 4), nn.Dense(4, 3)

    def construct(self, x):
        return self.head(self.again(ops.tanh(self.again(x))))


class MultipliesAfterDropout(nn.Cell):
    """A matrix product of the user's own, in a cell that draws random numbers."""

    def __init__(self):
        super().__init__()
        self.mixing = Parameter(Tensor(np.eye(4, dtype=np.float32)), name="mixing")
        self.head, self.drop = nn.Dense(4, 3), nn.Dropout(p=0.5)

    def construct(self, x):
        return self.head(ops.matmul(self.drop(x), self.mixing))


class BehindTheTaps(nn.Cell):
    """Reads a served layer's weight by itself as well."""

    def __init__(self):
        super().__init__()
        self.dense = nn.Dense(4, 3)

    def construct(self, x):
        return self.dense(x) + ops.matmul(ops.sin(x), self.dense.weight.T)


class MixesRows(nn.Cell):
    def __init__(self):
        super().__init__()
        self.dense = nn.Dense(4, 3)

    def construct(self, x):
        return self.dense(x - 3.0 * x.mean(axis=0))


class Random(nn.Cell):
    def __init__(self):
        super().__init__()
        self.dense = nn.Dense(4, 3)

    def construct(self, x):
        return self.dense(x + ops.standard_normal(x.shape))


REFUSED = [
    (TwoCalls, "again", "Dense", "called 2 times"),
    (MultipliesAfterDropout, "", "MultipliesAfterDropout", "mixing.*dropout in it"),
    (BehindTheTaps, "dense", "Dense", "differs from the plain loop"),
    (MixesRows, "dense", "Dense", "differs from the plain loop"),
    (Random, "", "Random", "random numbers"),
]


@pytest.mark.parametrize("build, name, kind, reason", REFUSED)
def test_ghost_refuses_with_cell_class_reason_and_cure(build, name, kind, reason):
    with pytest.raises(UnsupportedLayerError, match=reason) as caught:
        choose("ghost", build())
    assert (caught.value.cell_name, caught.value.cell_class) == (name, kind)
    assert "engine='auto'" in caught.value.fix


@pytest.mark.parametrize("build", [TwoCalls, MultipliesAfterDropout])
def test_auto_falls_back_to_vmap_and_says_why(build):
    engine, reason = choose("auto", build())
    assert isinstance(engine, VmapEngine)
    assert reason.startswith("vmap, because ghost cannot")


def test_auto_takes_ghost_and_logs_it_once():
    records = []
    handler = logging.Handler()
    handler.emit = records.append
    log = LogUtil.get_instance()
    log.add_handler(handler)
    log.set_level("INFO")
    try:
        engine, reason = choose("auto", nn.Dense(4, 3))
    finally:
        log.set_level("WARNING")
        log._logger.removeHandler(handler)
    assert isinstance(engine, GhostEngine) and "equal to the loop" in reason
    assert [record for record in records if "GhostEngine" in record.getMessage()] == records and len(records) == 1


@pytest.mark.parametrize("name, kind", [("vmap", VmapEngine), ("loop", LoopEngine), ("ghost", GhostEngine)])
def test_the_engine_asked_for(name, kind):
    engine, reason = choose(name, nn.Dense(4, 3))
    assert isinstance(engine, kind) and reason.startswith("asked for")


@pytest.mark.parametrize("name", ["fast", "", None, 3])
def test_unknown_engines(name):
    with pytest.raises((ValueError, TypeError), match="engine"):
        choose(name, nn.Dense(4, 3))


def test_ghost_needs_a_batch():
    with pytest.raises(ValueError, match="sample_columns"):
        choose_engine("ghost", nn.Dense(4, 3), loss(), FlatClipping(), ROWS)
    engine, _ = choose_engine("auto", nn.Dense(4, 3), loss(), FlatClipping(), ROWS)
    assert isinstance(engine, VmapEngine)


def test_dropout_does_not_stand_in_the_way():
    network = nn.SequentialCell(nn.Dense(4, 5), nn.Dropout(p=0.5), nn.Dense(5, 3))
    network.set_train()
    assert isinstance(choose("auto", network)[0], GhostEngine)


def test_the_mode_is_left_as_it_was(mode):
    before = ms.get_context("mode")
    refuse_if_inexact(nn.Dense(4, 3), loss(), batch())
    assert ms.get_context("mode") == before


def test_a_wrong_rule_is_found():
    class Doubling(nn.Dense):
        pass

    class Wrong(UnitGradient):
        def construct(self, x, dy):
            return ops.bmm(dy.expand_dims(2), x.expand_dims(1)) * 1.01

    @register_layer(Doubling)
    class WrongRule(LayerRule):
        parameter_names = ("weight",)

        @classmethod
        def gradient(cls, name, cell, shapes, units):
            return Wrong(units, cell.weight.shape)

    with pytest.raises(UnsupportedLayerError, match="differ from the plain loop"):
        refuse_if_inexact(Doubling(4, 3, has_bias=False), loss(), batch())


@pytest.mark.parametrize("kinds, rule", [((int,), LayerRule), ((nn.Dense,), int), (("Dense",), LayerRule)])
def test_register_layer_takes_cells_and_rules(kinds, rule):
    with pytest.raises(TypeError, match="register_layer"):
        register_layer(*kinds)(rule)


def test_a_gradient_that_failed_before_does_not_change_the_choice():
    layer = nn.Dense(3, 2)
    failing = ops.value_and_grad(lambda x: layer(x).missing, None, layer.trainable_params())
    ms.set_context(mode=ms.PYNATIVE_MODE)
    with pytest.raises(AttributeError):
        failing(ms.Tensor(np.ones((2, 3), np.float32)))
    assert _pynative_executor.grad_flag()
    assert isinstance(choose("auto", TwoCalls())[0], VmapEngine)
    assert not _pynative_executor.grad_flag()
