"""DP optimizers in custom loops: noise, division, decay, checks."""
import math

import numpy as np
import pytest
from mindspore import Parameter, Tensor, nn
from scipy import stats

from mindarmour.privacy.diff_privacy import DPOptimizerClassFactory

SIZE = 5000


def optimizer_of(policy="SGD", units=4, seed=0, multiplier=1.5, bound=2.0, lr=1.0, **arguments):
    factory = DPOptimizerClassFactory(micro_batches=units)
    assert factory.set_mechanisms("Gaussian", norm_bound=bound, initial_noise_multiplier=multiplier,
                                  seed=seed) is None
    parameters = [Parameter(Tensor(np.zeros(SIZE, np.float32)), name=name) for name in "ab"]
    return factory.create(policy)(parameters, lr, **arguments), parameters


def zeros():
    return tuple(Tensor(np.zeros(SIZE, np.float32)) for _ in range(2))


@pytest.mark.parametrize("policy, base, arguments", [
    ("SGD", nn.SGD, {}), ("momentum", nn.Momentum, {"momentum": 0.9}), ("Adam", nn.Adam, {})])
def test_class_and_update(policy, base, arguments, mode):
    optimizer, parameters = optimizer_of(policy, multiplier=1e-9, **arguments)
    assert type(optimizer).__name__ == "DPOptimizer" and isinstance(optimizer, base)
    gradients = tuple(Tensor(np.full(SIZE, value, np.float32)) for value in (4.0, -8.0))
    optimizer(gradients)
    step = 1.0 if policy == "Adam" else 4.0 / 4
    assert parameters[0].asnumpy() == pytest.approx(-step, rel=1e-3)
    assert parameters[1].asnumpy() == pytest.approx(step if policy == "Adam" else 2.0, rel=1e-3)


def test_noise_scale_with_power_and_independence():
    optimizer, parameters = optimizer_of()
    optimizer(zeros())
    first = [p.asnumpy().copy() for p in parameters]
    optimizer(zeros())
    second = [p.asnumpy() - old for p, old in zip(parameters, first)]
    sample = np.concatenate([*first, *second]) * 4 / (1.5 * 2.0)
    assert stats.kstest(sample, "norm").pvalue > 1e-3
    assert stats.kstest(sample * 1.3, "norm").pvalue < 1e-9
    assert stats.kstest(sample * 0.7, "norm").pvalue < 1e-9
    correlations = np.corrcoef([*first, *second])[np.triu_indices(4, 1)]
    assert np.abs(correlations).max() < 5 / math.sqrt(SIZE)


def test_the_multiplier_decays_with_the_steps():
    factory = DPOptimizerClassFactory(micro_batches=1)
    factory.set_mechanisms("AdaGaussian", 1.0, 2.0, noise_decay_rate=0.5, decay_policy="Step")
    parameter = Parameter(Tensor(np.zeros(SIZE, np.float32)), name="a")
    optimizer = factory.create("SGD")([parameter], 1.0)
    spreads, last = [], parameter.asnumpy().copy()
    for _ in range(3):
        optimizer((Tensor(np.zeros(SIZE, np.float32)),))
        spreads.append((parameter.asnumpy() - last).std())
        last = parameter.asnumpy().copy()
    assert spreads == pytest.approx([2.0, 1.0, 0.5], rel=0.06)
    assert float(optimizer._mech.noise_multiplier) == 0.25


def test_a_seed_reproduces_a_run():
    runs = []
    for _ in range(2):
        optimizer, parameters = optimizer_of(seed=5)
        optimizer(zeros())
        runs.append(parameters[0].asnumpy())
    assert np.array_equal(*runs)


def test_bad_arguments_are_refused():
    for value, error in ((0, ValueError), (-1, ValueError), (True, ValueError), (1.5, TypeError), ("2", TypeError)):
        with pytest.raises(error, match="micro_batches"):
            DPOptimizerClassFactory(value)
    factory = DPOptimizerClassFactory()
    with pytest.raises(ValueError, match="set_mechanisms"):
        factory.create("SGD")
    factory.set_mechanisms("Gaussian")
    for policy in ("RMSProp", None, 3):
        with pytest.raises(NameError, match="policy"):
            factory.create(policy)
    optimizer, _ = optimizer_of(units=None)
    with pytest.raises(ValueError, match="micro_batches"):
        optimizer(zeros())
    with pytest.raises(RuntimeError, match="must be used with DPModel"):
        optimizer_of()[0].construct(zeros())
