"""Losses row by row: the values against the formula, and the engines against the loop."""
import mindspore as ms
import numpy as np
import pytest
from ghost_oracle import assert_exact
from mindspore import Tensor, nn, ops

from mindarmour.privacy.diff_privacy import clipped_gradient_fn
from mindarmour.privacy.diff_privacy.clipping.rules import FlatClipping
from mindarmour.privacy.diff_privacy.grads.choose import choose_engine
from mindarmour.privacy.diff_privacy.grads.class_loss import ClassLoss
from mindarmour.privacy.diff_privacy.grads.ghost.engine import GhostEngine
from mindarmour.privacy.diff_privacy.grads.ghost.row_losses import UnreducedLoss, per_row
from mindarmour.privacy.diff_privacy.grads.loop import LoopEngine
from mindarmour.privacy.diff_privacy.grads.vmap import VmapEngine
from mindarmour.privacy.diff_privacy.train.loss_scale import scaled
from mindarmour.privacy.errors import UnsupportedLayerError

ROWS, CLASSES = 4, 3
RNG = np.random.default_rng(0)
LOGITS, TARGETS = RNG.normal(size=(ROWS, CLASSES)).astype(np.float32), RNG.random((ROWS, CLASSES)).astype(np.float32)
WEIGHT, POSITIVE = np.array([1.0, 2.0, 0.5], np.float32), np.array([0.5, 3.0, 1.0], np.float32)
WEIGHTS = [{}, {"weight": WEIGHT}, {"pos_weight": POSITIVE}, {"weight": WEIGHT, "pos_weight": POSITIVE}]


@pytest.fixture(autouse=True)
def eager():
    ms.set_context(mode=ms.PYNATIVE_MODE)


def bce(reduction="mean", **weights):
    return nn.BCEWithLogitsLoss(reduction, **{name: Tensor(value) for name, value in weights.items()})


def network():
    return nn.SequentialCell(nn.Dense(4, 5), nn.Tanh(), nn.Dense(5, CLASSES))


def batch():
    return Tensor(np.random.default_rng(1).normal(size=(ROWS, 4)).astype(np.float32)), Tensor(TARGETS)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("weights", WEIGHTS, ids=lambda weights: "+".join(weights) or "plain")
def test_binary_cross_entropy_of_each_row(weights, reduction):
    probability = 1 / (1 + np.exp(-LOGITS.astype(np.float64)))
    values = -(weights.get("pos_weight", 1) * TARGETS * np.log(probability) + (1 - TARGETS) * np.log(1 - probability))
    expected = getattr(weights.get("weight", 1) * values, reduction)(axis=1)
    rows = per_row(bce(reduction, **weights), Tensor(LOGITS), Tensor(TARGETS))
    assert isinstance(rows, UnreducedLoss)
    np.testing.assert_allclose(rows(Tensor(LOGITS), Tensor(TARGETS)).asnumpy(), expected, rtol=1e-5)


@pytest.mark.parametrize("reduction, weights", [("sum", WEIGHTS[1]), ("mean", WEIGHTS[3])])
def test_binary_cross_entropy_in_the_ghost_engine(reduction, weights):
    assert_exact(network(), bce(reduction, **weights), batch(), 2, [1, 1, 0, 1], bound=0.1)


def test_binary_cross_entropy_in_graph_mode():
    ms.set_context(mode=ms.GRAPH_MODE)
    try:
        assert_exact(network(), bce(), batch(), 2, [1, 1, 0, 1], bound=0.1)
    finally:
        ms.set_context(mode=ms.PYNATIVE_MODE)


