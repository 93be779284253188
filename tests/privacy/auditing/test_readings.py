"""Checks of readings: how often they fail on true ones, and what each of them finds."""
import numpy as np
import pytest

from mindarmour.privacy.auditing.readings import Readings

STEPS, COUNT, RATE = 40, 200, 0.1


def simulated(seed, multiplier=1.3, change=None):
    rng = np.random.default_rng(seed)
    is_in = rng.random(COUNT) < 0.5
    values = (rng.random((STEPS, COUNT)) < RATE) * is_in + multiplier * rng.normal(size=(STEPS, COUNT))
    return Readings(values if change is None else change(values, rng), np.full(STEPS, 1.3), is_in, RATE)


def failed(readings, alpha=0.05):
    return {check.name for check in readings.checks(alpha) if not check.passed}


def test_true_readings_fail_no_more_often_than_alpha():
    failures = sum(bool(failed(simulated(seed))) for seed in range(400))
    assert failures <= 400 * 0.05 + 3 * np.sqrt(400 * 0.05 * 0.95)


@pytest.mark.parametrize("name,change", [
    ("noise multiplier", lambda x, rng: 0.9 * x),
    ("excluded canaries", lambda x, rng: x + 0.1),
    ("sampling rate", lambda x, rng: x + 0.1),
    ("noise of each step", lambda x, rng: x * np.linspace(0.8, 1.2, STEPS)[:, None]),
    ("correlation of steps", lambda x, rng: (x + 0.3 * np.roll(x, 1, axis=0)) / np.sqrt(1.09)),
    ("repeated readings", lambda x, rng: np.concatenate([x[:-1], x[3:4]])),
    ("repeated readings", lambda x, rng: np.concatenate([x[:-1], -x[3:4]])),
])
def test_each_check_finds_its_fault(name, change):
    assert all(name in failed(simulated(seed, change=change)) for seed in range(10))


def test_scores_tell_in_from_out():
    for per_epoch in (None, 10):
        readings = simulated(0, multiplier=0.3)
        readings = Readings(readings.values, np.full(STEPS, 0.3), readings.is_in, RATE, per_epoch)
        scores = readings.scores()
        assert np.isfinite(scores).all() and scores[readings.is_in].mean() > scores[~readings.is_in].mean() + 1


@pytest.mark.parametrize("changes", [{"values": np.full((STEPS, COUNT), np.nan)}, {"multipliers": np.zeros(STEPS)},
                                     {"is_in": np.ones(COUNT)}, {"rate": 0.0}, {"multipliers": np.ones(3)}])
def test_readings_that_say_nothing_are_refused(changes):
    good = simulated(0)
    arguments = {"values": good.values, "multipliers": good.multipliers, "is_in": good.is_in, "rate": RATE, **changes}
    with pytest.raises(ValueError, match="must"):
        Readings(**arguments)
