"""Rows that reach each other are found, of whatever sort, at every place of the batch, and wherever its holes fall."""
from dataclasses import replace

import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, Tensor, nn, ops
from small_models import model_of

from mindarmour.privacy.accounting.events import ZERO_OUT, Sampling
from mindarmour.privacy.diff_privacy import clipped_gradient_fn
from mindarmour.privacy.diff_privacy.clipping.rules import FlatClipping
from mindarmour.privacy.diff_privacy.grads.choose import NO_REAL_ROW, choose_engine
from mindarmour.privacy.diff_privacy.grads.exactness import refuse_if_inexact
from mindarmour.privacy.diff_privacy.grads.ghost.engine import GhostEngine
from mindarmour.privacy.diff_privacy.grads.independence import row_marks, row_sizes
from mindarmour.privacy.errors import UnsupportedLayerError

ROWS = 8
RNG = np.random.default_rng(0)
X = RNG.normal(size=(ROWS, 4)).astype(np.float32)
Y = RNG.integers(0, 3, ROWS).astype(np.int32)


@pytest.fixture(autouse=True)
def eager():
    ms.set_context(mode=ms.PYNATIVE_MODE)


def loss():
    return nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean")


class Mixing(nn.Cell):
    """A ReLU network with something between its layers, which may look at the whole batch."""

    def __init__(self, mix):
        super().__init__()
        self.first, self.middle, self.head = nn.Dense(4, 5), nn.Dense(5, 5), nn.Dense(5, 3)
        self.mix = mix

    def construct(self, x):
        x = self.mix(ops.relu(self.first(x)))
        return self.head(ops.tanh(self.middle(x)))


def mean(x):
    return x - x.mean(axis=0, keep_dims=True)


def largest(x):
    return x - 0.001 * x.max(axis=0)


def least(x):
    return x - 0.001 * (x - 1.0).min(axis=0)


def ordered(x):
    return ops.sort(x, axis=0)[0]


def running_sum(x):
    return x + 0.001 * ops.cumsum(x, 0)


def reversed_rows(x):
    return ops.flip(x, (0,))


def neighbour(x):
    return ops.concat((x[1:], x[:1]))


def only_later_rows(x):
    return x if x.shape[0] <= 4 else ops.concat((x[:4], x[4:] - x[4:].mean(axis=0, keep_dims=True)))


def last_row_reads_the_first(x):
    return x if x.shape[0] < ROWS else ops.concat((x[:-1], x[-1:] + 0.001 * x[:1]))


def only_when_rows_differ(x):
    same = ops.abs(x - x[:1]).sum() == 0
    return ops.select(ops.broadcast_to(same, x.shape), x, mean(x))


def tiny(x):
    return x + 1e-6 * x.mean(axis=0)


def behind_a_closed_gate(x):
    return x + 0.0 * x.mean(axis=0)


def row_of_the_largest(x):
    return x + 0.001 * x[x[:, 0].argmax()]


class MixingDropout(nn.Dropout):
    """Mixes rows in training mode, on top of dropping."""

    def construct(self, x):
        return super().construct(mean(x) if self.training else x)


MIXTURES = [mean, largest, least, ordered, running_sum, reversed_rows, neighbour, only_later_rows,
            last_row_reads_the_first, only_when_rows_differ, tiny, behind_a_closed_gate, row_of_the_largest,
            MixingDropout(p=0.1)]


@pytest.mark.parametrize("mix", MIXTURES)
def test_mixing_of_every_sort_is_found(mix):
    ms.set_seed(1)
    with pytest.raises(UnsupportedLayerError, match="depend on|differs? from the plain loop|cannot be run|random"):
        refuse_if_inexact(Mixing(mix), loss(), (Tensor(X), Tensor(Y)))


@pytest.mark.parametrize("mix", [ops.tanh, ops.relu])
def test_independent_rows_pass(mix):
    refuse_if_inexact(Mixing(mix), loss(), (Tensor(X), Tensor(Y)))


