"""Noise and clipping mechanisms: documented checks, scale with power, unpredictability, decay, bounds."""
import math
import os

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor
from scipy import stats

from mindarmour.privacy.diff_privacy import (
    AdaClippingWithGaussianRandom,
    ClipMechanismsFactory,
    NoiseAdaGaussianRandom,
    NoiseGaussianRandom,
    NoiseMechanismsFactory,
)
from mindarmour.privacy.diff_privacy.noise.source import NoiseSource

BIG = Tensor(np.zeros((300, 300), np.float32))
NOT_POSITIVE = [0.0, -1.0, math.nan, math.inf, -math.inf]


def test_noise_scale_with_power():
    noise = NoiseGaussianRandom(norm_bound=0.5, initial_noise_multiplier=3.0)(BIG)
    assert noise.dtype == ms.float32 and noise.shape == BIG.shape
    sample = noise.asnumpy().ravel()
    assert stats.kstest(sample / 1.5, "norm").pvalue > 1e-3
    assert stats.kstest(sample / 1.5 * 1.3, "norm").pvalue < 1e-9
    assert stats.kstest(sample / 1.5 * 0.7, "norm").pvalue < 1e-9


def test_set_seed_never_replays_seed_0_and_a_seed_reproduces(mode):
    def draw(seed):
        ms.set_seed(1)
        mechanism = NoiseGaussianRandom(seed=seed)
        return mechanism(BIG).asnumpy(), mechanism(BIG).asnumpy()

    first, second = draw(0), draw(0)
    assert not np.array_equal(first[0], second[0])
    seeded, again = draw(7), draw(7)
    assert np.array_equal(seeded[0], again[0]) and np.array_equal(seeded[1], again[1])
    assert not np.array_equal(seeded[0], seeded[1])


def test_seeded_noise_differs_between_steps_shapes_ranks_and_purposes():
    shapes = [(50,), (50,)]
    draws = [array for source in (NoiseSource(7), NoiseSource(7, rank=1), NoiseSource(7, "fraction"), NoiseSource(8))
             for step in (0, 1) for array in source.normals(step, shapes)]
    assert len({array.tobytes() for array in draws}) == len(draws)


def test_forked_processes_draw_their_own_noise():
    source, draws = NoiseSource(), []
    for _ in range(2):
        out, into = os.pipe()
        if os.fork() == 0:
            os.write(into, source.normals(0, [(4,)])[0].tobytes())
            os._exit(0)
        os.wait()
        draws.append(os.read(out, 64))
        os.close(out)
        os.close(into)
    assert len({*draws, source.normals(0, [(4,)])[0].tobytes()}) == 3


def test_fp16_gradient_gets_float32_noise():
    assert NoiseGaussianRandom()(Tensor(np.zeros(3), ms.float16)).dtype == ms.float32


@pytest.mark.parametrize("policy, expected", [
    ("Time", [.90909, .83333, .76923]), ("Step", [.9, .81, .729]), ("Exp", [.90484, .81873, .74082])])
def test_decay_follows_the_documented_formula(policy, expected):
    mechanism = NoiseMechanismsFactory.create("AdaGaussian", noise_decay_rate=0.1, decay_policy=policy)
    assert mechanism.multiplier_at(0) == 1.0
    assert [mechanism.multiplier_at(step) for step in (1, 2, 3)] == pytest.approx(expected, abs=1e-5)
    assert float(mechanism.noise_multiplier) == 1.0 and mechanism.noise_multiplier.name == "noise_multiplier"
    mechanism(BIG)
    assert float(mechanism.noise_multiplier) == 1.0, "a call alone must not decay the noise"
    mechanism.advance_to(3)
    assert mechanism(BIG).asnumpy().std() == pytest.approx(expected[2], rel=0.02)


def test_compiling_a_mechanism_into_a_graph_fails_instead_of_freezing_its_noise():
    with pytest.raises(RuntimeError, match="drawn on the host"):
        NoiseGaussianRandom().construct(BIG)
    with pytest.raises(RuntimeError, match="drawn on the host"):
        AdaClippingWithGaussianRandom().construct(BIG, BIG)


@pytest.mark.parametrize("cls", [NoiseGaussianRandom, NoiseAdaGaussianRandom])
@pytest.mark.parametrize("name", ["norm_bound", "initial_noise_multiplier"])
def test_noise_arguments_are_checked(cls, name):
    for value in NOT_POSITIVE:
        with pytest.raises(ValueError, match=name):
            cls(**{name: value})
    for value in (1, "1", None, True):
        with pytest.raises(TypeError, match=name):
            cls(**{name: value})


