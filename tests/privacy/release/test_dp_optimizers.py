"""DPSGD, DPAdam and the amortized sanitizer: clipping, noise scale, events, and the base optimizers behind them."""
import math

import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, Tensor, nn
from scipy import stats

from mindarmour.privacy.accounting import Ledger, Sampling, privacy_spent
from mindarmour.privacy.accounting.legacy import AmortizedAccountant, GaussianMomentsAccountant
from mindarmour.privacy.diff_privacy import clipped_gradient_fn
from mindarmour.privacy.errors import PrivacyWarning
from mindarmour.privacy.release import DPSGD, AmortizedGaussianSanitizer, DPAdam

SCALES = pytest.mark.parametrize("wrong, accepted", [(1.0, True), (0.7, False), (1.3, False)])
SILENT = 1e-7  # a noise scale whose noise is invisible


def _parameters(*shapes):
    rng = np.random.default_rng(0)
    return [Parameter(Tensor(rng.normal(size=shape).astype(np.float32)), name=f"w{i}")
            for i, shape in enumerate(shapes)]


def _zeros(*shapes):
    return tuple(Tensor(np.zeros(shape, np.float32)) for shape in shapes)


def _clipped(rows=8, norm_bound=1.0, micro_batches=None):
    network = nn.Dense(99, 7)
    loss_fn = nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean")
    gradient_fn = clipped_gradient_fn(network, loss_fn, norm_bound, micro_batches, engine="loop")
    rng = np.random.default_rng(1)
    features = Tensor(rng.normal(size=(rows, 99)).astype(np.float32))
    return network, gradient_fn(features, Tensor(np.arange(rows, dtype=np.int32) % 2))


@SCALES
def test_noise_has_the_stated_scale(mode, wrong, accepted):
    params = _parameters((60, 50), (40,))
    before = [p.asnumpy().copy() for p in params]
    DPSGD(params, 1.0, noise_scale=1.5, norm_bound=2.0)(_zeros((60, 50), (40,)))
    noise = np.concatenate([(b - p.asnumpy()).ravel() for b, p in zip(before, params)])
    assert (stats.kstest(noise, stats.norm(scale=wrong * 3.0).cdf).pvalue > 1e-4) == accepted


def test_the_whole_gradient_is_clipped_as_one_vector(mode):
    params = _parameters((3,), (2, 2))
    before = [p.asnumpy().copy() for p in params]
    optimizer = DPSGD(params, 1.0, noise_scale=SILENT, norm_bound=0.5)
    optimizer((Tensor(np.full(3, 3, np.float32)), Tensor(np.full((2, 2), -4, np.float32))))
    moved = np.concatenate([(b - p.asnumpy()).ravel() for b, p in zip(before, params)])
    expected = np.array([3] * 3 + [-4] * 4) / math.sqrt(3 * 9 + 4 * 16) * 0.5
    np.testing.assert_allclose(moved, expected, atol=1e-5)
    before = params[0].asnumpy().copy()
    optimizer((Tensor(np.full(3, 1e-2, np.float32)), Tensor(np.zeros((2, 2), np.float32))))
    np.testing.assert_allclose(before - params[0].asnumpy(), 1e-2, atol=1e-5)  # short gradients stay


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_contributes_zero(bad):
    params = _parameters((3,))
    before = params[0].asnumpy().copy()
    DPSGD(params, 1.0, noise_scale=SILENT, norm_bound=1.0)((Tensor(np.array([1, bad, 0], np.float32)),))
    np.testing.assert_allclose(params[0].asnumpy(), before, atol=1e-5)


def test_batches_are_recorded_with_twice_the_bound():
    params = _parameters((3,))
    sampling = Sampling("poisson", 1000, 50, "add-or-remove")
    optimizer = DPSGD(params, 0.1, noise_scale=1.5, norm_bound=2.0, sampling=sampling)
    for _ in range(3):
        optimizer(_zeros((3,)))
    entry, = optimizer.ledger.entries
    assert (entry.steps, entry.event.sensitivity, entry.event.noise_multiplier) == (3, 2.0, 1.5)
    assert entry.event.sampling == sampling and "one vector" in entry.event.note
    assert entry.event.noise_source == "secure"


