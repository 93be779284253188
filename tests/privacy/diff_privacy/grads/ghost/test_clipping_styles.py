"""Per-layer and automatic clipping: their formulas, their sensitivity, and that engines agree under them."""
import math

import mindspore as ms
import numpy as np
import pytest
from ghost_oracle import both_engines
from mindspore import Tensor, nn

from mindarmour.privacy.accounting.events import REPLACE_ONE, ZERO_OUT
from mindarmour.privacy.diff_privacy.clipping.rules import AutomaticClipping, PerLayerClipping

BOUND = 0.7


@pytest.fixture(autouse=True)
def eager():
    ms.set_context(mode=ms.PYNATIVE_MODE)


def apply(rule, gradients, bound=BOUND):
    """Clip gradients [units, parameters, size] by a rule; returns (clipped, norms)."""
    squares = tuple(Tensor((gradients[:, i] ** 2).sum(1)) for i in range(gradients.shape[1]))
    factors, norms = rule(squares, Tensor(bound, ms.float32))
    return gradients * np.stack([f.asnumpy() for f in factors], 1)[:, :, None], norms.asnumpy()


def gradients(scale, units=200):
    return (np.random.default_rng(0).normal(size=(units, 4, 3)) * scale).astype(np.float32)


RULES = [PerLayerClipping([0, 0, 1, 1]), PerLayerClipping([0, 1, 2, 0], [1, 5, 0.1]), PerLayerClipping([0] * 4),
         AutomaticClipping(), AutomaticClipping(1.0)]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("scale", [0.2, 1e4])
def test_no_unit_exceeds_the_bound(rule, scale):
    clipped, norms = apply(rule, gradients(scale))
    whole = np.sqrt((clipped ** 2).sum((1, 2)))
    assert np.all(whole <= BOUND * (1 + 1e-5))
    np.testing.assert_allclose(norms, np.sqrt((gradients(scale) ** 2).sum((1, 2))), rtol=1e-5)
    if scale == 1e4:
        assert whole.max() >= BOUND * 0.98  # the stated sensitivity is reached


def test_per_layer_formula():
    rule = PerLayerClipping([0, 1, 1, 0], [3, 4])
    raw = gradients(1.0)
    clipped, _ = apply(rule, raw)
    for members, share in (((0, 3), 0.6), ((1, 2), 0.8)):
        part = raw[:, members]
        norm = np.sqrt((part ** 2).sum((1, 2), keepdims=True))
        np.testing.assert_allclose(clipped[:, members], part * np.minimum(1, share * BOUND / norm), rtol=1e-4)


def test_automatic_formula():
    raw = gradients(0.1)
    clipped, norms = apply(AutomaticClipping(0.05), raw)
    np.testing.assert_allclose(clipped, raw * (BOUND / (norms + 0.05))[:, None, None], rtol=1e-4)


@pytest.mark.parametrize("rule", RULES)
def test_a_unit_that_is_not_finite_gets_factor_zero(rule):
    raw = gradients(1.0)
    squares = tuple(Tensor((raw[:, i] ** 2).sum(1)) for i in range(4))
    broken = squares[2].asnumpy().copy()
    broken[0], broken[1] = np.nan, np.inf
    factors, _ = rule((squares[0], squares[1], Tensor(broken), squares[3]), Tensor(BOUND, ms.float32))
    for factor in factors:
        assert np.all(factor.asnumpy()[:2] == 0) and np.all(factor.asnumpy()[2:] > 0)


@pytest.mark.parametrize("rule", RULES)
def test_stated_sensitivity(rule):
    assert rule.sensitivity(1, ZERO_OUT) == 1.0
    assert rule.sensitivity(1, REPLACE_ONE) == rule.sensitivity(4, ZERO_OUT) == 2.0


@pytest.mark.parametrize("style", ["layers", "automatic"])
def test_ghost_equals_the_loop_and_neighbours_stay_close(style):
    network = nn.SequentialCell(nn.Dense(4, 5), nn.Tanh(), nn.Dense(5, 3))
    rule = PerLayerClipping.of_layers(network, [1, 2]) if style == "layers" else AutomaticClipping()
    rng = np.random.default_rng(0)
    columns = (Tensor(rng.normal(size=(4, 4)).astype(np.float32) * 9), Tensor(rng.integers(0, 3, 4).astype(np.int32)))
    loss_fn = nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean")
    whole, loop = both_engines(network, loss_fn, columns, 4, bound=0.1, rule=rule)
    for a, b in zip(whole[0], loop[0]):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    for row in range(4):
        less, _ = both_engines(network, loss_fn, columns, 4, mask=np.arange(4) != row, bound=0.1, rule=rule)
        moved = math.sqrt(sum(((a - b) ** 2).sum() for a, b in zip(whole[0], less[0])))
        assert 0 < moved <= 0.1 * rule.sensitivity(1, ZERO_OUT) * (1 + 1e-5)


@pytest.mark.parametrize("groups, shares, error", [
    ([], None, ValueError), ([1, 2], None, ValueError), ([0, 2], None, ValueError), ([-1, 0], None, ValueError),
    ([0.0], None, TypeError), ([0], [1, 1], ValueError), ([0], [0], ValueError), ([0], [math.nan], ValueError),
    ([0], [math.inf], ValueError), ([0], ["1"], TypeError), ([True], None, TypeError)])
def test_bad_groups_and_shares(groups, shares, error):
    with pytest.raises(error, match="groups|shares"):
        PerLayerClipping(groups, shares)


@pytest.mark.parametrize("stability, error", [
    (0, ValueError), (-1.0, ValueError), (math.nan, ValueError), (math.inf, ValueError), ("1", TypeError),
    (True, TypeError)])
def test_bad_stability(stability, error):
    with pytest.raises(error, match="stability"):
        AutomaticClipping(stability)


def test_layers_need_a_network():
    with pytest.raises(TypeError, match="network"):
        PerLayerClipping.of_layers("network")