def unroll(x):
    """The first row of each pair enters layers after the second, and comes back in its place."""
    return ops.flip(x, (0,))


class Shuffled(nn.Cell):
    """The losses are the rows' own, but one layer sees other rows in their places."""

    def __init__(self):
        super().__init__()
        self.first, self.head = nn.Dense(4, 4), nn.Dense(4, 3)

    def construct(self, x):
        return self.head(unroll(ops.relu(self.first(unroll(x)))))


def test_a_shuffle_that_is_undone_is_found():
    with pytest.raises(UnsupportedLayerError):
        refuse_if_inexact(Shuffled(), loss(), (Tensor(X), Tensor(Y)))


@pytest.mark.parametrize("holes", [(0, 1, 2), (5, 6, 7), (1, 3, 5, 6, 7)])
@pytest.mark.parametrize("mix, kind", [(only_later_rows, False), (mean, False), (ops.tanh, True)])
def test_the_verdict_does_not_depend_on_where_holes_fall(holes, mix, kind):
    mask = np.ones(ROWS, np.float32)
    mask[list(holes)] = 0
    columns = Tensor(X * mask[:, None]), Tensor((Y * mask).astype(np.int32))
    engine, _ = choose_engine("auto", Mixing(mix), loss(), FlatClipping(), ROWS, columns, Tensor(mask))
    assert isinstance(engine, GhostEngine) == kind


def test_equal_rows_hide_nothing():
    columns = Tensor(np.repeat(X[:1], ROWS, axis=0)), Tensor(np.repeat(Y[:1], ROWS))
    with pytest.raises(UnsupportedLayerError):
        refuse_if_inexact(Mixing(mean), loss(), columns)


class MaskedMean(nn.Cell):
    """NaN on a row of zeros, as in any text network with padding."""

    def __init__(self):
        super().__init__()
        self.embedding, self.head = nn.Embedding(20, 8), nn.Dense(8, 3)

    def construct(self, tokens):
        present = (tokens != 0).astype(ms.float32).expand_dims(-1)
        return self.head((self.embedding(tokens) * present).sum(1) / present.sum(1))


