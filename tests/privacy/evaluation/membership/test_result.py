"""AttackResult: every number against an independent computation, intervals by simulation, bad input."""
import json

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score, roc_curve

from mindarmour.privacy.evaluation import AttackResult
from mindarmour.privacy.evaluation.membership.intervals import clopper_pearson


def normal_scores(members, non_members, shift, seed=0, digits=None):
    rng = np.random.default_rng(seed)
    scores = np.concatenate([rng.normal(shift, 1, members), rng.normal(0, 1, non_members)])
    truth = np.repeat([True, False], [members, non_members])
    return (scores if digits is None else scores.round(digits)), truth


@pytest.mark.parametrize("digits", [None, 1, 0])
def test_curve_equals_scikit_learn(digits):
    scores, truth = normal_scores(300, 170, 0.7, digits=digits)
    result = AttackResult(scores, truth)
    fpr, tpr, _ = roc_curve(truth, scores, drop_intermediate=False)
    np.testing.assert_allclose(result.curve.fpr, fpr)
    np.testing.assert_allclose(result.curve.tpr, tpr)
    assert result.auc == pytest.approx(roc_auc_score(truth, scores), abs=1e-12)
    assert result.advantage == pytest.approx(np.max(tpr - fpr))
    assert result.balanced_accuracy == pytest.approx(0.5 + np.max(tpr - fpr) / 2)


@pytest.mark.parametrize("max_fpr", [0.0, 0.01, 0.05, 0.1, 1.0])
def test_tpr_at_fpr_is_the_best_threshold_within_the_rate(max_fpr):
    scores, truth = normal_scores(200, 400, 1.0, digits=2)
    best = max(np.mean(scores[truth] >= t) for t in [*scores, np.inf] if np.mean(scores[~truth] >= t) <= max_fpr)
    assert AttackResult(scores, truth).tpr_at_fpr(max_fpr) == pytest.approx(best)


def test_a_rate_the_sample_cannot_support_is_not_available():
    result = AttackResult(*normal_scores(500, 99, 1.0))
    assert result.tpr_at_fpr(0.01) is None
    assert result.ci("tpr@1%fpr") is None
    assert result.operating_point(0.01) is None
    assert result.ppv(0.01) is None
    assert result.tpr_at_fpr(0.0) is not None
    assert "n/a" in result.summary()
    assert json.loads(result.to_json())["metrics"]["tpr@1%fpr"] == {"value": "n/a", "interval": "n/a"}
    assert "100 non-members" in result.note("tpr@1%fpr") and result.note("tpr@1%fpr") in result.summary()
    assert AttackResult(*normal_scores(500, 100, 1.0)).tpr_at_fpr(0.01) is not None


def test_infinite_scores_are_ordered():
    result = AttackResult(np.array([np.inf, 1.0, -np.inf]), np.array([1, 0, 0]))
    assert result.auc == 1.0
    assert result.operating_point(0).tpr == 1.0


@pytest.mark.parametrize("scores, member, tpr", [
    ([np.inf, 2, 1, .5], [0, 1, 1, 0], 0.0), ([np.inf, np.inf, 1, .5, 0], [0, 1, 1, 0, 1], 0.0),
    ([np.inf, np.inf, 1, .5], [1, 1, 0, 0], 1.0), ([3, 2, -np.inf, -np.inf], [1, 0, 1, 0], 0.5),
    ([np.inf, np.inf], [1, 0], 0.0), ([np.finfo(float).max, np.inf, 0], [0, 1, 1], 0.0)])
def test_an_operating_point_keeps_its_rate_with_infinite_scores(scores, member, tpr):
    result = AttackResult(np.array(scores, float), np.array(member, bool))
    for max_fpr in (0, 1):
        point = result.operating_point(max_fpr)
        assert point.fpr <= max_fpr and point.tpr == result.tpr_at_fpr(max_fpr)
    assert result.operating_point(0).tpr == tpr


@pytest.mark.parametrize("successes, trials", [(0, 10), (3, 10), (10, 10), (57, 1000)])
@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_clopper_pearson_equals_scipy(successes, trials, confidence):
    exact = binomtest(successes, trials).proportion_ci(confidence, "exact")
    assert clopper_pearson(successes, trials, confidence) == pytest.approx((exact.low, exact.high), abs=1e-9)


