"""Every registered layer kind: the ghost engine equals the plain loop for drawn shapes, geometries, masks and units."""
import mindspore as ms
import numpy as np
import pytest
from ghost_oracle import GRAM_TOLERANCE, assert_layer_exact
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from mindspore import nn

ROWS = 6
EAGER = settings(max_examples=4, deadline=None, derandomize=True, phases=(Phase.explicit, Phase.generate),
                 suppress_health_check=[HealthCheck.function_scoped_fixture])
UNITS = st.sampled_from([1, 2, 3, 6])
MASKS = st.lists(st.sampled_from([1.0, 1.0, 0.0]), min_size=ROWS - 1, max_size=ROWS - 1).map(lambda m: [1.0, *m])
SIZES = st.integers(1, 6)


@pytest.fixture(autouse=True)
def eager():
    ms.set_context(mode=ms.PYNATIVE_MODE)


def normal(*shape):
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


@EAGER
@given(inputs=SIZES, outputs=SIZES, inner=st.lists(st.integers(1, 4), max_size=2), bias=st.booleans(),
       activation=st.sampled_from([None, "tanh"]), units=UNITS, mask=MASKS)
def test_dense(inputs, outputs, inner, bias, activation, units, mask):
    layer = nn.Dense(inputs, outputs, has_bias=bias, activation=activation)
    assert_layer_exact(layer, normal(ROWS, *inner, inputs), units, mask)


@EAGER
@given(group=st.sampled_from([1, 2]), inputs=st.integers(1, 3), outputs=st.integers(1, 3),
       kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)), stride=st.integers(1, 2),
       padding=st.sampled_from(["same", "valid", (1, 1, 1, 1), (1, 0, 2, 0)]), bias=st.booleans(), units=UNITS,
       mask=MASKS)
def test_conv2d(group, inputs, outputs, kernel, stride, padding, bias, units, mask):
    mode, pad = (padding, 0) if isinstance(padding, str) else ("pad", padding)
    layer = nn.Conv2d(group * inputs, group * outputs, kernel, stride, mode, pad, group=group, has_bias=bias)
    assert_layer_exact(layer, normal(ROWS, group * inputs, 6, 5), units, mask)


@pytest.mark.parametrize("layer, shape", [
    (lambda: nn.Conv2d(4, 4, 3, group=4, has_bias=True), (4, 5, 6)),  # depthwise
    (lambda: nn.Conv2d(2, 3, 3, dilation=2, pad_mode="valid"), (2, 7, 7)),
    (lambda: nn.Conv2d(32, 24, 3, has_bias=True), (32, 2, 2))])  # large weight, small image: patches
def test_conv2d_special_cases(layer, shape):
    assert_layer_exact(layer(), normal(ROWS, *shape), 3, [1, 1, 0, 1, 1, 1], tolerance=GRAM_TOLERANCE)


@EAGER
@given(inputs=st.integers(1, 3), outputs=st.integers(1, 3), kernel=st.integers(1, 3), stride=st.integers(1, 2),
       mode=st.sampled_from(["same", "valid"]), bias=st.booleans(), units=UNITS, mask=MASKS)
def test_conv1d(inputs, outputs, kernel, stride, mode, bias, units, mask):
    layer = nn.Conv1d(inputs, outputs, kernel, stride, mode, has_bias=bias)
    assert_layer_exact(layer, normal(ROWS, inputs, 7), units, mask)


@EAGER
@given(inputs=st.integers(1, 3), outputs=st.integers(1, 3), kernel=st.integers(1, 3), stride=st.integers(1, 2),
       mode=st.sampled_from(["same", "valid"]), bias=st.booleans(), units=UNITS, mask=MASKS)
def test_conv2d_transpose(inputs, outputs, kernel, stride, mode, bias, units, mask):
    layer = nn.Conv2dTranspose(inputs, outputs, kernel, stride, mode, has_bias=bias)
    assert_layer_exact(layer, normal(ROWS, inputs, 4, 3), units, mask)


@EAGER
@given(inputs=st.integers(1, 2), outputs=st.integers(1, 3), kernel=st.integers(1, 3), stride=st.integers(1, 2),
       mode=st.sampled_from(["same", "valid"]), bias=st.booleans(), units=UNITS, mask=MASKS)
def test_conv3d(inputs, outputs, kernel, stride, mode, bias, units, mask):
    layer = nn.Conv3d(inputs, outputs, kernel, stride, mode, has_bias=bias)
    assert_layer_exact(layer, normal(ROWS, inputs, 4, 3, 5), units, mask)


@EAGER
@given(vocabulary=st.sampled_from([3, 200]), size=SIZES, positions=st.integers(1, 7), one_hot=st.booleans(),
       units=UNITS, mask=MASKS)
def test_embedding(vocabulary, size, positions, one_hot, units, mask):
    indices = np.random.default_rng(positions).integers(0, 3, (ROWS, positions)).astype(np.int32)
    assert_layer_exact(nn.Embedding(vocabulary, size, use_one_hot=one_hot), indices, units, mask)


