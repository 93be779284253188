"""DP optimizers in custom loops: noise, division, decay, checks."""
import math

import numpy as np
import pytest
from mindspore import Parameter, Tensor, nn
from scipy import stats

from mindarmour.privacy.accounting import Sampling
from mindarmour.privacy.diff_privacy import DPOptimizerClassFactory
from mindarmour.privacy.diff_privacy.train.clipped_gradients import ClippedTotal, Clipping
from mindarmour.privacy.diff_privacy.train.plan import Units

SIZE = 5000


def optimizer_of(policy="SGD", units=4, seed=0, multiplier=1.5, bound=2.0, lr=1.0, **arguments):
    factory = DPOptimizerClassFactory(micro_batches=units)
    assert factory.set_mechanisms("Gaussian", norm_bound=bound, initial_noise_multiplier=multiplier,
                                  seed=seed) is None
    parameters = [Parameter(Tensor(np.zeros(SIZE, np.float32)), name=name) for name in "ab"]
    return factory.create(policy)(parameters, lr, **arguments), parameters


def clipped(gradients, parameters, bound=2.0, units=4, rows=1, views=1, padded=False):
    """A sum as `clipped_gradient_fn` makes it."""
    return ClippedTotal(gradients, Clipping(bound, units, Units(rows, views), tuple(parameters), padded))


def zeros():
    return tuple(Tensor(np.zeros(SIZE, np.float32)) for _ in range(2))


@pytest.mark.parametrize("policy, base, arguments", [
    ("SGD", nn.SGD, {}), ("momentum", nn.Momentum, {"momentum": 0.9}), ("Adam", nn.Adam, {})])
def test_class_and_update(policy, base, arguments, mode):
    optimizer, parameters = optimizer_of(policy, multiplier=1e-9, **arguments)
    assert type(optimizer).__name__ == "DPOptimizer" and isinstance(optimizer, base)
    gradients = tuple(Tensor(np.full(SIZE, value, np.float32)) for value in (4.0, -8.0))
    optimizer(clipped(gradients, parameters))
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


def test_what_was_not_clipped_is_clipped_as_one_vector_and_recorded_so(mode):
    optimizer, parameters = optimizer_of(multiplier=1e-9)
    optimizer(tuple(Tensor(np.full(SIZE, value, np.float32)) for value in (300.0, -400.0)))
    moved = np.concatenate([p.asnumpy() for p in parameters])
    assert np.linalg.norm(moved) * 4 == pytest.approx(2.0, rel=1e-4)
    event = optimizer.ledger.entries[0].event
    assert (event.sensitivity, event.sampling.kind) == (2.0, "full") and "one vector" in event.note


@pytest.mark.parametrize("change, match", [
    ({"bound": 10.0}, "norm_bound of the optimizer and of the clipped sum must agree, but are 2.0 and 10.0"),
    ({"units": 8}, "micro_batches of the optimizer must be the units that are summed on a rank, 8"),
    ({"units": 3, "padded": True}, "3 or fewer"),
    ({"parameters": []}, "gradients of all parameters of the optimizer")])
def test_a_sum_that_contradicts_the_optimizer_is_refused(change, match):
    optimizer, parameters = optimizer_of()
    with pytest.raises(ValueError, match=match):
        optimizer(clipped(zeros(), **{"parameters": parameters, **change}))
    assert optimizer.ledger.steps == 0


@pytest.mark.parametrize("rows, views, sensitivity, unit", [
    (1, 1, 1.0, "example"), (4, 4, 1.0, "example (4 views)"), (4, 1, 2.0, "micro-batch of 4 examples")])
def test_the_event_is_written_from_what_was_clipped(rows, views, sensitivity, unit):
    optimizer, parameters = optimizer_of()
    optimizer(clipped(zeros(), parameters, rows=rows, views=views))
    event = optimizer.ledger.entries[0].event
    assert (event.sensitivity, event.unit, event.noise_multiplier) == (sensitivity, unit, 1.5)
    assert event.sampling.kind == "full", "without a sampling nothing is amplified"


def test_views_that_are_not_clipped_together_are_refused():
    factory = DPOptimizerClassFactory(4, sampling=Sampling("poisson", 64, 4, "add-or-remove", views=4))
    factory.set_mechanisms("Gaussian", norm_bound=2.0, initial_noise_multiplier=1.5)
    parameters = [Parameter(Tensor(np.zeros(SIZE, np.float32)), name=name) for name in "ab"]
    optimizer = factory.create("SGD")(parameters, 1.0)
    with pytest.raises(ValueError, match="the 4 rows of an example"):
        optimizer(clipped(zeros(), parameters, padded=True))
    optimizer(clipped(zeros(), parameters, rows=4, views=4, padded=True))
    assert optimizer.ledger.entries[0].event.sensitivity == 1.0


def test_gradients_are_matched_to_parameters_by_identity_and_parts_are_enough():
    optimizer, (a, b) = optimizer_of(multiplier=1e-9)
    other = Parameter(Tensor(np.zeros(SIZE, np.float32)), name="frozen")
    optimizer(clipped(tuple(Tensor(np.full(SIZE, v, np.float32)) for v in (1.0, 2.0, 4.0)), (b, other, a)))
    assert a.asnumpy() == pytest.approx(-1.0) and b.asnumpy() == pytest.approx(-0.25) and not other.asnumpy().any()


def test_replaced_parameters_go_on_training(mode):
    optimizer, parameters = optimizer_of()
    for _ in range(3):
        for parameter in parameters:
            parameter.set_data(Tensor(np.ones(SIZE, np.float32)))
        optimizer(zeros())
        assert all((parameter.asnumpy() != 1.0).any() for parameter in parameters)


def test_every_parameter_of_a_custom_loop_gets_its_noise():
    factory = DPOptimizerClassFactory(micro_batches=4)
    factory.set_mechanisms("Gaussian", norm_bound=2.0, initial_noise_multiplier=1.5)
    parameters = [Parameter(Tensor(np.zeros(shape, np.float32)), name=name)
                  for name, shape in (("w", (40, 30)), ("b", (900,)))]
    factory.create("SGD")(parameters, 1.0)(tuple(Tensor(np.zeros(p.shape, np.float32)) for p in parameters))
    for parameter in parameters:
        assert stats.kstest(parameter.asnumpy().ravel() * 4 / 3.0, "norm").pvalue > 1e-4, parameter.name
