"""No clipped unit exceeds the bound, however rounding falls: long sums, cancelling, low precision, tiny bounds."""
import sys

import mindspore as ms
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mindspore import Tensor, nn, ops

from mindarmour.privacy.diff_privacy import clipped_gradient_fn
from mindarmour.privacy.diff_privacy.clipping.rules import AutomaticClipping, FlatClipping, PerLayerClipping
from mindarmour.privacy.diff_privacy.grads.ghost.engine import GhostEngine
from mindarmour.privacy.diff_privacy.grads.layers import embedding, products
from mindarmour.privacy.diff_privacy.grads.layers.registry import square_norms
from mindarmour.privacy.diff_privacy.grads.rounding import (
    BFLOAT16_ROUNDOFF,
    FLOAT16_ROUNDOFF,
    HF32_ROUNDOFF,
    Precision,
    assume_precision,
    block_length,
    gamma,
    precision_in_force,
    shrink,
    squares_roundoff,
)

BOUND = np.float32(0.7)


@pytest.fixture(autouse=True)
def eager():
    ms.set_context(mode=ms.PYNATIVE_MODE)


def contribution(gradient, taps, exact):
    """Norm, in units of the bound, of one unit's exact gradient times the factor that it gets."""
    square = gradient.squares(gradient.hold(*(Tensor(tap) for tap in taps)))
    (factor,), _ = FlatClipping()((square,), Tensor(BOUND * shrink([gradient.understatement]), ms.float32))
    return float(factor.asnumpy()[0]) * np.linalg.norm(exact) / float(BOUND)


def matrix_case(form, positions, sizes, far, scale, seed):
    """(gradient, taps, exact gradient): vectors `far` from the origin, output gradients that nearly add up to zero."""
    rng = np.random.default_rng(seed)
    inputs, outputs = sizes
    a = (far * rng.normal(size=(1, inputs)) + rng.normal(size=(positions, inputs))).astype(np.float32)
    b = rng.normal(size=(positions, outputs))
    b = ((b - (b.mean(axis=0) if positions > 1 else 0.0)) * scale).astype(np.float32)
    gradient = products.product_gradient(1, positions, inputs, outputs, (outputs, inputs), form)
    return gradient, (a, b), b.astype(np.float64).T @ a.astype(np.float64)


@given(st.sampled_from(["gram", "outer", "full"]), st.integers(1, 12),
       st.tuples(st.integers(1, 40), st.integers(1, 40)),
       st.sampled_from([0.0, 1.0, 1e3, 1e6, 1e9]), st.sampled_from([1e-25, 1e-12, 1.0, 1e12]), st.integers(0, 2 ** 31))
@settings(max_examples=150, deadline=None)
def test_no_form_of_a_matrix_lets_a_unit_exceed_the_bound(form, positions, sizes, far, scale, seed):
    positions = 1 if form == "outer" else positions
    gradient, taps, exact = matrix_case(form, positions, sizes, far, scale, seed)
    if form == "full":  # what is added is the product as it is stored
        exact = gradient.construct(*(Tensor(tap) for tap in taps)).asnumpy().astype(np.float64)
    assert contribution(gradient, taps, exact) <= 1.0


def test_hill_climbing_finds_no_unit_above_the_bound():
    """Moves that raise the contribution of the Gram form are kept; without its margin this reaches many times C."""
    rng, worst = np.random.default_rng(0), 0.0
    for far in (1e2, 1e4, 1e6):
        gradient, (a, b), _ = matrix_case("gram", 4, (32, 16), far, 10.0, 1)
        best = 0.0
        for _ in range(60):
            moved = (a + (rng.normal(size=a.shape) * far * 1e-6).astype(np.float32)).astype(np.float32)
            reached = contribution(gradient, (moved, b), b.astype(np.float64).T @ moved.astype(np.float64))
            if reached > best:
                best, a = reached, moved
        worst = max(worst, best)
    assert worst <= 1.0


