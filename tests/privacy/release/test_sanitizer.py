"""ModelSanitizer: what is shared, what it costs, what it refuses, and an audit of it."""
import math
import warnings

import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, Tensor, nn
from scipy import stats

from mindarmour.privacy.accounting import Ledger
from mindarmour.privacy.accounting.events import basic_composition
from mindarmour.privacy.errors import PrivacyWarning
from mindarmour.privacy.release import ModelSanitizer


def _model(*arrays):
    return {f"w{i}": Parameter(Tensor(np.asarray(a)), name=f"w{i}") for i, a in enumerate(arrays)}


def _shift(model, amount):
    for parameter in model.values():
        parameter.set_data(Tensor(parameter.asnumpy() + np.asarray(amount, parameter.asnumpy().dtype)))


def test_shares_the_stated_proportion_and_leaves_the_rest_at_the_base():
    base = _model(np.zeros((30, 20), np.float32), np.ones(400, np.float32))
    sanitizer = ModelSanitizer(epochs=2, eps1=1.0, eps3=1.0, release_proportion=0.4, base_model=base)
    _shift(base, 0.7)
    assert sanitizer.sanitize(base) == 400
    changed = np.concatenate([(p.asnumpy() - sanitizer.base_model[name]).ravel() for name, p in base.items()])
    assert (changed != 0).sum() == 400
    assert np.abs(changed).max() <= 2 * 0.5 + 1e-6  # two epochs times gamma


def test_without_noise_to_speak_of_the_update_comes_through():
    base = _model(np.zeros(100, np.float32))
    sanitizer = ModelSanitizer(3, eps1=1e9, eps2=1e9, eps3=1e9, release_proportion=0.5, base_model=base)
    base["w0"].set_data(Tensor(np.repeat([0.9, 0.03], 50).astype(np.float32)))
    assert sanitizer.sanitize(base) == 50
    np.testing.assert_allclose(base["w0"].asnumpy(), np.repeat([0.9, 0.0], 50), atol=1e-4)


def test_network_cells_and_whole_numbers():
    network = nn.SequentialCell(nn.Dense(6, 4), nn.BatchNorm1d(4))
    network.insert_param_to_cell("counter", Parameter(Tensor(np.array([3], np.int32)), name="counter"))
    sanitizer = ModelSanitizer(1, 1.0, 1.0, release_proportion=0.9)
    sanitizer.base_model = network
    network.counter.set_data(Tensor(np.array([7], np.int32)))
    sanitizer.sanitize(network)
    assert network.counter.asnumpy() == 3  # nothing passes unprotected


@pytest.mark.parametrize("kind", [ms.float16, ms.bfloat16, ms.float64])
def test_other_float_types_keep_their_type(kind):
    model = {"w": Parameter(Tensor(np.zeros(50, np.float32)).astype(kind), name="w")}
    sanitizer = ModelSanitizer(1, 1.0, 1.0, base_model=model)
    sanitizer.sanitize(model)
    assert model["w"].dtype == kind


def test_default_eps2_is_the_documented_formula():
    sanitizer = ModelSanitizer(1, eps1=0.5, eps3=2.0, release_proportion=0.3, sensitivity=1.5)
    assert sanitizer.eps2 == pytest.approx((2 * 0.3 * 1.5) ** (2 / 3) * 0.5)
    assert sanitizer.epsilon == pytest.approx(0.5 + sanitizer.eps2 + 2.0)


def test_every_call_counts_in_the_ledger():
    ledger = Ledger()
    base = _model(np.zeros(50, np.float32))
    sanitizer = ModelSanitizer(1, 1.0, 1.0, eps2=1.0, base_model=base, ledger=ledger)
    for _ in range(3):
        sanitizer.sanitize(base)
    assert ledger.steps == 3 and len(ledger.entries) == 1
    assert basic_composition(ledger.entries) == (9.0, 0.0)


def test_a_proportion_of_nothing_restores_the_base_for_free():
    base = _model(np.zeros(50, np.float32))
    sanitizer = ModelSanitizer(1, 1.0, 1.0, release_proportion=0.0, base_model=base)
    _shift(base, 1.0)
    assert sanitizer.sanitize(base) == 0
    assert not base["w0"].asnumpy().any() and sanitizer.ledger.steps == 0


def test_the_base_is_a_copy():
    base = _model(np.zeros(10, np.float32))
    sanitizer = ModelSanitizer(1, 1.0, 1.0, base_model=base)
    _shift(base, 1.0)
    sanitizer.base_model["w0"][:] = 5
    assert not sanitizer.base_model["w0"].any()


def test_published_form_warns_and_states_infinity():
    with pytest.warns(PrivacyWarning, match="infinity"):
        sanitizer = ModelSanitizer(1, 1.0, 1.0, form="published", base_model=_model(np.zeros(50, np.float32)))
    sanitizer.sanitize(_model(np.ones(50, np.float32)))
    assert math.isinf(sanitizer.epsilon) and math.isfinite(sanitizer.claimed_epsilon)
    assert math.isinf(basic_composition(sanitizer.ledger.entries)[0])