def test_intervals_are_seeded_and_narrow_with_the_sample():
    small, large = AttackResult(*normal_scores(100, 100, 0.5)), AttackResult(*normal_scores(1600, 1600, 0.5))
    assert small.ci("advantage", seed=3) == small.ci("advantage", seed=3) != small.ci("advantage", seed=4)
    width = [np.diff(result.ci("auc"))[0] for result in (small, large)]
    assert width[0] / width[1] == pytest.approx(4, rel=0.3)


def test_intervals_of_rates():
    result = AttackResult(*normal_scores(400, 400, 1.5))
    point = result.operating_point(0.05)
    assert point.fpr <= 0.05
    assert point.tpr_interval == clopper_pearson(round(point.tpr * 400), 400)
    low, high = result.ci("tpr@5%fpr")
    assert low < point.tpr_interval[0] < point.tpr < point.tpr_interval[1] < high, "the threshold was chosen too"
    assert result.ci("tpr@0%fpr") is None and "exactly zero" in result.note("tpr@0%fpr")


def test_a_result_without_intervals_shows_none_and_says_why():
    result = AttackResult(*normal_scores(200, 200, 0.5), labels=np.arange(400) % 2, without_intervals="out of fold")
    assert all(result.ci(name) is None and result.note(name) == "out of fold"
               for name in ("auc", "advantage", "tpr@10%fpr"))
    assert result.operating_point(0.1).tpr_interval is None
    assert result.by_slice("class")[0].ci("auc") is None
    assert json.loads(result.to_json())["notes"] == ["no intervals: out of fold"]
    assert "no intervals: out of fold" in result.summary()


def test_no_interpolation_between_thresholds():
    scores = np.array([9, 8, 7, 6, 5, 4, 3, 2.0])
    member = np.array([1, 0, 1, 1, 0, 1, 0, 0], bool)
    # one false positive of four is allowed, not one and a half
    assert AttackResult(scores, member).tpr_at_fpr(0.375) == 0.75
    assert AttackResult(np.array([3, 2, 2, 1.0]), np.array([1, 1, 0, 0], bool)).tpr_at_fpr(0.5) == 1.0
    tied = AttackResult(np.array([3, 2, 2, 2, 1.0]), np.array([1, 1, 0, 0, 1], bool))
    assert tied.tpr_at_fpr(0.5) == pytest.approx(1 / 3)


def test_numpy_settings_become_json():
    settings = {"models": np.int64(16), "rates": np.array([0.5, 1]),
                "nested": {"a": np.float32(0.5), 1: (np.bool_(1),)}}
    found = json.loads(AttackResult(*normal_scores(5, 5, 0), settings=settings).to_json())["settings"]
    assert found == {"models": 16, "rates": [0.5, 1.0], "nested": {"a": 0.5, "1": [True]}}


def test_ppv_is_bayes_rule():
    result = AttackResult(np.array([3.0, 1.0, 2.0, 0.0]), np.array([1, 1, 0, 0]), threshold=1.5)
    assert result.decision().ppv() == pytest.approx(0.5)
    assert result.decision().ppv(0.9) == pytest.approx(0.9)
    assert result.ppv(0.0) == 1.0
    assert AttackResult(result.scores, result.is_member).decision() is None
    assert AttackResult(result.scores, result.is_member, threshold=9.0).decision().ppv() is None


def test_per_record_orders_by_exposure():
    result = AttackResult(np.array([0.1, 0.9, 0.5, 0.5]), np.array([1, 1, 0, 0]), ids=np.array([7, 8, 9, 4]),
                          labels=np.array([2, 3, 2, 3]))
    table = result.per_record()
    assert table["id"].tolist() == [8, 9, 4, 7]
    assert table["fpr"].tolist() == [0.0, 1.0, 1.0, 1.0]
    assert table["label"][0] == 3
    assert len(result.per_record(worst=1)) == 1


