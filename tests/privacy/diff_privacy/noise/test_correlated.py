"""Correlated noise: the law of the stream, what begins a new one, what is refused."""
import copy
import os
import pickle

import numpy as np
import pytest

from mindarmour.privacy.accounting.correlated import CorrelatedEvent
from mindarmour.privacy.accounting.strategies import Buffered, InverseToeplitz, Toeplitz, decaying, square_root
from mindarmour.privacy.diff_privacy import DPOptimizerClassFactory, NoiseMechanismsFactory
from mindarmour.privacy.diff_privacy.noise.correlated import CorrelatedNoise
from mindarmour.privacy.diff_privacy.noise.source import NoiseSource

STRATEGIES = [Toeplitz((1.0,)), Toeplitz((2.0, 1.2, 0.6)), square_root(7), InverseToeplitz((1.0, -0.5, -0.125)),
              decaying(0.9), Buffered((0.95, 0.5), (0.3, 0.4))]
OWNER, SHAPES = object(), [(3, 2), (), (5,)]


def stream_of(strategy, steps, shapes=SHAPES, seed=0, source=None):
    noise = CorrelatedNoise(source or NoiseSource(seed), strategy)
    drawn = []
    for step in range(steps):
        noise.begin(OWNER, step)
        drawn.append(np.concatenate([part.ravel() for part in noise.normals(step, shapes)]))
    return np.array(drawn)


@pytest.mark.parametrize("strategy", STRATEGIES, ids=repr)
def test_the_stream_is_the_solution_of_the_matrix(strategy):
    steps, source = 40, NoiseSource(7)
    z = np.array([source.normals(step, [(12,)])[0] for step in range(steps)], np.float64)
    column = strategy.column(steps)
    matrix = np.array([[column[t - s] if t >= s else 0.0 for s in range(steps)] for t in range(steps)])
    assert np.abs(stream_of(strategy, steps, seed=7) - np.linalg.solve(matrix, z)).max() < 1e-4


def deviation(strategy, claimed, count=60_000, steps=6):
    """Largest deviation of the stream's covariance from the claimed strategy's, in standard errors."""
    x = stream_of(strategy, steps, [(count,)]).astype(np.float64)
    rows = np.array([np.concatenate([claimed.inverse_column(steps)[t::-1], np.zeros(steps - 1 - t)])
                     for t in range(steps)])
    expected = rows @ rows.T
    error = np.sqrt((np.outer(np.diag(expected), np.diag(expected)) + expected ** 2) / count)
    return float(np.abs((x @ x.T / count - expected) / error).max())


@pytest.mark.parametrize("strategy", STRATEGIES, ids=repr)
def test_the_covariance_is_that_of_the_strategy(strategy):
    assert deviation(strategy, strategy) < 5


@pytest.mark.parametrize("factor", [0.7, 1.3])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_one_wrong_coefficient_would_be_seen(place, factor):
    wrong = [1.0, 0.5, 0.3]
    wrong[place] *= factor
    assert deviation(Toeplitz(tuple(sorted(wrong, reverse=True))), Toeplitz((1.0, 0.5, 0.3))) > 5


def test_noise_in_the_iterate_cancels():
    strategy, steps = square_root(16), 64
    sums = stream_of(strategy, steps, [(4000,)]).sum(0)
    expected = strategy.squared_errors(steps)[-1]
    assert expected < steps / 5
    assert np.var(sums) == pytest.approx(expected, rel=5 * np.sqrt(2 / 4000))


def test_what_was_handed_out_is_never_changed():
    noise = CorrelatedNoise(NoiseSource(3), square_root(2))
    noise.begin(OWNER, 0)
    first, = noise.normals(0, [(4,)])
    kept = first.copy()
    for step in range(1, 5):
        noise.begin(OWNER, step)
        later, = noise.normals(step, [(4,)])
        assert not np.shares_memory(first, later)
    np.testing.assert_array_equal(first, kept)


def begun(noise, owner, step):
    noise.begin(owner, step)
    return noise.stream


def test_what_breaks_the_sequence_begins_a_new_stream(monkeypatch):
    noise = CorrelatedNoise(NoiseSource(3), decaying(0.9))

    def draw(owner, step):
        noise.begin(owner, step)
        noise.normals(step, [(4,)])
        return noise.stream
    assert [draw(OWNER, step) for step in (10, 11, 12)] == [10, 10, 10]
    noise.begin(OWNER, 13)
    assert begun(noise, OWNER, 13) == 10  # stated twice, drawn once
    assert draw(OWNER, 13) == 10
    assert draw(OWNER, 13) == 13  # a draw whose step never stood in the ledger
    assert draw(OWNER, 20) == 20  # others recorded steps in between
    other = object()
    assert draw(other, 21) == 21
    assert draw(OWNER, 22) == 22
    monkeypatch.setattr(os, "getpid", lambda: -1)
    assert draw(OWNER, 23) == 23