def test_neighbouring_batches_move_by_at_most_the_recorded_sensitivity():
    rng = np.random.default_rng(4)
    moves = []
    for scale in (0.01, 1, 100):
        first, second = rng.normal(size=(2, 5)) * scale
        ends = []
        for gradient in (first, second if scale < 100 else -first):
            params = _parameters((5,))
            DPSGD(params, 1.0, noise_scale=SILENT, norm_bound=1.0)((Tensor(gradient.astype(np.float32)),))
            ends.append(params[0].asnumpy())
        moves.append(np.linalg.norm(ends[0] - ends[1]))
    assert max(moves) <= 2.0 + 1e-5 and max(moves) > 1.99


@SCALES
def test_clipped_sums_get_noise_for_one_example_and_the_public_divisor(wrong, accepted):
    network, clipped = _clipped()
    optimizer = DPSGD(network.trainable_params(), 1.0, noise_scale=4.0, norm_bound=1.0,
                      sampling=Sampling("poisson", 100, 5, "add-or-remove"))
    noise = []
    for _ in range(4):
        before = [p.asnumpy().copy() for p in network.trainable_params()]
        optimizer(clipped)
        noise += [(b - p.asnumpy() - t.asnumpy() / 5).ravel()
                  for b, p, t in zip(before, network.trainable_params(), clipped.total)]
    assert (stats.kstest(np.concatenate(noise), stats.norm(scale=wrong * 4.0 / 5).cdf).pvalue > 1e-4) == accepted
    entry, = optimizer.ledger.entries
    assert (entry.steps, entry.event.sensitivity, entry.event.unit) == (4, 1.0, "example")


def test_micro_batches_are_recorded_as_what_they_are():
    network, clipped = _clipped(micro_batches=4)
    optimizer = DPSGD(network.trainable_params(), 0.1, noise_scale=1.0, norm_bound=1.0,
                      sampling=Sampling("poisson", 100, 8, "add-or-remove"))
    optimizer(clipped)
    event = optimizer.ledger.entries[0].event
    assert (event.sensitivity, event.sampling.relation) == (2.0, "zero-out")
    assert event.unit == "micro-batch of 2 examples"


@pytest.mark.parametrize("private, plain", [
    (lambda p: DPSGD(p, 0.1, 0.9, 0.0, 0.01, True, SILENT, 1e3), lambda p: nn.SGD(p, 0.1, 0.9, 0.0, 0.01, True)),
    (lambda p: DPSGD(p, 0.1, 0.5, 0.2, noise_scale=SILENT, norm_bound=1e3), lambda p: nn.SGD(p, 0.1, 0.5, 0.2)),
    (lambda p: DPAdam(p, 0.01, 0.8, 0.99, 1e-7, 0.02, noise_scale=SILENT, norm_bound=1e3),
     lambda p: nn.Adam(p, 0.01, 0.8, 0.99, 1e-7, weight_decay=0.02)),
    (lambda p: DPAdam(p, use_amsgrad=True, noise_scale=SILENT, norm_bound=1e3),
     lambda p: nn.Adam(p, use_amsgrad=True))])
def test_without_noise_to_speak_of_they_are_the_base_optimizer(private, plain):
    ours, theirs = _parameters((4, 3), (3,)), _parameters((4, 3), (3,))
    private, plain = private(ours), plain(theirs)
    rng = np.random.default_rng(2)
    for _ in range(4):
        gradients = tuple(Tensor(rng.normal(size=p.shape).astype(np.float32)) for p in ours)
        private(gradients)
        plain(gradients)
    for a, b in zip(ours, theirs):
        np.testing.assert_allclose(a.asnumpy(), b.asnumpy(), rtol=2e-4, atol=2e-4)


