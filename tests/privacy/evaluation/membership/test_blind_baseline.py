"""The baseline finds a shift between the sets, finds nothing where there is none, and a leak is judged against it."""
import numpy as np
import pytest

from mindarmour.privacy.evaluation import BlindBaseline, LossAttack, collect_signals


def records(count, seed, scale=1.0, shift=0.0, classes=3, features=12):
    rng = np.random.default_rng(seed)
    return shift + scale * rng.normal(size=(count, features)), rng.integers(0, classes, count)


@pytest.mark.parametrize("changes", [{"scale": 1.3}, {"shift": 0.3}, {"classes": 4}],
                         ids=["scale", "shift", "another class"])
def test_finds_a_shift_between_the_sets(changes):
    found = BlindBaseline()(records(400, 0), records(400, 1, **changes))
    assert found.ci("auc")[0] > 0.5
    assert "nothing of the audited model" in found.threat_model


def test_covers_chance_where_the_sets_are_alike():
    inside = 0
    for seed in range(40):
        result = BlindBaseline(seed)(records(60, 2 * seed), records(60, 2 * seed + 1))
        low, high = result.ci("auc")
        inside += low <= 0.5 <= high
    # 40 runs at 0.95: one in a thousand has fewer than 33 inside
    assert inside >= 33


def test_a_shift_is_not_taken_for_a_leak():
    # this model saw neither set
    weights = np.random.default_rng(5).normal(size=(12, 3))
    members, others = records(600, 3), records(600, 4, scale=1.6)
    attack = LossAttack()(collect_signals(lambda batch: batch @ weights, members, others, progress=False))
    baseline = BlindBaseline()(members, others)
    assert attack.ci("auc")[0] > 0.5, "the attack finds something"
    assert baseline.ci("auc")[0] > attack.auc, "and the records alone tell more"


def test_takes_images_and_imbalance_and_is_seeded():
    rng = np.random.default_rng(0)
    members = rng.normal(size=(30, 3, 8, 8)).astype(np.float32), rng.integers(0, 10, 30)
    others = rng.normal(size=(300, 3, 8, 8)).astype(np.float32), rng.integers(0, 10, 300)
    one, same, other = (BlindBaseline(seed, 100)(members, others) for seed in (1, 1, 2))
    assert one.auc == same.auc != other.auc
    assert (one.is_member.sum(), (~one.is_member).sum()) == (15, 50), "half of each, at most so many"
    assert set(one.ids[one.is_member]) <= set(range(30)) and one.ids[~one.is_member].min() >= 30


@pytest.mark.parametrize("members, error, text", [
    ((np.zeros((5, 12)), np.zeros(5, int)), ValueError, "at least 20 records"),
    ((np.full((30, 12), np.nan), np.zeros(30, int)), ValueError, "finite"),
    ((np.full((30, 12), "a"), np.zeros(30, int)), TypeError, "numbers"),
    ((np.zeros((30, 7)), np.zeros(30, int)), ValueError, "one shape"),
    ((np.zeros((30, 12)), np.eye(3)[np.zeros(30, int)]), ValueError, "one-hot"),
])
def test_bad_records_are_one_clear_error(members, error, text):
    with pytest.raises(error, match=text):
        BlindBaseline()(members, records(30, 0))


@pytest.mark.parametrize("keywords, error", [({"seed": -1}, ValueError), ({"seed": 0.5}, TypeError),
                                             ({"most_records": 3}, ValueError)])
def test_bad_settings_are_refused(keywords, error):
    with pytest.raises(error):
        BlindBaseline(**keywords)
