"""Every interval covers its truth: simulated with nothing to find, known signals, ties, rare failures, tiny sets.

Nominal 95 %, 400 repetitions: the standard error of a coverage of 0.95 is 0.011. Below 0.90 an interval is too short;
above 0.995, for sets of usual size, it is needlessly wide.
"""
from dataclasses import dataclass
from typing import Callable

import numpy as np
import pytest
from scipy.stats import norm

from mindarmour.privacy.evaluation import AttackResult
from mindarmour.privacy.evaluation.membership.intervals import metric_interval, resampled_errors
from mindarmour.privacy.evaluation.membership.roc import curve_of

REPETITIONS = 400
LOW, HIGH = 0.90, 0.995


@dataclass(frozen=True)
class Scene:
    """How members and non-members score, and what is true of them."""

    members: Callable
    others: Callable
    auc: float
    advantage: float
    tpr_at_10: float

    def curve(self, rng, members, others):
        scores = np.concatenate([self.members(rng, members), self.others(rng, others)])
        return curve_of(scores, np.repeat([True, False], [members, others]))


def normal(shift, scale=1.0):
    return lambda rng, n: rng.normal(shift, scale, n)


def mixture(share, far):
    return lambda rng, n: np.where(rng.random(n) < share, far, 0) + rng.normal(size=n)


def coin(share):
    return lambda rng, n: (rng.random(n) < share).astype(float)


def shifted(shift):
    return Scene(normal(shift), normal(0), norm.cdf(shift / 2 ** .5), 2 * norm.cdf(shift / 2) - 1,
                 norm.sf(norm.isf(.1) - shift))


def wide(scale):
    # the difference of the two distributions is largest where the densities cross
    cross = np.sqrt(2 * scale ** 2 * np.log(scale) / (scale ** 2 - 1))
    advantage = norm.sf(cross / scale) - norm.sf(cross)
    return Scene(normal(0, scale), normal(0), .5, advantage, norm.sf(norm.isf(.1) / scale))


SCENES = {
    "nothing": shifted(0), "shift 0.5": shifted(.5), "shift 1": shifted(1), "shift 2": shifted(2),
    "shift 3": shifted(3), "wider": wide(3.0),
    "2 % recognised": Scene(mixture(.02, 50), normal(0), .51, .02, .02 + .98 * .1),
    "all but 2 % recognised": Scene(mixture(.02, -50), mixture(1.0, -20), .98, .98, .98),
    "gap": Scene(coin(.95), coin(.80), .5 + .15 / 2, .15, 0.0),
    "no gap": Scene(coin(.95), coin(.95), .5, 0.0, 0.0),
    "three values": Scene(lambda rng, n: rng.integers(0, 3, n).astype(float),
                          lambda rng, n: rng.integers(0, 3, n).astype(float), .5, 0.0, 0.0),
}


def coverage(scene, members, others, name, truth, resamples=60):
    """Share of repetitions whose interval holds the truth."""
    rng, inside = np.random.default_rng(members + 7 * others), 0
    for seed in range(REPETITIONS):
        low, high = metric_interval(scene.curve(rng, members, others), name, 0.95, resamples, seed)
        inside += low - 1e-12 <= truth <= high + 1e-12
    return inside / REPETITIONS


@pytest.mark.parametrize("name", SCENES)
@pytest.mark.parametrize("members, others", [(150, 150), (60, 600)])
def test_auc_covers(name, members, others):
    found = coverage(SCENES[name], members, others, "auc", SCENES[name].auc)
    assert found >= LOW
    if name not in ("all but 2 % recognised", "shift 3", "no gap"):  # near the edge an interval is cut or coarse
        assert found <= HIGH


@pytest.mark.parametrize("name", ["nothing", "shift 1", "shift 3", "2 % recognised", "all but 2 % recognised", "gap"])
@pytest.mark.parametrize("members, others", [(1, 1), (1, 30), (2, 2), (3, 3), (4, 9), (3, 60), (8, 8), (12, 20)])
def test_auc_of_tiny_sets_covers(name, members, others):
    assert coverage(SCENES[name], members, others, "auc", SCENES[name].auc) >= LOW


@pytest.mark.parametrize("name", SCENES)
def test_advantage_covers(name):
    found = coverage(SCENES[name], 200, 200, "advantage", SCENES[name].advantage)
    assert LOW <= found <= (HIGH if name in ("nothing", "shift 0.5", "shift 1", "shift 2", "wider") else 1)