def test_a_new_stream_forgets_the_old_one():
    source = NoiseSource(3)
    noise = CorrelatedNoise(source, decaying(0.9))
    for step in range(3):
        noise.begin(OWNER, step)
        noise.normals(step, [(4,)])
    noise.begin(object(), 3)
    np.testing.assert_array_equal(noise.normals(3, [(4,)])[0], source.normals(3, [(4,)])[0])


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda noise: pickle.loads(pickle.dumps(noise))])
def test_copies_hold_no_buffers(copied):
    noise = CorrelatedNoise(NoiseSource(3), decaying(0.9))
    noise.begin(OWNER, 0)
    noise.normals(0, [(4,)])
    other = copied(noise)
    assert begun(other, OWNER, 1) == 1
    with pytest.raises(RuntimeError, match="begin"):
        copied(noise).normals(1, [(4,)])


def test_a_child_process_begins_its_own_stream():
    noise = CorrelatedNoise(NoiseSource(3), decaying(0.9))
    noise.begin(OWNER, 0)
    noise.normals(0, [(4,)])
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, str(begun(noise, OWNER, 1)).encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reader, 10) == b"1"
    assert begun(noise, OWNER, 1) == 0


def test_draws_out_of_order_are_refused():
    noise = CorrelatedNoise(NoiseSource(3), decaying(0.9))
    with pytest.raises(RuntimeError, match="begin"):
        noise.normals(0, [(4,)])
    noise.begin(OWNER, 5)
    for step in (4, 6):
        with pytest.raises(RuntimeError, match="step after step"):
            noise.normals(step, [(4,)])
    noise.normals(5, [(4,)])
    with pytest.raises(RuntimeError, match="step after step"):
        noise.normals(5, [(4,)])


def test_ranks_run_the_recursion_on_their_own_draws():
    source, strategy = NoiseSource(3), square_root(3)
    noise = CorrelatedNoise(source, strategy)
    drawn = {0: [], 1: []}
    for step in range(5):
        noise.begin(OWNER, step)
        for rank in (0, 1):
            drawn[rank].append(noise.of_rank(rank).normals(step, [(4,)])[0])
    for rank in (0, 1):
        np.testing.assert_array_equal(drawn[rank], stream_of(strategy, 5, [(4,)], source=source.of_rank(rank)))


def mechanism(**arguments):
    return NoiseMechanismsFactory.create("Correlated", **{"norm_bound": 1.0, "initial_noise_multiplier": 2.0,
                                                          "strategy": decaying(0.5), **arguments})


@pytest.mark.parametrize("name, arguments, error", [
    ("Correlated", {}, TypeError), ("Correlated", {"strategy": (1.0, 0.5)}, TypeError),
    ("Correlated", {"strategy": decaying(0.5), "decay_policy": "Exp"}, ValueError),
    ("Gaussian", {"strategy": decaying(0.5)}, ValueError),
    ("AdaGaussian", {"strategy": decaying(0.5), "decay_policy": "Exp"}, ValueError)])
def test_arguments_that_contradict_each_other_are_refused(name, arguments, error):
    with pytest.raises(error, match="strategy|decay_policy"):
        NoiseMechanismsFactory.create(name, **arguments)


def test_single_calls_and_dp_optimizers_are_refused():
    from mindspore import nn
    with pytest.raises(RuntimeError, match="DPModel"):
        mechanism()(np.zeros(3))
    factory = DPOptimizerClassFactory(micro_batches=2)
    factory.set_mechanisms("Correlated", norm_bound=1.0, initial_noise_multiplier=2.0, strategy=decaying(0.5))
    with pytest.raises(ValueError, match="PrivateLoop"):
        factory.create("SGD")(nn.Dense(2, 2).trainable_params(), learning_rate=0.1)


def test_the_event_says_what_is_drawn():
    from mindarmour.privacy.accounting import Sampling, StepEvent
    noise = mechanism(seed=5)
    noise.begin(OWNER, 4)
    step = StepEvent(Sampling("full", 10, 5, "zero-out"), 2.0, examples_per_unit=2, noise_source="seeded")
    assert noise.event_of(step) == CorrelatedEvent(step.sampling, 2.0, decaying(0.5), 4, 2, "seeded")