@pytest.mark.parametrize("argument, value", [
    ("epochs", 0), ("epochs", 1.5), ("epochs", True),
    ("eps1", 0), ("eps1", -1.0), ("eps1", math.nan), ("eps1", "1"),
    ("eps2", -1.0), ("eps2", 0), ("eps2", math.inf),
    ("eps3", 0.0), ("eps3", -0.1), ("eps3", None),
    ("release_proportion", -0.1), ("release_proportion", 1.0), ("release_proportion", math.nan),
    ("sensitivity", 0), ("sensitivity", -1), ("sensitivity", math.inf), ("sensitivity", 0.9),
    ("gamma", 0), ("gamma", -0.5), ("gamma", 0.6), ("tau", -0.1), ("tau", math.nan), ("tau", "high"),
    ("form", "fast"), ("ledger", []), ("base_model", 3), ("base_model", {}), ("base_model", {"w": 1.0}),
])
def test_refuses_bad_arguments_by_name(argument, value):
    arguments = {"epochs": 1, "eps1": 1.0, "eps3": 1.0, argument: value}
    with pytest.raises((TypeError, ValueError), match=argument):
        ModelSanitizer(**arguments)


def test_refuses_models_that_do_not_match():
    sanitizer = ModelSanitizer(1, 1.0, 1.0)
    with pytest.raises(ValueError, match="base_model is not set"):
        sanitizer.sanitize(_model(np.zeros(3, np.float32)))
    sanitizer.base_model = _model(np.zeros(3, np.float32))
    for wrong, text in [(_model(np.zeros(4, np.float32)), "w0"), (_model(np.zeros(3, np.float16)), "float16"),
                        (_model(np.zeros(3, np.float32), np.zeros(3, np.float32)), "unknown parameters"),
                        ({"other": Parameter(Tensor(np.zeros(3, np.float32)))}, "missing parameters")]:
        with pytest.raises(ValueError, match=text):
            sanitizer.sanitize(wrong)
    assert sanitizer.ledger.steps == 0
    with pytest.raises(ValueError, match="NaN"):
        sanitizer.base_model = _model(np.array([0, math.nan, 0], np.float32))
    with pytest.raises(TypeError, match="Parameters only"):
        sanitizer.sanitize({"w0": Tensor(np.zeros(3, np.float32))})


def _audit(guesses_right, guesses):
    """One-run lower bound on epsilon, 99 % confidence: each canary is guessed right with at most
    e**eps / (1 + e**eps), independently bounded (Steinke, Nasr, Jagielski 2023, theorem 5.2 with delta 0)."""
    probability = stats.beta.ppf(0.01, guesses_right, guesses - guesses_right + 1)
    return math.log(probability / (1 - probability))


def _one_run(form, size, budget, clients=1500):
    """Each client's update is all +size or all -size; guess which from the sum of what it shared."""
    rng = np.random.default_rng(11)
    base = _model(np.zeros(3, np.float32))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PrivacyWarning)
        sanitizer = ModelSanitizer(1, budget / 8, budget * 3 / 4, eps2=budget / 8, release_proportion=0.4,
                                   base_model=base, form=form)
    right = guesses = 0
    for sign in rng.choice([-1, 1], clients):
        model = _model(np.full(3, sign * size, np.float32))
        sanitizer.sanitize(model)
        seen = model["w0"].asnumpy().sum()
        right += int(seen * sign > 0)
        guesses += int(seen != 0)
    return _audit(right, guesses)


def test_one_run_audit_stays_below_the_stated_epsilon_and_has_power():
    assert _one_run("sound", 50.0, 2.0) < 2.0
    assert _one_run("sound", 50.0, 6.0) > 2.0  # a sanitizer that spent three times as much would be caught


def test_one_run_audit_catches_the_published_form():
    assert _one_run("published", 50.0, 2.0) > 2.0


def test_an_update_that_diverged_is_no_refusal():
    base = _model(np.zeros(4, np.float32))
    sanitizer = ModelSanitizer(1, 1e5, 1e5, eps2=1e5, release_proportion=0.9, tau=0.3, base_model=base)
    diverged = _model(np.array([math.nan, math.inf, -math.inf, 0], np.float32))
    assert sanitizer.sanitize(diverged) == 2
    np.testing.assert_allclose(diverged["w0"].asnumpy(), [0, 0.5, -0.5, 0], atol=1e-3)
    assert sanitizer.ledger.steps == 1


class _Normalised(nn.Cell):
    """A network with a statistic that must stay positive, once by class and once by a name of one's own."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(64)
        self.running_var = Parameter(Tensor(np.full(64, 2.0, np.float32)), name="running_var")
        self.spread = Parameter(Tensor(np.full(64, 2.0, np.float32)), name="spread", requires_grad=False)


def test_variances_stay_positive_and_means_do_not():
    network = _Normalised()
    base = ModelSanitizer(1, 1.0, 1.0, base_model=network).base_model
    ModelSanitizer(epochs=30, eps1=1.0, eps3=1.0, release_proportion=0.9, base_model=network).sanitize(network)
    for name in ("norm.moving_variance", "running_var", "spread"):
        values = network.parameters_dict()[name].asnumpy()
        assert (values >= 0.1 * base[name]).all() and (values == np.float32(0.1) * base[name]).any(), name
    assert (network.norm.moving_mean.asnumpy() < 0).any()
    network.norm.set_train(False)
    assert np.isfinite(network.norm(Tensor(np.ones((1, 64, 2, 2), np.float32))).asnumpy()).all()


@pytest.mark.parametrize("mode", [ms.GRAPH_MODE, ms.PYNATIVE_MODE])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_a_sanitized_model_goes_on_training(mode, dtype):
    ms.set_context(mode=mode)
    weights = Parameter(Tensor(np.zeros(8, dtype)), name="w0")
    optimizer = nn.Momentum([weights], 0.5, 0.9)
    optimizer((Tensor(np.ones(8, dtype)),))
    ModelSanitizer(1, 1.0, 1.0, base_model={"w0": weights}).sanitize({"w0": weights})
    shared = weights.asnumpy().copy()
    optimizer((Tensor(np.ones(8, dtype)),))
    assert (weights.asnumpy() < shared - 0.1).all()