def test_slices_are_the_same_attack_on_a_part():
    scores, truth = normal_scores(300, 300, 0.5)
    labels = np.arange(600) % 3
    result = AttackResult(scores, truth, labels=labels, correct=labels == 1)
    by_class = result.by_slice("class")
    assert by_class[2].auc == pytest.approx(roc_auc_score(truth[labels == 2], scores[labels == 2]))
    assert set(result.by_slice("correct")) == {False, True}
    assert result.by_slice(labels == 0)[True].auc == by_class[0].auc
    assert result.by_slice(truth) == {True: None, False: None}


def test_slices_need_what_they_slice_by():
    result = AttackResult(*normal_scores(5, 5, 0))
    with pytest.raises(ValueError, match="needs labels"):
        result.by_slice("class")
    with pytest.raises(ValueError, match="by must be one of"):
        result.by_slice("colour")
    with pytest.raises(ValueError, match=r"shape \(10,\)"):
        result.by_slice(np.ones(3, bool))


def test_json_file_is_what_to_json_returns(tmp_path):
    result = AttackResult(*normal_scores(50, 50, 1), attack="loss", threat_model="black box")
    text = result.to_json(tmp_path / "new" / "result.json")
    assert (tmp_path / "new" / "result.json").read_text().strip() == text
    content = json.loads(text)
    assert content["attack"] == "loss" and content["members"] == 50
    assert content["metrics"]["auc"]["value"] == result.auc
    assert [item.name for item in (tmp_path / "new").iterdir()] == ["result.json"]


@pytest.mark.parametrize("log", [True, False])
def test_plot_shows_the_curve(log):
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot
    result = AttackResult(*normal_scores(100, 100, 1), attack="loss")
    ax = result.plot_roc(log=log)
    assert result.plot_roc(ax, log=log, label="again") is ax
    assert len(ax.lines) == 3, "two curves, one diagonal"
    assert ax.get_xscale() == ("log" if log else "linear")
    np.testing.assert_allclose(ax.lines[0].get_ydata()[-1], 1.0)
    pyplot.close(ax.figure)


@pytest.mark.parametrize("name, error", [("tpr@1%tnr", ValueError), ("tpr@101%fpr", ValueError), ("AUC", ValueError),
                                         (1, TypeError)])
def test_unknown_metrics_are_refused(name, error):
    with pytest.raises(error, match="metric"):
        AttackResult(*normal_scores(5, 5, 0)).metric(name)


@pytest.mark.parametrize("arguments, error, text", [
    (([0.1, np.nan], [1, 0]), ValueError, "NaN"),
    (([], []), ValueError, "at least one"),
    ((["a", "b"], [1, 0]), TypeError, "numbers"),
    (([[0.1, 0.2]], [1, 0]), ValueError, "vector"),
    (([0.1, 0.2], [1, 1]), ValueError, "members and non-members"),
    (([0.1, 0.2], [1, 2]), ValueError, "True and False"),
    (([0.1, 0.2], [1, 0, 0]), ValueError, "one entry per record"),
    (([0.1, 0.2], [1, 0], [1]), ValueError, "ids"),
    (([0.1, 0.2], [1, 0], None, [1]), ValueError, "labels"),
    (([0.1, 0.2], [1, 0], None, None, [1]), ValueError, "correct"),
])
def test_bad_input_is_one_clear_error(arguments, error, text):
    with pytest.raises(error, match=text):
        AttackResult(*arguments)


@pytest.mark.parametrize("max_fpr, error", [(-0.1, ValueError), (1.5, ValueError), (float("nan"), ValueError),
                                            (float("inf"), ValueError), ("1%", TypeError), (True, TypeError)])
def test_bad_rates_are_refused(max_fpr, error):
    with pytest.raises(error, match="max_fpr"):
        AttackResult(*normal_scores(5, 5, 0)).tpr_at_fpr(max_fpr)


@pytest.mark.parametrize("keywords, error", [({"confidence": 1.0}, ValueError), ({"confidence": float("nan")},
                                              ValueError),
                                             ({"resamples": 1}, ValueError), ({"resamples": 2.5}, TypeError)])
def test_bad_interval_settings_are_refused(keywords, error):
    with pytest.raises(error):
        AttackResult(*normal_scores(5, 5, 0)).ci("auc", **keywords)