@pytest.mark.parametrize("units", [ROWS, ROWS // 2])
@pytest.mark.parametrize("first", [True, False])
def test_holes_that_give_nan_leave_the_fast_engine_and_its_result_alone(first, units):
    tokens = RNG.integers(1, 20, (ROWS, 6)).astype(np.int32)
    mask = np.ones(ROWS, np.float32)
    mask[slice(0, 3) if first else slice(5, 8)] = 0
    tokens[mask == 0] = 0
    columns = Tensor(tokens), Tensor((Y * mask).astype(np.int32))
    network, results = MaskedMean(), {}
    for engine in ("ghost", "loop"):
        fn = clipped_gradient_fn(network, loss(), 0.05, micro_batches=units, engine=engine)
        results[engine] = fn(*columns, is_real=Tensor(mask))
    for one, other in zip(results["ghost"].total, results["loop"].total):
        np.testing.assert_allclose(one.asnumpy(), other.asnumpy(), atol=5e-5)
    assert float(results["ghost"].dropped) == 0


def test_a_batch_without_real_rows_adds_nothing_and_leaves_the_choice_to_the_next():
    columns, nobody = (Tensor(X), Tensor(Y)), Tensor(np.zeros(ROWS, np.float32))
    assert choose_engine("auto", nn.Dense(4, 3), loss(), FlatClipping(), ROWS, columns, nobody)[1] == NO_REAL_ROW
    fn = clipped_gradient_fn(nn.Dense(4, 3), loss(), 0.05)
    assert not any(total.asnumpy().any() for total in fn(*columns, is_real=nobody).total)
    assert any(total.asnumpy().any() for total in fn(*columns).total)


class WeightedTokens(nn.Cell):
    """One number for the batch, divided by the weight of all its tokens."""

    def __init__(self, over_batch):
        super().__init__()
        self.embedding, self.head = nn.Embedding(12, 8), nn.Dense(8, 12)
        self.loss = nn.SoftmaxCrossEntropyWithLogits(sparse=True)
        self.over_batch = over_batch

    def construct(self, tokens, target):
        losses = self.loss(self.head(self.embedding(tokens)).reshape(-1, 12), target.reshape(-1))
        if not self.over_batch:
            return losses.mean()
        kept = (target != 0).astype(ms.float32).reshape(-1)
        return (losses * kept).sum() / kept.sum()


@pytest.mark.parametrize("over_batch", [True, False])
def test_losses_divided_by_the_weight_of_the_batch_are_found(over_batch):
    """Every text of the batch has the same number of tokens, so that their values give nothing away."""
    tokens, target = (Tensor(RNG.integers(1, 12, (ROWS, 5)).astype(np.int32)) for _ in range(2))
    engine, _ = choose_engine("auto", WeightedTokens(over_batch), None, FlatClipping(), ROWS, (tokens, target))
    assert isinstance(engine, GhostEngine) != over_batch


class Focal(nn.Cell):
    """A network that returns a loss weighted by a statistic of the batch's losses."""

    def __init__(self):
        super().__init__()
        self.head, self.loss = nn.Dense(4, 3), nn.SoftmaxCrossEntropyWithLogits(sparse=True)

    def construct(self, x, label):
        losses = self.loss(self.head(x), label)
        return (losses * ops.stop_gradient(losses / losses.max())).mean()


def test_a_focal_loss_with_a_statistic_of_the_batch_is_found():
    engine, _ = choose_engine("auto", Focal(), None, FlatClipping(), ROWS, (Tensor(X), Tensor(Y)))
    assert not isinstance(engine, GhostEngine)


class OwnGradient(nn.Cell):
    """Rows are apart in the forward pass and mixed in the backward pass."""

    def construct(self, x):
        return x * 1.0

    def bprop(self, x, out, dout):
        return (dout + 1e-4 * ops.flip(dout, (0,)),)


def test_gradients_that_mix_by_themselves_are_found():
    network = nn.SequentialCell(nn.Dense(4, 5), OwnGradient(), nn.Dense(5, 3))
    with pytest.raises(UnsupportedLayerError):
        refuse_if_inexact(network, loss(), (Tensor(X), Tensor(Y)))


def test_another_dtype_is_tried_anew():
    class ByDtype(nn.Cell):
        def __init__(self):
            super().__init__()
            self.head = nn.Dense(4, 3)

        def construct(self, x):
            if x.dtype == ms.float16:
                x = x - x.mean(axis=0, keep_dims=True)
            return self.head(x.astype(ms.float32))

    fn = clipped_gradient_fn(ByDtype(), loss(), 0.05, engine="ghost")
    fn(Tensor(X), Tensor(Y))
    with pytest.raises(UnsupportedLayerError):
        fn(Tensor(X.astype(np.float16)), Tensor(Y))


class MixesAtToken7(nn.Cell):
    """Rows are independent in every batch that does not hold the token."""

    def __init__(self):
        super().__init__()
        self.embedding, self.head = nn.Embedding(20, 8), nn.Dense(8, 3)

    def construct(self, tokens):
        values = self.embedding(tokens).mean(axis=1)
        mixes = ops.broadcast_to((tokens == 7).astype(ms.float32).max() > 0, values.shape)
        return self.head(ops.select(mixes, values - values.mean(axis=0, keep_dims=True), values))


def test_another_data_set_is_tried_anew():
    network = MixesAtToken7()
    model = model_of(network, loss_fn=loss())
    step, label = model.train_network, Tensor(Y)
    plan = replace(step.plan, sampling=Sampling("full", ROWS, ROWS, ZERO_OUT))
    engines = []
    for data, most in (("one", 7), ("one", 7), ("other", 9)):
        tokens = RNG.integers(1, most, (ROWS, 6)).astype(np.int32)
        tokens[:, 0] = most - 2 if most == 9 else 1
        step.bind(plan, None, data)
        step(Tensor(tokens), label)
        engines.append(model.engine.engine)
    assert engines[:2] == ["ghost", "ghost"] and engines[2] != "ghost"


class Named(nn.BatchNorm1d):
    """A subclass whose name does not tell what it is."""


class RunningMaximum(nn.Cell):
    def __init__(self):
        super().__init__()
        self.highest = Parameter(Tensor(np.full(4, 10.0, np.float32)), requires_grad=False, name="highest")

    def construct(self, x):
        ops.assign(self.highest, ops.maximum(self.highest, x.max(axis=0)))
        return x


class FussyMean(RunningMaximum):
    """A moving average that refuses what is no number."""

    def construct(self, x):
        if not np.isfinite(x.asnumpy()).all():
            raise ValueError("not finite")
        ops.assign(self.highest, 0.9 * self.highest + 0.1 * x.mean(axis=0))
        return x


class Counter(nn.Cell):
    """Counts its calls, whatever they bring."""

    def __init__(self):
        super().__init__()
        self.calls = Parameter(Tensor(np.zeros(1, np.float32)), requires_grad=False, name="calls")

    def construct(self, x):
        ops.assign(self.calls, self.calls + 1)
        return x


class Cache(nn.Cell):
    def __init__(self):
        super().__init__()
        self.seen = []

    def construct(self, x):
        self.seen.append(x.mean())
        return x


@pytest.mark.parametrize("engine", ["auto", "vmap", "loop", "ghost"])
@pytest.mark.parametrize("writer, name", [(RunningMaximum, "highest"), (Cache, "seen"), (FussyMean, "highest")])
def test_state_written_in_the_forward_pass_is_refused_by_every_engine(writer, name, engine):
    network = nn.SequentialCell(writer(), nn.Dense(4, 3))
    before = [p.asnumpy().copy() for p in network.get_parameters()]
    with pytest.raises(UnsupportedLayerError, match=name):
        clipped_gradient_fn(network, loss(), 0.05, engine=engine)(Tensor(X), Tensor(Y))
    assert all((p.asnumpy() == old).all() for p, old in zip(network.get_parameters(), before))


def test_a_batch_norm_by_another_name_is_refused():
    network = nn.SequentialCell(Named(4), nn.Dense(4, 3))
    with pytest.raises(UnsupportedLayerError, match="replace_batch_norm"):
        clipped_gradient_fn(network, loss(), 0.05, engine="loop")(Tensor(X), Tensor(Y))


def test_a_counter_of_calls_tells_nothing_of_the_records():
    network = nn.SequentialCell(Counter(), nn.Dense(4, 3))
    clipped_gradient_fn(network, loss(), 0.05, engine="loop")
    choose_engine("loop", network, loss(), FlatClipping(), ROWS, (Tensor(X), Tensor(Y)))
    assert float(network[0].calls.asnumpy()[0]) == 0


@pytest.mark.parametrize("width", [1, 255, 256, 700])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_marks_of_a_row_change_with_any_two_of_its_values_swapped(width, dtype):
    rows = np.random.default_rng(width).normal(size=(3, width)).astype(dtype)
    marks = row_marks(rows)
    for one, other in {(0, width - 1), (0, min(256, width - 1)), (width // 2, width - 1)}:
        swapped = rows.copy()
        swapped[1, [one, other]] = swapped[1, [other, one]]
        assert one == other or marks[1, 1] != row_marks(swapped)[1, 1]
        np.testing.assert_array_equal(row_marks(swapped)[[0, 2]], marks[[0, 2]])


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf, 3e38])
def test_marks_of_a_row_with_odd_values_count_them_and_keep_the_others(odd):
    rows = np.ones((2, 600), np.float32)
    rows[0, 5:9] = odd
    marks = row_marks(rows)
    assert marks[0, 0] == (0 if np.isfinite(odd) else 4) and np.isfinite(marks).all()
    assert row_sizes(rows)[1] == marks[1, 1] > 600
