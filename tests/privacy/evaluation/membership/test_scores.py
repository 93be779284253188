"""Score attacks against closed forms and naive formulas."""
import numpy as np
import pytest

from mindarmour.privacy.evaluation import (
    ConfidenceAttack,
    EntropyAttack,
    GapAttack,
    LabelOnlyAttack,
    LossAttack,
    PopulationAttack,
    QuantileAttack,
    Signals,
)


def signals_of(count=400, classes=4, boost=1.5, seed=0, views=0, member_share=0.5):
    """Members get a boost at the true class."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, count)
    is_member = np.arange(count) < member_share * count
    queries = rng.normal(size=(count, 1 + views, classes))
    queries[np.arange(count), :, labels] += 1 + boost * is_member[:, None]
    return Signals(queries[:, 0], labels, is_member, views=queries[:, 1:] if views else None)


def probabilities(signals):
    exponential = np.exp(signals.logits)
    return exponential / exponential.sum(axis=1, keepdims=True)


def test_loss_scores_are_minus_cross_entropy():
    signals = signals_of()
    p = probabilities(signals)[np.arange(400), signals.labels]
    result = LossAttack()(signals)
    np.testing.assert_allclose(result.scores, np.log(p))
    assert result.auc > 0.7 and result.attack == "LossAttack" and "black box" in result.threat_model


@pytest.mark.parametrize("gap_sign", [1, -1])
def test_gap_attack_is_its_closed_form(gap_sign):
    signals = signals_of(boost=1.5 * gap_sign, member_share=0.3)
    result = GapAttack()(signals)
    gap = signals.correct[signals.is_member].mean() - signals.correct[~signals.is_member].mean()
    point = result.decision()
    assert np.sign(gap) == gap_sign
    assert (1 + point.tpr - point.fpr) / 2 == 0.5 + gap / 2
    assert result.auc == pytest.approx(0.5 + gap / 2, abs=1e-12)
    # the best threshold may also call nobody a member
    assert result.balanced_accuracy == pytest.approx(0.5 + max(gap, 0) / 2, abs=1e-12)


def test_confidence_kinds_are_the_probabilities():
    signals = signals_of()
    p = probabilities(signals)
    true = p[np.arange(400), signals.labels]
    np.testing.assert_allclose(np.exp(ConfidenceAttack("true")(signals).scores), true)
    np.testing.assert_allclose(np.exp(ConfidenceAttack("max")(signals).scores), p.max(axis=1))
    np.testing.assert_allclose(ConfidenceAttack()(signals).scores, np.log(true / (1 - true)))
    assert ConfidenceAttack()(signals).auc == ConfidenceAttack("true")(signals).auc == LossAttack()(signals).auc


def test_entropy_is_the_formula():
    signals = signals_of()
    p = probabilities(signals)
    np.testing.assert_allclose(EntropyAttack(modified=False)(signals).scores, (p * np.log(p)).sum(axis=1))


def test_modified_entropy_is_equation_8():
    signals = signals_of()
    p, expected = probabilities(signals), np.zeros(400)
    for row, label in enumerate(signals.labels):
        expected[row] = (1 - p[row, label]) * np.log(p[row, label])
        expected[row] += sum(p[row, i] * np.log(1 - p[row, i]) for i in range(4) if i != label)
    np.testing.assert_allclose(EntropyAttack()(signals).scores, expected)


def test_modified_entropy_of_sure_predictions_is_finite_and_ordered():
    logits = np.array([[900.0, 0], [40.0, 0], [0, 40.0], [0, 900.0]])
    signals = Signals(logits, np.zeros(4, int), np.array([1, 0, 1, 0]))
    scores = EntropyAttack()(signals).scores
    assert np.isfinite(scores).all() and (np.diff(scores) < 0).all()


def test_thresholds_per_class_come_from_the_reference():
    audited, reference = signals_of(seed=0), signals_of(seed=1)
    shift = np.where(audited.labels == 0, 4.0, 0.0), np.where(reference.labels == 0, 4.0, 0.0)
    for signals, extra in zip((audited, reference), shift):
        signals.logits[np.arange(400), signals.labels] += extra
    plain, per_class = EntropyAttack()(audited), EntropyAttack()(audited, reference)
    point = per_class.decision()
    assert per_class.threshold == 0.0
    assert point.tpr - point.fpr > 0.2, "chosen without looking at the audited memberships"
    assert per_class.balanced_accuracy > plain.balanced_accuracy
    with pytest.raises(ValueError, match="every audited class"):
        EntropyAttack()(audited, signals_of(classes=3))


def test_population_attack_keeps_its_false_positive_rate():
    alpha, rates = 0.1, []
    for seed in range(40):
        signals, population = signals_of(400, seed=seed), signals_of(199, seed=1000 + seed, member_share=0)
        rates.append(PopulationAttack(alpha)(signals, population).decision().fpr)
    # 40 runs of 200 non-members against 199 losses: standard deviation of the mean 0.005
    assert abs(np.mean(rates) - alpha) < 0.02


def test_population_attack_takes_losses_too():
    signals, population = signals_of(), signals_of(seed=1, member_share=0)
    assert PopulationAttack()(signals, population).threshold == PopulationAttack()(signals, population.losses).threshold
    with pytest.raises(ValueError, match="at least 1 / alpha - 1 = 99"):
        PopulationAttack()(signals, population.losses[:98])
    found = PopulationAttack()(signals, population.losses[:99]).threshold
    assert found == np.nextafter(-population.losses[:99].min(), np.inf), "a tie is not below the quantile"


def test_label_only_counts_correct_views():
    signals = signals_of(views=8)
    result = LabelOnlyAttack()(signals)
    expected = [np.mean([query.argmax() == label for query in queries])
                for queries, label in zip(signals.queries, signals.labels)]
    np.testing.assert_allclose(result.scores, expected)
    assert result.auc > GapAttack()(signals).auc + 0.02, "copies add to the label of the record itself"
    with pytest.raises(ValueError, match="views"):
        LabelOnlyAttack()(signals_of())


def quantile_data(count, member_share, seed):
    """Margins that depend on a feature: hard to judge without it."""
    rng = np.random.default_rng(seed)
    feature = rng.uniform(-3, 3, (count, 1))
    is_member = np.arange(count) < member_share * count
    margin = 2 * feature[:, 0] + rng.normal(size=count) * (1 + (feature[:, 0] > 0)) + 1.5 * is_member
    return Signals(np.column_stack([margin, np.zeros(count)]), np.zeros(count, int), is_member), feature


@pytest.mark.parametrize("method", ["gaussian", "quantile"])
def test_quantile_attack_is_calibrated_and_uses_the_features(method):
    signals, features = quantile_data(2000, 0.5, 0)
    public, public_features = quantile_data(2000, 0, 1)
    result = QuantileAttack(0.1, method)(signals, public, features, public_features)
    # 1,000 non-members judged by the 0.9 quantile of 500: standard deviation 0.016
    assert abs(result.decision().fpr - 0.1) < 0.05
    assert result.auc > LossAttack()(signals).auc + 0.05
    assert QuantileAttack(0.1, method)(signals, public, features, public_features).scores.tolist() \
        == result.scores.tolist()


@pytest.mark.parametrize("change, text", [
    ({"features": np.zeros((3, 1))}, "features must have one row per record"),
    ({"features": np.full((100, 1), np.nan)}, "features must be finite"),
    ({"public": signals_of(100)}, "non-members only"),
    ({"public": signals_of(100, member_share=0)}, "at least 4 / alpha"),
])
def test_quantile_attack_refuses_bad_input(change, text):
    arguments = {"signals": signals_of(100), "public": signals_of(100, member_share=0), "features": np.zeros((100, 1)),
                 "public_features": np.zeros((100, 1)), **change}
    with pytest.raises(ValueError, match=text):
        QuantileAttack(0.01)(**arguments)


@pytest.mark.parametrize("make, error", [
    (lambda: ConfidenceAttack("sum"), ValueError),
    (lambda: EntropyAttack(1), TypeError),
    (lambda: PopulationAttack(0.0), ValueError),
    (lambda: PopulationAttack(float("nan")), ValueError),
    (lambda: PopulationAttack("low"), TypeError),
    (lambda: QuantileAttack(1.0), ValueError),
    (lambda: QuantileAttack(0.1, "linear"), ValueError),
    (lambda: QuantileAttack(0.1, seed=-1), ValueError),
    (lambda: QuantileAttack(0.1, seed=0.5), TypeError),
    (lambda: LossAttack()(np.zeros(3)), TypeError),
    (lambda: GapAttack()(None), TypeError),
])
def test_bad_arguments_are_refused(make, error):
    with pytest.raises(error):
        make()