def test_compiling_an_optimizer_into_a_step_fails_closed():
    ms.set_context(mode=ms.GRAPH_MODE)
    network = nn.WithLossCell(nn.Dense(3, 2), nn.MSELoss())
    for optimizer in (DPSGD(network.trainable_params(), 0.1), DPAdam(network.trainable_params())):
        with pytest.raises(RuntimeError, match="outside compiled code"):
            nn.TrainOneStepCell(network, optimizer)(*_zeros((4, 3), (4, 2)))
    ms.set_context(mode=ms.PYNATIVE_MODE)


@pytest.mark.parametrize("kind", [DPSGD, DPAdam])
@pytest.mark.parametrize("arguments, name", [
    ({"noise_scale": 0.0}, "noise_scale"), ({"noise_scale": -1.0}, "noise_scale"),
    ({"noise_scale": math.nan}, "noise_scale"), ({"norm_bound": 0.0}, "norm_bound"),
    ({"norm_bound": math.inf}, "norm_bound"), ({"norm_bound": "1"}, "norm_bound"), ({"sampling": 1}, "sampling"),
    ({"ledger": []}, "ledger")])
def test_optimizers_refuse_bad_arguments(kind, arguments, name):
    with pytest.raises((TypeError, ValueError), match=name):
        kind(_parameters((3,)), 0.1, **arguments)


def test_optimizers_refuse_gradients_that_do_not_fit():
    network, clipped = _clipped()
    optimizer = DPSGD(network.trainable_params(), 0.1, noise_scale=1.0, norm_bound=2.0)
    with pytest.raises(ValueError, match="2.0 and 1.0"):
        optimizer(clipped)
    with pytest.raises(ValueError, match="shapes of the parameters"):
        optimizer(_zeros((7, 99)))
    with pytest.raises(TypeError, match="tuple or ClippedSum"):
        optimizer(Tensor(np.zeros(3, np.float32)))
    assert optimizer.ledger.steps == 0


@SCALES
def test_sanitizer_noise_has_the_scale_of_its_budget(wrong, accepted):
    sanitizer = AmortizedGaussianSanitizer(AmortizedAccountant(100), eps=1.0, delta=1e-7, norm_bound=2.0)
    noise, = sanitizer.sanitize((np.zeros((4, 3000), np.float32),))
    law = stats.norm(scale=wrong * 2.0 * math.sqrt(2 * math.log(1.25e7)))
    assert (stats.kstest(noise.asnumpy(), law.cdf).pvalue > 1e-4) == accepted


def test_sanitizer_clips_every_example_over_all_parameters():
    sanitizer = AmortizedGaussianSanitizer(AmortizedAccountant(10), norm_bound=1.0, sigma=SILENT)
    first, second = sanitizer.sanitize((np.array([[3.0], [0.1], [math.nan]], np.float32),
                                        Tensor(np.array([[4.0], [0.2], [1.0]], np.float32))))
    np.testing.assert_allclose([float(first), float(second)], [0.6 + 0.1, 0.8 + 0.2], atol=1e-5)


def test_sanitizer_tells_its_accountant_and_its_ledger():
    network, clipped = _clipped()
    sampling, ledger = Sampling("poisson", 100, 8, "add-or-remove"), Ledger()
    for accountant in (AmortizedAccountant(100), GaussianMomentsAccountant(100)):
        sanitizer = AmortizedGaussianSanitizer(accountant, norm_bound=1.0, sampling=sampling, ledger=ledger)
        sanitizer.sanitize(clipped)
        assert 0 < accountant.get_privacy_spent(target_delta=1e-5).epsilon < 1.2
    entry, = ledger.entries
    assert (entry.steps, entry.event.sampling, entry.event.sensitivity) == (2, sampling, 1.0)
    assert entry.event.noise_multiplier == sanitizer.sigma == math.sqrt(2 * math.log(1.25e7))


def test_sanitizer_warns_where_its_formula_was_never_proven():
    with pytest.warns(PrivacyWarning, match="above 1"):
        AmortizedGaussianSanitizer(AmortizedAccountant(10), eps=4.0)


@pytest.mark.parametrize("arguments, name", [
    ({"eps": 0.0}, "eps"), ({"eps": -1.0}, "eps"), ({"delta": 0.0}, "delta"), ({"delta": 1.0}, "delta"),
    ({"norm_bound": -1.0}, "norm_bound"), ({"sigma": 0.0}, "sigma"), ({"sampling": 3}, "sampling"),
    ({"ledger": 3}, "ledger"), ({"accountant": None}, "accountant")])
