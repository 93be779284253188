"""`nn.RNN`, `nn.GRU` and `nn.LSTM`: stacked, in one or two directions, with initial states and sequence lengths;
and one step of them, the cells `nn.RNNCell`, `nn.GRUCell` and `nn.LSTMCell`.

With a_t = W_ih x_t + b_ih and the gates' gradient g_t = dL/da_t, one layer in one direction has

    dW_ih = sum_t g_t x_t^T,   dW_hh = sum_t e_t h_(t-1)^T,   db_ih = sum_t g_t,   db_hh = sum_t e_t,

e_t being the gradient at W_hh h_(t-1) + b_hh: g_t itself, except in a GRU, whose new gate takes r_t times it. So the
copy hands out x, g and, beside the output, the states h_(t-1) (and r_t).

MindSpore unrolls RNN and GRU over time, and so does the copy. It runs an LSTM as one fused operator, which does not
show its gates. Short sequences the copy unrolls, which is the faster step. For long ones, whose unrolled graph would
take too long to compile, it multiplies by W_ih itself and feeds the fused operator with the result and the identity
as its input weight: the gradient at that input is g, and the graph does not grow with the length.
"""
import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from mindarmour.privacy.diff_privacy.grads.layers.products import OnTaps, SumOverPositions, product_gradient
from mindarmour.privacy.diff_privacy.grads.layers.registry import LayerRule, OfChangedTaps, register_layer
from mindarmour.privacy.diff_privacy.grads.taps import TappedCell
from mindarmour.privacy.diff_privacy.operators import reshape
from mindarmour.utils.mindspore_internals import DynamicRNNRelu, copy_cell

_TAPS = 3  # of one layer in one direction: its input, the gradient at its gates, its states
UNROLLED_STEPS = 32  # the longest LSTM to be unrolled: each step adds to the time of the first call
_KINDS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")

_times_transposed = ops.MatMul(transpose_b=True)
_unstack = ops.Unstack(axis=1)
_stack = ops.Stack(axis=1)
_joined_states = ops.Concat(1)
_features = ops.Concat(-1)
_reverse = ops.ReverseV2([1])
_reverse_lengths = ops.ReverseSequence(1, 0)
_select = ops.Select()
_greater = ops.Greater()
_sigmoid = ops.Sigmoid()
_tanh = ops.Tanh()
_relu = ops.ReLU()
_expand = ops.ExpandDims()
_swap = ops.Transpose()


def tanh_step(gates, state, w_hh, b_hh):
    """One step of a tanh RNN: (new state, what the gradients need of the old one). b_hh is in `gates`."""
    return (_tanh(gates + _times_transposed(state[0], w_hh)),), state[0]


def relu_step(gates, state, w_hh, b_hh):
    """One step of a ReLU RNN."""
    return (_relu(gates + _times_transposed(state[0], w_hh)),), state[0]


def lstm_step(gates, state, w_hh, b_hh):
    """One step of an LSTM, gates in the order input, forget, cell, output."""
    hidden, cell = state
    i, f, g, o = ops.Split(1, 4)(gates + _times_transposed(hidden, w_hh))
    cell = _sigmoid(f) * cell + _sigmoid(i) * _tanh(g)
    return (_sigmoid(o) * _tanh(cell), cell), hidden


def gru_step(gates, state, w_hh, b_hh):
    """One step of a GRU, gates in the order reset, update, new; its note is the old state beside the reset gate."""
    hidden = state[0]
    inner = _times_transposed(hidden, w_hh)
    if b_hh is not None:
        inner = inner + b_hh
    x_r, x_z, x_n = ops.Split(1, 3)(gates)
    h_r, h_z, h_n = ops.Split(1, 3)(inner)
    reset = _sigmoid(x_r + h_r)
    new = _tanh(x_n + reset * h_n)
    return (new + _sigmoid(x_z + h_z) * (hidden - new),), _features((hidden, reset))


def step_of(cell):
    """The step function of a recurrent layer or cell."""
    if isinstance(cell, (nn.LSTM, nn.LSTMCell)):
        return lstm_step
    if isinstance(cell, (nn.GRU, nn.GRUCell)):
        return gru_step
    rectified = isinstance(cell.rnn, DynamicRNNRelu) if isinstance(cell, nn.RNN) else cell.nonlinearity == "relu"
    return relu_step if rectified else tanh_step