@pytest.mark.parametrize("cls", [NoiseGaussianRandom, NoiseAdaGaussianRandom, AdaClippingWithGaussianRandom])
def test_seed_is_checked(cls):
    with pytest.raises(ValueError, match="seed"):
        cls(seed=-1)
    for value in (1.0, None, "0", True):
        with pytest.raises(TypeError, match="seed"):
            cls(seed=value)


def test_decay_arguments_are_checked():
    for value in (0.0, 1.0, -0.1, math.nan, math.inf):
        with pytest.raises(ValueError, match="noise_decay_rate"):
            NoiseAdaGaussianRandom(noise_decay_rate=value)
    with pytest.raises(TypeError, match="noise_decay_rate"):
        NoiseAdaGaussianRandom(noise_decay_rate=1)
    with pytest.raises(ValueError, match="decay_policy"):
        NoiseGaussianRandom(decay_policy="Exp")
    for error in (NameError, ValueError):
        with pytest.raises(error, match="decay_policy"):
            NoiseAdaGaussianRandom(decay_policy="linear")
        with pytest.raises(error, match="decay_policy"):
            NoiseMechanismsFactory.create("AdaGaussian")


@pytest.mark.parametrize("factory", [NoiseMechanismsFactory, ClipMechanismsFactory])
def test_factories_refuse_unknown_names(factory):
    for error in (NameError, ValueError):
        with pytest.raises(error, match="mech_name"):
            factory().create("Laplace")


def test_factories_take_the_documented_arguments():
    noise = NoiseMechanismsFactory().create("Gaussian", 2.0, 1.5, seed=3)
    assert (noise.norm_bound, noise.initial_noise_multiplier, noise.seed) == (2.0, 1.5, 3)
    clip = ClipMechanismsFactory().create("Gaussian", decay_policy="Geometric", learning_rate=0.1)
    assert clip.decay_policy == "Geometric" and clip.learning_rate == 0.1


@pytest.mark.parametrize("policy, expected", [("Linear", 1.0 - 0.5 * (0.2 - 0.9)),
                                              ("Geometric", math.exp(-0.5 * (0.2 - 0.9)))])
@pytest.mark.parametrize("shape", [(), (1,)])
def test_adaptive_bound_follows_the_documented_formula_and_keeps_its_shape(policy, expected, shape, mode):
    clip = AdaClippingWithGaussianRandom(policy, learning_rate=0.5, fraction_stddev=1e-7)
    bound = clip(Tensor(0.2, ms.float32), Tensor(np.ones(shape), ms.float32))
    assert bound.shape == shape
    assert float(bound) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("policy", ["Linear", "Geometric"])
@pytest.mark.parametrize("fraction", [1.0, 0.0, 1e30, -1e30])
def test_adaptive_bound_stays_positive_and_finite(policy, fraction):
    clip = AdaClippingWithGaussianRandom(policy, learning_rate=100.0, target_unclipped_quantile=0.5)
    bound = Tensor(1.0, ms.float32)
    for _ in range(20):
        bound = clip(Tensor(fraction, ms.float32), bound)
        assert 0 < float(bound) < math.inf


def test_fraction_noise_scale():
    clip = AdaClippingWithGaussianRandom(fraction_stddev=0.05)
    sample = np.array([clip.fraction_noise(step) for step in range(3000)]) / 0.05
    assert stats.kstest(sample, "norm").pvalue > 1e-3
    assert stats.kstest(sample * 1.3, "norm").pvalue < 1e-6
    assert stats.kstest(sample * 0.7, "norm").pvalue < 1e-6


@pytest.mark.parametrize("name, values", [("learning_rate", NOT_POSITIVE), ("fraction_stddev", NOT_POSITIVE),
                                          ("target_unclipped_quantile", [-0.1, 1.7, math.nan, math.inf])])
def test_clip_arguments_are_checked(name, values):
    for value in values:
        with pytest.raises(ValueError, match=name):
            AdaClippingWithGaussianRandom(**{name: value})
    for value in (1, None, "0.5"):
        with pytest.raises(TypeError, match=name):
            AdaClippingWithGaussianRandom(**{name: value})


def test_clip_policy_is_checked():
    with pytest.raises(ValueError, match="decay_policy"):
        AdaClippingWithGaussianRandom("Exp")
