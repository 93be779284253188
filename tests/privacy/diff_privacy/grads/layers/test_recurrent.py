"""Recurrent layers and cells: the ghost engine equals the plain loop."""
import mindspore as ms
import numpy as np
import pytest
from ghost_oracle import LossOf, assert_layer_exact
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from mindspore import Tensor, nn, ops

from mindarmour.privacy.diff_privacy.clipping.rules import FlatClipping
from mindarmour.privacy.diff_privacy.grads.choose import choose_engine
from mindarmour.privacy.diff_privacy.grads.ghost.engine import GhostEngine
from mindarmour.privacy.diff_privacy.grads.layers import recurrent
from mindarmour.privacy.diff_privacy.grads.vmap import VmapEngine
from mindarmour.privacy.errors import UnsupportedLayerError

ROWS = 4
EAGER = settings(max_examples=2, deadline=None, derandomize=True, phases=(Phase.explicit, Phase.generate),
                 suppress_health_check=[HealthCheck.function_scoped_fixture])
UNITS = st.sampled_from([1, 2, 4])
MASKS = st.lists(st.sampled_from([1.0, 1.0, 0.0]), min_size=ROWS - 1, max_size=ROWS - 1).map(lambda m: [1.0, *m])
KINDS = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}


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
@given(inputs=st.integers(1, 4), hidden=st.integers(3, 4), steps=st.integers(1, 2), layers=st.integers(1, 2),
       options=st.fixed_dictionaries({"has_bias": st.booleans(), "batch_first": st.booleans(),
                                      "bidirectional": st.booleans()}),
       reads=st.sampled_from(["output", "hidden", "cell"]), lengths=st.booleans(), state=st.booleans(), units=UNITS,
       mask=MASKS)
def test_recurrent_layers(kind, inputs, hidden, steps, layers, options, reads, lengths, state, units, mask):
    layer = KINDS[kind](inputs, hidden, layers, **options)
    assert_layer_exact(Reads(layer, reads, lengths, state), normal(ROWS, steps, inputs), units, mask)


def test_relu():
    assert_layer_exact(Reads(nn.RNN(2, 4, nonlinearity="relu"), "output"), normal(ROWS, 2, 2), 2, [1, 1, 0, 1])


@pytest.mark.parametrize("steps, fused", [(3, False), (4, True)])
def test_long_lstm_runs_in_one_operator(monkeypatch, steps, fused):
    monkeypatch.setattr(recurrent, "UNROLLED_STEPS", 3)
    used, run = set(), recurrent.LSTMBranch.fused

    def noted(self, *arguments):
        used.add("fused")
        return run(self, *arguments)

    monkeypatch.setattr(recurrent.LSTMBranch, "fused", noted)
    layer = nn.LSTM(2, 3, batch_first=True)
    assert_layer_exact(Reads(layer, "output", state=True), normal(2, steps, 2), 2)
    assert bool(used) == fused


@pytest.mark.parametrize("reads", ["hidden", "cell"])
def test_last_states_of_a_long_lstm(monkeypatch, reads):
    monkeypatch.setattr(recurrent, "UNROLLED_STEPS", 1)
    assert_layer_exact(Reads(nn.LSTM(2, 3, bidirectional=True), reads), normal(ROWS, 3, 2), 2, [1, 1, 0, 1])


class OneStep(nn.Cell):
    """A recurrent cell whose state follows from the input."""

    def __init__(self, cell):
        super().__init__()
        self.cell, self.is_lstm = cell, isinstance(cell, nn.LSTMCell)

    def construct(self, x):
        state = ops.tanh(x[:, :3])
        if self.is_lstm:
            return ops.concat(self.cell(x, (state, x[:, 1:])), 1)
        return self.cell(x, state)


CELLS = {"rnn": nn.RNNCell, "gru": nn.GRUCell, "lstm": nn.LSTMCell}


@pytest.mark.parametrize("kind", sorted(CELLS))
def test_cells(kind):
    assert_layer_exact(OneStep(CELLS[kind](4, 3)), normal(ROWS, 4), 2, [1, 1, 0, 1])


class OverSteps(nn.Cell):
    def __init__(self):
        super().__init__()
        self.cell, self.head = nn.GRUCell(4, 3), nn.Dense(3, 3)

    def construct(self, x):
        state = ops.zeros((x.shape[0], 3), ms.float32)
        for t in range(x.shape[1]):
            state = self.cell(x[:, t], state)
        return self.head(state)


def test_a_cell_called_at_every_step():
    columns = (Tensor(normal(2, 2, 4)), Tensor(np.array([0, 2], np.int32)))
    arguments = (OverSteps(), nn.SoftmaxCrossEntropyWithLogits(True, "mean"), FlatClipping(), 2, columns)
    with pytest.raises(UnsupportedLayerError, match="called 2 times.*Or use nn.RNN, nn.GRU or nn.LSTM") as caught:
        choose_engine("ghost", *arguments)
    assert (caught.value.cell_name, caught.value.cell_class) == ("cell", "GRUCell")
    engine, reason = choose_engine("auto", *arguments)
    assert isinstance(engine, VmapEngine) and "called 2 times" in reason


def test_frozen_recurrent_parameters_and_dropout():
    layer = nn.LSTM(2, 3, 2, dropout=0.5, batch_first=True)
    layer.w_hh_list[0].requires_grad = layer.b_ih_list[1].requires_grad = False
    columns = (Tensor(normal(3, 3, 2)),)
    engine, _ = choose_engine("ghost", LossOf(Reads(layer, "output")), None, FlatClipping(), 3, columns)
    assert isinstance(engine, GhostEngine)


class TwoLayers(nn.Cell):
    """A GRU, then an LSTM of which the last states count."""

    def __init__(self):
        super().__init__()
        self.first = nn.GRU(3, 4, batch_first=True)
        self.second = nn.LSTM(4, 3, batch_first=True)

    def construct(self, x):
        return ops.concat(self.second(self.first(x)[0])[1]).swapaxes(0, 1)


@pytest.mark.slow
def test_graph_mode():
    ms.set_context(mode=ms.GRAPH_MODE)
    try:
        assert_layer_exact(TwoLayers(), normal(ROWS, 2, 3), 2, [1, 1, 0, 1])
    finally:
        ms.set_context(mode=ms.PYNATIVE_MODE)