def test_sanitizer_refuses_bad_arguments(arguments, name):
    with pytest.raises((TypeError, ValueError), match=name):
        AmortizedGaussianSanitizer(**{"accountant": AmortizedAccountant(10), **arguments})


def test_sanitizer_refuses_gradients_that_do_not_fit():
    sanitizer = AmortizedGaussianSanitizer(AmortizedAccountant(10), norm_bound=2.0)
    for bad, text in [((np.zeros((2, 3)), np.zeros((3, 3))), "common B"), (np.zeros((2, 3)), "gradients"),
                      ((np.float32(1),), "common B"), (_clipped()[1], "norm_bound = 2.0")]:
        with pytest.raises((TypeError, ValueError), match=text):
            sanitizer.sanitize(bad)
    assert sanitizer.ledger.steps == 0


@pytest.mark.parametrize("entry, bound, size", [(1e-20, 1e-22, 4), (1e-23, 1e-25, 4), (5e-20, 1e-18, 10 ** 4),
                                                (1e-10, 1e-30, 7), (1e38, 1e-20, 100), (3e38, 1.0, 1000),
                                                (1e20, 1e29, 10), (0.001, 1.0, 2 * 10 ** 6)])
def test_every_bound_that_is_accepted_is_kept(entry, bound, size, mode):
    weights = Parameter(Tensor(np.zeros(size, np.float32)), name="w")
    noise = 2.0 ** -99 / bound if bound < 1e-24 else 1e-6 / math.sqrt(size)
    optimizer = DPSGD([weights], 1.0, noise_scale=noise, norm_bound=bound)
    optimizer((Tensor(np.full(size, entry, np.float32)),))
    moved = np.linalg.norm(weights.asnumpy().astype(float))
    clipped = min(bound, float(np.float32(entry)) * math.sqrt(size))
    assert moved <= bound * 1.001 + 9 * noise * bound * math.sqrt(size)
    assert moved >= 0.99 * clipped or entry / bound > 1e37


@pytest.mark.parametrize("bound, noise", [(1e-31, 1.0), (1e31, 1.0), (1.0, 1e-31), (1e20, 1e20)])
def test_bounds_that_float32_cannot_carry_are_refused(bound, noise):
    with pytest.raises(ValueError, match="norm_bound"):
        DPSGD(_parameters((3,)), 0.1, noise_scale=noise, norm_bound=bound)


@pytest.mark.parametrize("sigma", [0.5, 0.05])
def test_sanitizer_refuses_noise_that_contradicts_its_budget(sigma):
    with pytest.raises(ValueError, match="sigma must give a step at most eps"):
        AmortizedGaussianSanitizer(AmortizedAccountant(8), eps=1.0, delta=1e-7, sigma=sigma)


@pytest.mark.parametrize("sigma, sampling", [
    (0.05, None), (1.0, Sampling("shuffle", 100, 10, "zero-out", steps_per_epoch=10)),
    (1.0, Sampling("poisson", 100, 10, "replace-one"))])
def test_the_accountant_states_no_less_than_the_ledger_where_nothing_amplifies(sigma, sampling):
    for accountant in (AmortizedAccountant(100), GaussianMomentsAccountant(100)):
        sanitizer = AmortizedGaussianSanitizer(accountant, delta=1e-7, sampling=sampling, sigma=sigma)
        sanitizer.sanitize((np.ones((10, 3), np.float32),))
        spent = accountant.get_privacy_spent(target_delta=1e-5)
        assert spent.epsilon >= privacy_spent(sanitizer.ledger.entries, 1e-5).epsilon * (1 - 1e-9)


def test_accountant_and_sampling_must_agree_about_the_examples():
    with pytest.raises(ValueError, match="total_examples"):
        AmortizedGaussianSanitizer(GaussianMomentsAccountant(60_000), sigma=1.0,
                                   sampling=Sampling("poisson", 4000, 400, "add-or-remove"))
