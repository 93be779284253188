"""Recurrent layers and cells: the ghost engine equals the plain loop."""
import mindspore as ms
import numpy as np
import pytest
from ghost_oracle import assert_layer_exact
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from mindspore import nn, ops

ROWS = 4
EAGER = settings(max_examples=3, deadline=None, derandomize=True, phases=(Phase.explicit, Phase.generate),
                 suppress_health_check=[HealthCheck.function_scoped_fixture])
UNITS = st.sampled_from([1, 2, 4])
MASKS = st.lists(st.sampled_from([1.0, 1.0, 0.0]), min_size=ROWS - 1, max_size=ROWS - 1).map(lambda m: [1.0, *m])
KINDS = {"rnn": (nn.RNN, {}), "relu": (nn.RNN, {"nonlinearity": "relu"}), "gru": (nn.GRU, {}), "lstm": (nn.LSTM, {})}


@pytest.fixture(autouse=True)
def eager():
    ms.set_context(mode=ms.PYNATIVE_MODE)


def normal(*shape):
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


class Reads(nn.Cell):
    """A recurrent layer of which the network reads the parts that `reads` names.

    The rows of the inputs hold, step by step, the layer's input; the lengths follow from the first value of a row.
    """

    def __init__(self, layer, reads, lengths=False, state=False):
        super().__init__()
        self.layer, self.reads, self.lengths, self.state = layer, reads, lengths, state
        self.directions = 2 if layer.bidirectional else 1

    def construct(self, x):
        hx, lengths = None, None
        if self.lengths:
            lengths = (ops.abs(x[:, 0, 0]) * 3).astype(ms.int32) % x.shape[1] + 1
        if self.state:
            hx = ops.tile(x[None, :, 0, :1], (self.directions * self.layer.num_layers, 1, self.layer.hidden_size))
            hx = (hx, 0.5 * hx) if self.layer.is_lstm else hx
        output, last = self.layer(x if self.layer.batch_first else x.swapaxes(0, 1), hx, lengths)
        if self.reads == "output":
            return output if self.layer.batch_first else output.swapaxes(0, 1)
        if self.layer.is_lstm:
            last = last[1] if self.reads == "cell" else last[0]
        return last.swapaxes(0, 1)


@pytest.mark.parametrize("kind", sorted(KINDS))
@EAGER
@given(inputs=st.integers(1, 4), hidden=st.integers(3, 4), steps=st.integers(1, 3), layers=st.integers(1, 2),
       options=st.fixed_dictionaries({"has_bias": st.booleans(), "batch_first": st.booleans(),
                                      "bidirectional": st.booleans()}),
       reads=st.sampled_from(["output", "hidden", "cell"]), lengths=st.booleans(), state=st.booleans(), units=UNITS,
       mask=MASKS)
def test_recurrent_layers(kind, inputs, hidden, steps, layers, options, reads, lengths, state, units, mask):
    make, more = KINDS[kind]
    layer = make(inputs, hidden, layers, **options, **more)
    assert_layer_exact(Reads(layer, reads, lengths, state), normal(ROWS, steps, inputs), units, mask)


class TwoLayers(nn.Cell):
    """A GRU in two directions, then an LSTM of which the last states count."""

    def __init__(self):
        super().__init__()
        self.first = nn.GRU(3, 2, bidirectional=True, batch_first=True)
        self.second = nn.LSTM(4, 3, batch_first=True)

    def construct(self, x):
        return ops.concat(self.second(self.first(x)[0])[1]).swapaxes(0, 1)


def test_graph_mode():
    ms.set_context(mode=ms.GRAPH_MODE)
    try:
        assert_layer_exact(TwoLayers(), normal(ROWS, 3, 3), 2, [1, 1, 0, 1])
    finally:
        ms.set_context(mode=ms.PYNATIVE_MODE)