@pytest.mark.parametrize("name", ["nothing", "shift 1", "shift 3", "gap", "2 % recognised"])
@pytest.mark.parametrize("members, others", [(3, 3), (5, 100), (25, 25), (30, 400)])
def test_balanced_accuracy_of_small_and_unequal_sets_covers(name, members, others):
    truth = (1 + SCENES[name].advantage) / 2
    assert coverage(SCENES[name], members, others, "balanced_accuracy", truth) >= LOW


@pytest.mark.parametrize("name", SCENES)
@pytest.mark.parametrize("members, others", [(300, 300), (100, 1500)])
def test_rate_at_a_chosen_threshold_covers(name, members, others):
    found = coverage(SCENES[name], members, others, "tpr@10%fpr", SCENES[name].tpr_at_10)
    assert LOW <= found <= (HIGH if SCENES[name].tpr_at_10 > 0 else 1)


@pytest.mark.parametrize("shift", [0, .5, 2.5])
@pytest.mark.parametrize("members, others", [(1000, 1000), (200, 200), (50, 100)])
def test_rate_at_one_percent_covers(shift, members, others):
    found = coverage(shifted(shift), members, others, "tpr@1%fpr", norm.sf(norm.isf(.01) - shift))
    assert LOW <= found <= (HIGH if others == 1000 else 1)


@pytest.mark.parametrize("confidence", [0.8, 0.99])
@pytest.mark.parametrize("name", ["auc", "advantage", "tpr@10%fpr"])
def test_other_levels_cover_too(name, confidence):
    scene, rng, inside = shifted(.5), np.random.default_rng(0), 0
    truth = {"auc": scene.auc, "advantage": scene.advantage, "tpr@10%fpr": scene.tpr_at_10}[name]
    for seed in range(REPETITIONS):
        low, high = metric_interval(scene.curve(rng, 150, 150), name, confidence, 60, seed)
        inside += low <= truth <= high
    assert inside / REPETITIONS >= confidence - 3 * np.sqrt(confidence * (1 - confidence) / REPETITIONS)


@pytest.mark.parametrize("draw", [normal(0), lambda rng, n: rng.integers(0, 40, n).astype(float)],
                         ids=["continuous", "ties"])
def test_rates_at_an_operating_point_cover_at_its_threshold(draw):
    # the threshold is chosen on the same non-members; the truth is the rate at that very threshold
    rng, hits, alarms = np.random.default_rng(3), 0, 0
    population = np.sort(draw(rng, 400_000))
    for _ in range(REPETITIONS):
        result = AttackResult(np.concatenate([draw(rng, 200), draw(rng, 300)]), np.repeat([True, False], [200, 300]))
        point = result.operating_point(.05)
        truth = 1 - np.searchsorted(population, point.threshold, side="left") / len(population)
        hits += point.tpr_interval[0] <= truth <= point.tpr_interval[1]
        alarms += point.fpr_interval[0] <= truth <= point.fpr_interval[1]
    assert hits / REPETITIONS >= LOW and alarms / REPETITIONS >= LOW


def test_value_lies_inside_its_interval():
    rng = np.random.default_rng(1)
    for _ in range(200):
        members, others = rng.integers(1, 60, 2)
        scores = rng.integers(0, rng.integers(1, 50), members + others).astype(float)
        result = AttackResult(scores, np.arange(members + others) < members)
        for name in ("auc", "advantage", "balanced_accuracy", "tpr@10%fpr"):
            interval = result.ci(name, resamples=20)
            assert interval is None or interval[0] - 1e-9 <= result.metric(name) <= interval[1] + 1e-9
            assert interval is None or 0 <= interval[0] <= interval[1] <= 1


def test_resampling_keeps_the_size_of_the_group():
    rng = np.random.default_rng(0)
    curve = curve_of(rng.normal(size=30), np.arange(30) < 7)
    for counts, size in ((curve.true_positives, 7), (curve.false_positives, 23)):
        errors = resampled_errors(counts, 20, rng)
        np.testing.assert_allclose(errors[:, [0, -1]], 0, atol=1e-12)
        drawn = (errors + counts / size) * size
        np.testing.assert_allclose(drawn, np.round(drawn), atol=1e-9)
        assert errors.std() > 0.02