@EAGER
@given(size=st.integers(3, 8), inner=st.lists(st.integers(1, 4), max_size=2), units=UNITS, mask=MASKS)
def test_layer_norm(size, inner, units, mask):
    assert_layer_exact(nn.LayerNorm((size,), epsilon=1e-3), normal(ROWS, *inner, size), units, mask)


def test_layer_norm_over_two_axes():
    assert_layer_exact(nn.LayerNorm((4, 5), 1, 1, epsilon=1e-3), normal(ROWS, 4, 5), 3)


@EAGER
@given(groups=st.integers(1, 3), per_group=st.integers(1, 3), side=st.integers(2, 4), units=UNITS, mask=MASKS)
def test_group_norm(groups, per_group, side, units, mask):
    channels = groups * per_group
    assert_layer_exact(nn.GroupNorm(groups, channels, eps=1e-3), normal(ROWS, channels, side, side), units, mask)


@EAGER
@given(channels=st.integers(1, 4), shared=st.booleans(), inner=st.lists(st.integers(1, 4), max_size=2), units=UNITS,
       mask=MASKS)
def test_prelu(channels, shared, inner, units, mask):
    layer = nn.PReLU(1 if shared else channels)
    assert_layer_exact(layer, normal(ROWS, channels, *inner), units, mask)


class Attending(nn.Cell):
    """Attention with different query, key and value, and masks."""

    def __init__(self, batch_first, masked, **options):
        super().__init__()
        self.batch_first, self.masked = batch_first, masked
        self.attention = nn.MultiheadAttention(4, 2, batch_first=batch_first, **options)

    def construct(self, x):
        masks = {}
        if self.masked:
            masks = {"key_padding_mask": x[:, :, 0] > 1.0,
                     "attn_mask": ms.ops.triu(ms.ops.ones((x.shape[1], x.shape[1])), 1).astype(ms.bool_)}
        if not self.batch_first:
            x = x.swapaxes(0, 1)
        y = self.attention(x, 0.5 * x, x[..., :self.attention.vdim] + 1.0, **masks)[0]
        return y if self.batch_first else y.swapaxes(0, 1)


@EAGER
@given(batch_first=st.booleans(), bias=st.booleans(), vdim=st.sampled_from([None, 3]), units=UNITS, mask=MASKS)
def test_attention(batch_first, bias, vdim, units, mask):
    assert_layer_exact(Attending(batch_first, False, has_bias=bias, vdim=vdim), normal(ROWS, 5, 4), units, mask)


def test_attention_with_masks():
    inputs = np.minimum(normal(ROWS, 5, 4), 1.5)
    inputs[:, 0, 0] = 0.0  # every query may attend to the first key
    assert_layer_exact(Attending(True, True), inputs, 3)


class Transforming(nn.Cell):
    """MindSpore's transformer encoder and decoder."""

    def __init__(self, batch_first, norm_first):
        super().__init__()
        self.batch_first = batch_first
        options = {"dim_feedforward": 6, "dropout": 0.0, "batch_first": batch_first, "norm_first": norm_first}
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, **options), 1)
        self.decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(4, 2, **options), 1)

    def construct(self, x):
        if not self.batch_first:
            x = x.swapaxes(0, 1)
        y = self.decoder(x, self.encoder(x))
        return y if self.batch_first else y.swapaxes(0, 1)


@pytest.mark.parametrize("batch_first, norm_first", [(True, True), (False, False)])
def test_transformer(batch_first, norm_first):
    assert_layer_exact(Transforming(batch_first, norm_first), normal(ROWS, 5, 4), 3, [1, 1, 0, 1, 1, 1])


def graph_layers():
    """One layer of each kind that holds Parameters, in one network each."""
    integers = np.random.default_rng(0).integers(0, 9, (ROWS, 5)).astype(np.int32)
    images, lines = normal(ROWS, 4, 6, 5), normal(ROWS, 4, 7)
    return {
        "images": (nn.SequentialCell(
            nn.Conv2d(4, 6, 3, stride=2, pad_mode="pad", padding=1, group=2, has_bias=True), nn.GroupNorm(3, 6, 1e-3),
            nn.PReLU(6), nn.Conv2dTranspose(6, 3, 3, stride=2, has_bias=True)), images),
        "lines": (nn.SequentialCell(nn.Conv1d(4, 3, 3, has_bias=True), nn.Dense(7, 5, activation="tanh")), lines),
        "tokens": (nn.SequentialCell(nn.Embedding(9, 4), nn.LayerNorm((4,), epsilon=1e-3), nn.Dense(4, 3)), integers),
        "volumes": (nn.Conv3d(2, 3, 2, has_bias=True), normal(ROWS, 2, 4, 3, 3)),
        "attention": (Attending(False, False), normal(ROWS, 5, 4)),
    }


@pytest.mark.parametrize("kind", sorted(graph_layers()))
def test_graph_mode(kind):
    layer, inputs = graph_layers()[kind]
    ms.set_context(mode=ms.GRAPH_MODE)
    try:
        assert_layer_exact(layer, inputs, 3, [1, 1, 0, 1, 1, 1])
    finally:
        ms.set_context(mode=ms.PYNATIVE_MODE)