@pytest.mark.parametrize("weights", WEIGHTS[:2], ids=["plain", "weight"])
def test_binary_cross_entropy_in_the_vmap_engine(weights):
    """MindSpore's vmap rule of this loss does not take None for a weight."""
    model, loss_fn = network(), bce(**weights)
    arguments = (Tensor(0.1, ms.float32), Tensor(np.array([1, 1, 0, 1], np.float32)), *batch())
    mapped, plain = (kind(model, loss_fn, FlatClipping(), 2)(*arguments) for kind in (VmapEngine, LoopEngine))
    for a, b in zip(mapped[0], plain[0]):
        np.testing.assert_allclose(a.asnumpy(), b.asnumpy(), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(mapped[1].asnumpy(), plain[1].asnumpy(), rtol=1e-5)
    assert loss_fn.weight is None or "weight" in weights  # the user's loss stays as it is


def test_a_weight_for_each_example_of_a_batch_is_refused():
    loss_fn = bce(weight=RNG.random((ROWS, CLASSES)).astype(np.float32))
    with pytest.raises(UnsupportedLayerError, match="broadcast"):
        choose_engine("ghost", network(), loss_fn, FlatClipping(), 2, batch())


CLASS_WEIGHTS = Tensor(np.array([1.0, 2.0, 5.0], np.float32))
LABELS = np.array([0, 2, 1, 2], np.int32)


class Rows(nn.Cell):
    """What a loss says about each row alone."""

    def __init__(self, loss_fn):
        super().__init__()
        self.loss_fn = loss_fn

    def construct(self, output, label):
        rows = [self.loss_fn(output[i:i + 1], label[i:i + 1]).mean() for i in range(output.shape[0])]
        return ops.stack(rows)


@pytest.mark.parametrize("options", [{}, {"reduction": "sum"}, {"reduction": "none"}, {"label_smoothing": 0.1},
                                     {"weight": CLASS_WEIGHTS, "label_smoothing": 0.2},
                                     {"weight": CLASS_WEIGHTS, "ignore_index": 0}], ids="+".join)
@pytest.mark.parametrize("shape", [(), (2, 3)], ids=["labels", "images"])
def test_cross_entropy_of_each_row(shape, options):
    rng = np.random.default_rng(2)
    output = Tensor(rng.normal(size=(ROWS, CLASSES, *shape)).astype(np.float32))
    label = rng.integers(0, CLASSES, (ROWS, *shape)).astype(np.int32)
    label.reshape(ROWS, -1)[:, 0] = [1, 2, 1, 2]  # class 0 may be the ignored one
    label = Tensor(label)
    loss_fn = nn.CrossEntropyLoss(**options)
    rows = per_row(loss_fn, output, label)
    assert isinstance(rows, ClassLoss)
    expected = Rows(nn.CrossEntropyLoss(**options))(output, label).asnumpy()
    if "weight" in options:  # MindSpore's mean divides them out again
        values = nn.CrossEntropyLoss(**{**options, "reduction": "none"})(output, label).asnumpy().reshape(ROWS, -1)
        counted = label.asnumpy().reshape(ROWS, -1) != options.get("ignore_index", -100)
        expected = values.sum(axis=1) / counted.sum(axis=1)
    np.testing.assert_allclose(rows(output, label).asnumpy(), expected, rtol=1e-5)


@pytest.mark.parametrize("engine, kind, reduction", [
    *(("ghost", kind, "mean") for kind in (nn.CrossEntropyLoss, nn.NLLLoss, type("Own", (nn.CrossEntropyLoss,), {}))),
    ("ghost", nn.CrossEntropyLoss, "sum"), ("ghost", nn.CrossEntropyLoss, "none"),
    ("loop", nn.CrossEntropyLoss, "mean"), ("loop", nn.NLLLoss, "mean"), ("vmap", nn.CrossEntropyLoss, "mean")])
def test_a_heavy_class_pulls_harder_in_every_engine(engine, kind, reduction):
    def norms(loss_fn):
        ms.set_seed(1)
        return clipped_gradient_fn(network(), loss_fn, 1e6, engine=engine)(batch()[0], Tensor(LABELS)).norms

    ratio = norms(kind(CLASS_WEIGHTS, reduction=reduction)).asnumpy() / norms(kind(reduction=reduction)).asnumpy()
    np.testing.assert_allclose(ratio, CLASS_WEIGHTS.asnumpy()[LABELS], rtol=1e-4)


def test_a_loss_scale_leaves_class_weights_alone():
    def norms(loss_fn):
        ms.set_seed(1)
        _, loss_fn = scaled(None, loss_fn, "mean", 8.0)
        return clipped_gradient_fn(network(), loss_fn, 1e6, engine="loop")(batch()[0], Tensor(LABELS)).norms.asnumpy()

    ratio = norms(nn.CrossEntropyLoss(CLASS_WEIGHTS)) / norms(nn.CrossEntropyLoss())
    np.testing.assert_allclose(ratio, CLASS_WEIGHTS.asnumpy()[LABELS], rtol=1e-4)


def test_cross_entropy_of_probabilities():
    loss_fn = nn.CrossEntropyLoss(weight=CLASS_WEIGHTS, label_smoothing=0.1)
    rows = per_row(loss_fn, Tensor(LOGITS), Tensor(TARGETS))
    expected = Rows(loss_fn)(Tensor(LOGITS), Tensor(TARGETS)).asnumpy()
    np.testing.assert_allclose(rows(Tensor(LOGITS), Tensor(TARGETS)).asnumpy(), expected, rtol=1e-5)


def test_a_row_of_ignored_labels_counts_as_zero():
    rows = per_row(nn.CrossEntropyLoss(ignore_index=2), Tensor(LOGITS), Tensor(LABELS))
    assert np.array_equal(rows(Tensor(LOGITS), Tensor(LABELS)).asnumpy() > 0, LABELS != 2)


@pytest.mark.parametrize("loss_fn", [nn.CrossEntropyLoss(label_smoothing=0.1, ignore_index=0),
                                     nn.NLLLoss(CLASS_WEIGHTS)])
def test_losses_by_class_in_the_ghost_engine(loss_fn):
    columns = (batch()[0], Tensor(np.maximum(LABELS, 1)))
    engine, reason = choose_engine("auto", network(), loss_fn, FlatClipping(), 2, columns)
    assert isinstance(engine, GhostEngine), reason
    assert_exact(network(), loss_fn, columns, 2, [1, 1, 0, 1], bound=0.1)


@pytest.mark.parametrize("loss_fn", [nn.KLDivLoss(), nn.KLDivLoss("batchmean"), nn.KLDivLoss("sum"),
                                     nn.BCELoss(reduction="mean"), nn.BCELoss(reduction="sum")])
def test_losses_of_probabilities(loss_fn):
    rows = per_row(loss_fn, Tensor(TARGETS), Tensor(TARGETS[::-1].copy()))
    assert isinstance(rows, UnreducedLoss)
    arguments = Tensor(TARGETS), Tensor(TARGETS[::-1].copy())
    np.testing.assert_allclose(rows(*arguments).asnumpy(), Rows(loss_fn)(*arguments).asnumpy(), rtol=1e-5)


@pytest.mark.parametrize("loss_fn", [nn.KLDivLoss("batchmean"), nn.BCELoss(reduction="mean")])
def test_losses_of_probabilities_in_the_ghost_engine(loss_fn):
    model = nn.SequentialCell(nn.Dense(4, CLASSES), nn.Sigmoid())
    assert_exact(model, loss_fn, batch(), 2, [1, 1, 0, 1], bound=0.1)