class Branch(nn.Cell):
    """One layer in one direction with its taps, unrolled over time. Tensors are batch first.

    Args:
        make (TapMaker): Makes the taps.
        step (function): One of the step functions.
    """

    def __init__(self, make, step):
        super().__init__(auto_prefix=False)
        self.input_tap, self.gates_tap, self.states_tap = make.value(), make.gradient(), make.indices()
        self.step = step
        self.adds_hidden_bias = step is not gru_step

    def construct(self, x, state, lengths, w_ih, w_hh, b_ih, b_hh):
        return self.unrolled(self.gates(x, w_ih, b_ih, b_hh), state, lengths, w_hh, b_hh)

    def unrolled(self, gates, state, lengths, w_hh, b_hh):
        """(outputs [B, T, H], last state) step by step."""
        steps = _unstack(gates)
        outputs, noted = (), ()
        for t in range(len(steps)):
            new, note = self.step(steps[t], state, w_hh, b_hh)
            output = new[0]
            if lengths is not None:
                active = _greater(lengths, t)
                output = _select(active, output, ops.zeros_like(output))
                new = _kept(active, new, state)
            state = new
            outputs += (output,)
            noted += (note,)
        return self.tapped(_stack(outputs), state, _stack(noted))

    def gates(self, x, w_ih, b_ih, b_hh):
        """[B, T, G], W_ih x_t with the biases that only add to it."""
        x = self.input_tap(x)
        gates = _times_transposed(reshape(x, (-1, x.shape[2])), w_ih)
        if b_ih is not None:
            gates = gates + (b_ih + b_hh if self.adds_hidden_bias else b_ih)
        return self.gates_tap(reshape(gates, (x.shape[0], x.shape[1], -1)))

    def tapped(self, output, state, noted):
        """Tie `noted` to the output and the last states, whichever of them the network uses."""
        ends = ()
        for value in state:
            ends += (_expand(value, 1),)
        joined = self.states_tap(_joined_states((output, *ends)), noted)
        length = output.shape[1]
        last = ()
        for i in range(len(state)):
            last += (joined[:, length + i],)
        return joined[:, :length], last


def _kept(active, new, old):
    """The states of rows whose sequence has ended stay as they are."""
    states = ()
    for a, b in zip(new, old):
        states += (_select(active, a, b),)
    return states


class LSTMBranch(Branch):
    """One LSTM layer in one direction: unrolled if short, else one operator whose input weight is the identity.

    With sequence lengths it is always unrolled (as in MindSpore), because the operator does not tell the cell state
    at a row's last step.
    """

    def __init__(self, make, hidden):
        super().__init__(make, lstm_step)
        self.identity = Tensor(np.eye(4 * hidden, dtype=np.float32).reshape(-1, 1, 1))
        self.run = ops.LSTM(4 * hidden, hidden, 1, False, False, 0.0)

    def construct(self, x, state, lengths, w_ih, w_hh, b_ih, b_hh):
        gates = self.gates(x, w_ih, b_ih, b_hh)
        if lengths is not None or x.shape[1] <= UNROLLED_STEPS:
            return self.unrolled(gates, state, lengths, w_hh, b_hh)
        return self.fused(gates, state, w_hh)

    def fused(self, gates, state, w_hh):
        """As `unrolled`, in one operator."""
        weights = ops.concat((self.identity.astype(gates.dtype), reshape(w_hh, (-1, 1, 1))))
        output, hidden, cell, _, _ = self.run(_swap(gates, (1, 0, 2)), _expand(state[0], 0), _expand(state[1], 0),
                                              weights)
        output = _swap(output, (1, 0, 2))
        return self.tapped(output, (hidden[0], cell[0]), _joined_states((_expand(state[0], 1), output[:, :-1])))


class _TappedRecurrent(TappedCell):
    def __init__(self, inner, make):
        super().__init__(inner)
        self.directions = 2 if inner.bidirectional else 1
        self.batch_first, self.layers = inner.batch_first, inner.num_layers
        self.hidden, self.is_lstm, self.has_bias = inner.hidden_size, inner.is_lstm, inner.has_bias
        self.drop = copy_cell(inner.dropout_op)
        has_fused = self.is_lstm and ms.get_context("device_target") != "Ascend"
        self.branches = nn.CellList([
            LSTMBranch(make, self.hidden) if has_fused else Branch(make, step_of(inner))
            for _ in range(self.layers * self.directions)], auto_prefix=False)

    def construct(self, x, hx=None, seq_length=None):
        if not self.batch_first:
            x = _swap(x, (1, 0, 2))
        lengths, ends = None, ()
        if seq_length is not None:
            lengths = ops.broadcast_to(reshape(seq_length.astype(ms.int32), (-1, 1)), (x.shape[0], self.hidden))
        for layer in range(self.layers):
            outputs = ()
            for direction in range(self.directions):
                output, end = self._run(layer * self.directions + direction, x, hx, seq_length, lengths)
                outputs += (output,)
                ends += (end,)
            x = outputs[0] if self.directions == 1 else _features(outputs)
            if layer < self.layers - 1:
                x = self.drop(x)
        if not self.batch_first:
            x = _swap(x, (1, 0, 2))
        return x, self._ends(ends)

    def _run(self, place, x, hx, seq_length, lengths):
        """(output, last state) of one layer in one direction."""
        backwards = self.directions == 2 and place % 2 == 1
        if backwards:
            x = self._reversed(x, seq_length)
        w_ih, w_hh = self.inner.w_ih_list[place].astype(x.dtype), self.inner.w_hh_list[place].astype(x.dtype)
        b_ih, b_hh = None, None
        if self.has_bias:
            b_ih, b_hh = self.inner.b_ih_list[place].astype(x.dtype), self.inner.b_hh_list[place].astype(x.dtype)
        output, end = self.branches[place](x, self._initial(x, hx, place), lengths, w_ih, w_hh, b_ih, b_hh)
        if backwards:
            output = self._reversed(output, seq_length)
        return output, end

    def _reversed(self, x, seq_length):
        return _reverse(x) if seq_length is None else _reverse_lengths(x, seq_length)

    def _initial(self, x, hx, place):
        if hx is None:
            zeros = ops.zeros((x.shape[0], self.hidden), x.dtype)
            return (zeros, zeros) if self.is_lstm else (zeros,)
        return (hx[0][place], hx[1][place]) if self.is_lstm else (hx[place],)

    def _ends(self, ends):
        """The last states of all layers and directions, as the layer returns them."""
        hidden, cell = (), ()
        for end in ends:
            hidden += (end[0],)
            cell += (end[-1],)
        return (ops.stack(hidden), ops.stack(cell)) if self.is_lstm else ops.stack(hidden)