@given(st.integers(1, 8), st.integers(1, 3), st.sampled_from([1e-20, 1.0, 1e6]), st.integers(0, 2 ** 31))
@settings(max_examples=60, deadline=None)
def test_no_form_of_a_table_lets_a_unit_exceed_the_bound(positions, vocabulary, scale, seed):
    rng = np.random.default_rng(seed)
    indices = rng.integers(0, vocabulary, (1, positions)).astype(np.float32)
    b = (rng.normal(size=(1, positions, 6)) * scale).astype(np.float32)
    b[0, 1::2] = -b[0, ::2][:positions // 2] * np.float32(1 + 1e-6)
    exact = np.zeros((vocabulary, 6))
    np.add.at(exact, indices[0].astype(int), b[0].astype(np.float64))
    for form in ("pairs", "full"):
        gradient = embedding.table_gradient(1, (vocabulary, 6), positions, form)
        if form == "full":  # what is added is the table as it is stored
            exact = gradient.construct(Tensor(b), Tensor(indices)).asnumpy().astype(np.float64)
        assert contribution(gradient, (b, indices), exact) <= 1.0


@pytest.mark.parametrize("size", [1, 2048, 2049, 48000, 50257, 4096 * 4096])
def test_sums_of_squares_keep_their_stated_error(size):
    assert size % block_length(size) == 0
    for values in (np.full(size, 1e-3, np.float32), np.random.default_rng(0).random(size, np.float32)):
        computed = float(square_norms(Tensor(values), 1, size).asnumpy()[0])
        true = float((values.astype(np.float64) ** 2).sum())
        assert true * (1 - squares_roundoff(size)) <= computed <= true * (1 + squares_roundoff(size))
    assert squares_roundoff(4096 * 4096) < 1e-3


@pytest.mark.parametrize("engine", ["vmap", "loop", "ghost"])
def test_a_large_parameter_stays_inside_the_bound(engine):
    size = 1024 if engine == "ghost" else 4096
    network = nn.Dense(size, size, weight_init="zeros", has_bias=False)
    columns = Tensor(np.ones((1, size), np.float32)), Tensor(np.full((1, size), 5.0, np.float32))
    (total,) = clipped_gradient_fn(network, nn.MSELoss(), norm_bound=1e-3, engine=engine)(*columns).total
    reached = np.sqrt((total.asnumpy().astype(np.float64) ** 2).sum()) / np.float32(1e-3)
    assert 0.999 < reached <= 1.0


@pytest.mark.parametrize("dtype", [ms.float16, ms.float32])
@pytest.mark.parametrize("engine", ["ghost", "loop"])
@pytest.mark.parametrize("style", ["flat", "automatic", "per layer"])
def test_no_stored_unit_exceeds_the_bound_in_any_dtype(dtype, engine, style):
    network = Wide(nn.SequentialCell(nn.Dense(7, 5), nn.Tanh(), nn.Dense(5, 3)))
    for parameter in network.get_parameters():
        parameter.set_dtype(dtype)
    rule = {"flat": None, "automatic": AutomaticClipping(), "per layer": PerLayerClipping.of_layers(network)}[style]
    fn = clipped_gradient_fn(network, loss(), norm_bound=float(BOUND), engine=engine, clipping=rule)
    rng = np.random.default_rng(0)
    for scale in (0.01, 1.0, 3.0, 30.0):
        columns = Tensor(scale * rng.normal(size=(1, 7)), dtype), Tensor(rng.integers(0, 3, 1).astype(np.int32))
        total = fn(*columns).total
        assert {t.dtype for t in total} == {ms.float32}
        assert np.sqrt(sum((t.asnumpy().astype(np.float64) ** 2).sum() for t in total)) <= BOUND


class Wide(nn.Cell):
    """Logits in float32, large enough that the loss gives every record a gradient."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def construct(self, x):
        return self.network(x).astype(ms.float32) * 100.0


def loss():
    return nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean")


@pytest.mark.parametrize("dtype", [ms.float32, ms.float16])
def test_the_sum_of_many_aligned_units_moves_by_the_bound(dtype):
    """Summed in bfloat16, a unit beside 1,000 equal ones would move the sum by 32 C or by nothing."""
    units = 1001
    network = Wide(nn.Dense(4, 3, weight_init="zeros", bias_init="zeros"))
    for parameter in network.get_parameters():
        parameter.set_dtype(dtype)
    columns = Tensor(np.ones((units, 4)), dtype), Tensor(np.zeros(units, np.int32))
    mask = np.ones(units, np.float32)
    mask[17] = 0.0
    fn = clipped_gradient_fn(network, loss(), norm_bound=0.1, engine="ghost")
    with_it, without = fn(*columns), fn(*columns, is_real=Tensor(mask))
    moved = np.sqrt(sum(((a.asnumpy().astype(np.float64) - b.asnumpy()) ** 2).sum()
                        for a, b in zip(with_it.total, without.total)))
    assert moved == pytest.approx(0.1, rel=1e-3)


@pytest.mark.parametrize("entry, bound", [(1e-20, 1e-22), (1e-23, 1e-25), (1e-24, 1e-31), (5e-20, 1e-18)])
@pytest.mark.parametrize("engine", ["vmap", "loop", "ghost"])
def test_tiny_bounds_are_kept(engine, entry, bound):
    network = nn.Dense(4, 1, weight_init="zeros", has_bias=False)
    columns = Tensor(np.full((1, 4), 1.0, np.float32)), Tensor(np.full((1, 1), entry, np.float32))
    (total,) = clipped_gradient_fn(network, nn.MSELoss(), norm_bound=bound, engine=engine)(*columns).total
    assert np.linalg.norm(total.asnumpy().astype(np.float64)) <= np.float32(bound)


def test_the_margin_grows_with_the_sums_and_stays_small():
    assert 0.9999 < shrink([squares_roundoff(400 * 120)] * 10) < 1.0
    assert shrink([0.1]) < np.sqrt(0.9)
    with pytest.raises(ValueError, match="no useful error bound"):
        gamma(2 ** 24)


class Ranks(nn.Cell):
    """One scorer for both items of a pair: the gradient is that of a difference, which may lie far from the origin."""

    def __init__(self):
        super().__init__()
        self.hidden = nn.Dense(256, 16, activation="relu")
        self.score = nn.Dense(16, 1)

    def construct(self, pairs):
        score = self.score(self.hidden(pairs))
        return ops.concat((score[:, 0] - score[:, 1], score[:, 1] - score[:, 0]), 1)


class Rounded:
    """A matrix product whose inputs are rounded first, as the chip does."""

    def __init__(self, product, mode):
        self.product, self.mode = product, mode

    def __call__(self, a, b):
        return self.product(self._rounded(a), self._rounded(b))

    def _rounded(self, x):
        if self.mode == "hf32":  # Veltkamp: 12 significant bits
            c = x * 4097.0
            return c - (c - x)
        return ops.cast(ops.cast(x, ms.float16 if self.mode == "fp16" else ms.bfloat16), ms.float32)


def emulate(monkeypatch, mode):
    """Round the inputs of every product of the engine; the network's own stay as they are."""
    for name, module in list(sys.modules.items()):
        if name.startswith("mindarmour.privacy.diff_privacy.") and "recurrent" not in name:
            for key, value in list(vars(module).items()):
                if isinstance(value, (ops.MatMul, ops.BatchMatMul)):
                    monkeypatch.setattr(module, key, Rounded(value, mode))


@pytest.mark.parametrize("far", [0.0, 10.0, 1000.0, 1e6])
@pytest.mark.parametrize("mode, roundoff", [("hf32", HF32_ROUNDOFF), ("bf16", BFLOAT16_ROUNDOFF),
                                            ("fp16", FLOAT16_ROUNDOFF), ("fp32", None)])
def test_reduced_precision_keeps_the_bound(monkeypatch, mode, roundoff, far):
    if mode == "fp16" and far > 1000.0:
        pytest.skip("float16 has no numbers that large")
    rng = np.random.default_rng(0)
    rows = 4
    pairs = rng.normal(size=(rows, 2, 256)).astype(np.float32)
    pairs += (far * np.sign(rng.normal(size=256))).astype(np.float32)
    pairs[:, 1] = pairs[:, 0] + (max(far, 1.0) * 1e-4 * rng.normal(size=(rows, 256))).astype(np.float32)
    columns = Tensor(pairs), Tensor(np.array([0, 1] * (rows // 2), np.int32))
    if roundoff is not None:
        emulate(monkeypatch, mode)
    with assume_precision(Precision(matmul=roundoff) if roundoff else Precision()):
        engine = GhostEngine(Ranks(), loss(), FlatClipping(), rows, columns)
    for unit in range(rows):
        total, *_ = engine(Tensor(0.05, ms.float32), Tensor(np.eye(rows, dtype=np.float32)[unit]), *columns)
        reached = np.sqrt(sum((t.asnumpy().astype(np.float64) ** 2).sum() for t in total)) / 0.05
        assert reached <= 1.001


def test_reduced_precision_takes_no_gram_form():
    assert products.cheapest_form(4, 512, 512) == "gram"
    with assume_precision(Precision(matmul=HF32_ROUNDOFF)):
        assert precision_in_force().is_reduced and products.cheapest_form(4, 512, 512) == "full"
    assert not precision_in_force().is_reduced


def test_a_record_far_from_the_origin_stays_inside_the_bound():
    """The exactness check sees ordinary pairs; the last record comes later."""
    rng = np.random.default_rng(0)
    pairs = rng.normal(size=(8, 2, 256)).astype(np.float32)
    base = 1e6 * np.sign(rng.normal(size=256))
    columns = [Tensor(pairs), Tensor((np.arange(8) % 2).astype(np.int32))]
    fn = clipped_gradient_fn(Ranks(), loss(), norm_bound=1.0)
    fn(*columns)
    pairs[-1] = base, base + 100 * rng.normal(size=256)
    mask = np.ones(8, np.float32)
    mask[-1] = 0.0
    with_it, without = fn(Tensor(pairs), columns[1]), fn(Tensor(pairs), columns[1], is_real=Tensor(mask))
    moved = sum(((a.asnumpy().astype(np.float64) - b.asnumpy()) ** 2).sum()
                for a, b in zip(with_it.total, without.total))
    assert np.sqrt(moved) <= 1.0001
