"""Compare the ghost engine with the plain loop on one layer or one network."""
import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from mindarmour.privacy.diff_privacy.clipping.rules import FlatClipping
from mindarmour.privacy.diff_privacy.grads.ghost.engine import GhostEngine
from mindarmour.privacy.diff_privacy.grads.loop import LoopEngine

TOLERANCE = 1e-5
GRAM_TOLERANCE = 2e-4  # the Gram form adds a margin for what rounding may take from it


class LossOf(nn.Cell):
    """A layer under a smooth loss per row that treats every output differently."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def construct(self, x):
        y = self.layer(x)
        y = y.reshape(y.shape[0], -1)
        place = ops.arange(y.shape[1]).astype(ms.float32)
        return (ops.tanh(y) * ops.cos(place + 0.3 * y)).sum(axis=1)


def randomise(layer, seed=0, scale=0.5):
    """Draw the layer's Parameters anew, so that zero biases and unit scales hide nothing."""
    rng = np.random.default_rng(seed)
    for parameter in layer.get_parameters():
        parameter.set_data(Tensor((rng.normal(size=parameter.shape) * scale).astype(np.float32)))
    return layer


def both_engines(network, loss_fn, columns, units, mask=None, bound=1.0, rule=None):
    """(ghost result, loop result) as NumPy: (totals, norms, loss, bad)."""
    rows = columns[0].shape[0]
    mask = Tensor(np.ones(rows, np.float32) if mask is None else np.asarray(mask, np.float32))
    rule = rule or FlatClipping()
    results = []
    for engine in (GhostEngine(network, loss_fn, rule, units, columns), LoopEngine(network, loss_fn, rule, units)):
        engine.set_train()
        # engines clip at a bound that is smaller by what their own sums may round off
        totals, norms, loss, bad = engine(Tensor(bound / engine.shrink, ms.float32), mask, *columns)
        results.append(([t.asnumpy() for t in totals], norms.asnumpy(), float(loss), float(bad)))
    return results


def assert_exact(network, loss_fn, columns, units, mask=None, bound=1.0, tolerance=TOLERANCE):
    """Ghost and loop agree: clipped sum within `tolerance` of its own norm, norms and loss likewise."""
    ghost, loop = both_engines(network, loss_fn, columns, units, mask, bound)
    whole = np.sqrt(sum((b ** 2).sum() for b in loop[0]))
    assert whole > 0
    for parameter, a, b in zip(network.trainable_params(), ghost[0], loop[0]):
        assert a.shape == b.shape == tuple(parameter.shape)
        assert np.linalg.norm(a - b) <= tolerance * whole, parameter.name
    np.testing.assert_allclose(ghost[1], loop[1], rtol=tolerance, atol=1e-6 * loop[1].max())
    assert abs(ghost[2] - loop[2]) <= 1e-5 * max(1.0, abs(loop[2]))
    assert ghost[3] == loop[3]


def assert_layer_exact(layer, inputs, units, mask=None, bound=1.0, tolerance=TOLERANCE):
    """`assert_exact` for one layer with random Parameters."""
    assert_exact(LossOf(randomise(layer)), None, (Tensor(inputs),), units, mask, bound, tolerance)