class _Hidden(OfChangedTaps):
    """A gradient that takes (states, gates' gradient) after undoing how a GRU notes them: [h, r] and [r, z, n]."""

    def __init__(self, gradient, hidden):
        super().__init__(gradient)
        self.hidden = hidden

    def hold(self, noted, gates):
        size = self.hidden
        new = gates[..., 2 * size:] * noted[..., size:]
        return self.gradient.hold(noted[..., :size], _features((gates[..., :2 * size], new)))


def branch_gradient(cell, kind, shapes, first, units):
    """The `UnitGradient` of one of `_KINDS`.

    Args:
        cell (Cell): Recurrent layer or cell.
        kind (str): Which Parameter.
        shapes (tuple[tuple]): Shapes of the taps.
        first (int): Place of the first tap of its branch.
        units (int): Units.
    """
    (rows, steps, inputs), gates = shapes[first], shapes[first + 1]
    positions, hidden = rows // units * steps, cell.hidden_size
    if kind == "bias_ih":
        return OnTaps(SumOverPositions(units, gates[-1:], gates), (first + 1,))
    if kind == "weight_ih":
        gradient = product_gradient(units, positions, inputs, gates[-1], (gates[-1], inputs))
        return OnTaps(gradient, (first, first + 1))
    if kind == "weight_hh":
        gradient = product_gradient(units, positions, hidden, gates[-1], (gates[-1], hidden))
    else:
        gradient = SumOverPositions(units, gates[-1:], gates)
    is_gru = isinstance(cell, (nn.GRU, nn.GRUCell))
    return OnTaps(_Hidden(gradient, hidden) if is_gru else gradient, (first + 2, first + 1))


@register_layer(nn.RNN, nn.GRU, nn.LSTM)
class RecurrentRule(LayerRule):
    """`nn.RNN`, `nn.GRU` and `nn.LSTM`."""

    @classmethod
    def parameters_of(cls, cell):
        lists = zip(_KINDS, (cell.w_ih_list, cell.w_hh_list, cell.b_ih_list, cell.b_hh_list))
        return {f"{kind}.{i}": parameter for kind, found in lists for i, parameter in enumerate(found)}

    @classmethod
    def tapped(cls, cell, make):
        return _TappedRecurrent(cell, make)

    @classmethod
    def gradient(cls, name, cell, shapes, units):
        kind, place = name.split(".")
        return branch_gradient(cell, kind, shapes, _TAPS * int(place), units)


class _TappedStep(TappedCell):
    """A recurrent cell, which is a layer of one step."""

    def __init__(self, inner, make):
        super().__init__(inner)
        self.is_lstm = isinstance(inner, nn.LSTMCell)
        self.branch = Branch(make, step_of(inner))

    def construct(self, x, hx):
        cell = self.inner
        state = hx if self.is_lstm else (hx,)
        _, last = self.branch(_expand(x, 1), state, None, cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh)
        return last if self.is_lstm else last[0]


@register_layer(nn.RNNCell, nn.GRUCell, nn.LSTMCell)
class RecurrentCellRule(LayerRule):
    """`nn.RNNCell`, `nn.GRUCell` and `nn.LSTMCell`, called once in a forward pass."""

    parameter_names = _KINDS
    fix_for_several_calls = "Or use nn.RNN, nn.GRU or nn.LSTM, which run over the steps themselves."

    @classmethod
    def tapped(cls, cell, make):
        return _TappedStep(cell, make)

    @classmethod
    def gradient(cls, name, cell, shapes, units):
        return branch_gradient(cell, name, shapes, 0, units)
