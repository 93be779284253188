"""Laplace, Gaussian and randomised response: right noise, right calibration, one clear error each."""
import math
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from mindarmour.privacy.accounting import Ledger, Sampling
from mindarmour.privacy.accounting.accountant import privacy_spent
from mindarmour.privacy.accounting.curves.gaussian import delta_of_gaussian, epsilon_of_gaussian
from mindarmour.privacy.accounting.events import ReleaseEvent, StepEvent, basic_composition
from mindarmour.privacy.release import GaussianMechanism, LaplaceMechanism, RandomizedResponse
from mindarmour.privacy.release.inputs import as_floats, clipped_records
from mindarmour.privacy.release.rounding import grid_step
from mindarmour.utils.secure_random import SecureStream

SCALES = pytest.mark.parametrize("wrong, accepted", [(1.0, True), (0.7, False), (1.3, False)])


@SCALES
def test_laplace_noise_has_the_stated_law(wrong, accepted):
    mechanism = LaplaceMechanism(epsilon=0.5, sensitivity=3.0)
    noise = mechanism.randomize(np.full(4000, 7.0)) - 7.0
    assert mechanism.scale == 6.0
    assert (stats.kstest(noise, stats.laplace(scale=wrong * 6.0).cdf).pvalue > 1e-4) == accepted


@SCALES
def test_gaussian_noise_has_the_stated_law(wrong, accepted):
    mechanism = GaussianMechanism(epsilon=1.0, delta=1e-5, sensitivity=2.0)
    noise = mechanism.randomize(np.full(4000, -3.0)) + 3.0
    law = stats.norm(scale=wrong * mechanism.scale)
    assert (stats.kstest(noise, law.cdf).pvalue > 1e-4) == accepted


@pytest.mark.parametrize("epsilon, delta, published", [
    (1.0, 1e-5, 3.730631634816464),  # the authors' reference implementation
    (0.1, 1e-5, 30.746),
    (10.0, 1e-5, 0.4999)])
def test_gaussian_calibration_matches_published_values(epsilon, delta, published):
    assert GaussianMechanism(epsilon, delta, 1.0).scale == pytest.approx(published, rel=1e-3)


@pytest.mark.parametrize("epsilon, delta", [(0.3, 1e-6), (1.0, 1e-3), (4.0, 1e-9), (20.0, 1e-5)])
def test_gaussian_calibration_is_tight_and_never_above_delta(epsilon, delta):
    scale = GaussianMechanism(epsilon, delta, 1.0).scale
    assert delta_of_gaussian(1 / scale, epsilon) <= delta * (1 + 1e-9)
    assert delta_of_gaussian(1 / (0.999 * scale), epsilon) > delta
    dp_accounting = pytest.importorskip("dp_accounting")
    assert scale == pytest.approx(dp_accounting.get_sigma_gaussian(epsilon, delta), rel=1e-4)


def test_the_classic_formula_is_not_used_where_it_is_wrong():
    classic = math.sqrt(2 * math.log(1.25 / 1e-2)) / 12
    assert delta_of_gaussian(1 / classic, 12.0) > 1e-2
    assert GaussianMechanism(12.0, 1e-2, 1.0).scale > classic


@SCALES
def test_randomised_response_tells_the_truth_as_often_as_stated(wrong, accepted):
    response = RandomizedResponse(epsilon=1.5, num_categories=4)
    labels = np.tile(np.arange(4), 2000)
    reports = response.randomize(labels)
    expected = math.exp(wrong * 1.5) / (math.exp(wrong * 1.5) + 3)
    assert (stats.binomtest(int((reports == labels).sum()), 8000, expected).pvalue > 1e-4) == accepted
    lies = reports[reports != labels] - labels[reports != labels]
    assert stats.chisquare(np.bincount(lies % 4, minlength=4)[1:]).pvalue > 1e-4


def test_randomised_response_probabilities_are_the_published_ones():
    assert RandomizedResponse(math.log(3)).truth_probability == pytest.approx(0.75)  # Warner's two coins
    assert RandomizedResponse(1.0, 10).truth_probability == pytest.approx(math.e / (math.e + 9))
    for epsilon, k in [(0.2, 2), (3.0, 7)]:
        response = RandomizedResponse(epsilon, k)
        lie = (1 - response.truth_probability) / (k - 1)
        assert response.truth_probability / lie == pytest.approx(math.exp(epsilon))


def test_frequencies_are_recovered_within_their_standard_error():
    response = RandomizedResponse(epsilon=1.0, num_categories=3)
    truth = np.array([0.7, 0.2, 0.1])
    reports = response.randomize(np.repeat(np.arange(3), (truth * 30_000).astype(int)))
    estimate = response.estimate_frequencies(reports)
    error = response.standard_error(30_000)
    assert estimate.sum() == pytest.approx(1)
    assert np.abs(estimate - truth).max() < 4.5 * error < 0.07
    assert error == pytest.approx(np.sqrt(.25 / 30_000) / (response.truth_probability
                                                           - (1 - response.truth_probability) / 2))


@pytest.mark.parametrize("mechanism, order", [
    (lambda: LaplaceMechanism(1.0, clip_norm=2.0), 1), (lambda: GaussianMechanism(1.0, 1e-5, clip_norm=2.0), 2)])
def test_neighbouring_records_stay_within_the_sensitivity(mechanism, order):
    mechanism = mechanism()
    records = np.random.default_rng(1).normal(scale=5, size=(300, 2, 4))
    flat = clipped_records(records, mechanism.clip_norm, order).reshape(300, -1)
    distances = np.linalg.norm(flat[:, None] - flat[None], ord=order, axis=2)
    assert distances.max() <= mechanism.sensitivity * (1 + 1e-12)
    extremes = clipped_records(np.array([[1e9, 0], [-1e9, 0]]), mechanism.clip_norm, order)
    assert np.linalg.norm(extremes[0] - extremes[1], ord=order) == pytest.approx(mechanism.sensitivity)
    short = clipped_records(np.full((1, 3), 1e-3), mechanism.clip_norm, order)
    np.testing.assert_array_equal(short, np.full((1, 3), 1e-3))


def test_records_are_noised_for_their_own_sensitivity_only():
    mechanism = LaplaceMechanism(1.0, clip_norm=1.0)
    noise = mechanism.randomize(np.zeros((2000, 3)))
    assert stats.kstest(noise.ravel(), stats.laplace(scale=2.0).cdf).pvalue > 1e-4


def test_results_lie_on_the_grid_whatever_the_value():
    mechanism = LaplaceMechanism(1.0, 1.0)
    out = mechanism.randomize(np.array([math.pi, 1e-9, -2.0 / 3.0, 1e300]))
    assert (out[:3] / grid_step(1.0) == np.rint(out[:3] / grid_step(1.0))).all()
    assert out[3] == 1e300


def test_calls_add_up_in_the_ledger():
    ledger = Ledger()
    LaplaceMechanism(0.5, 1.0, ledger=ledger).randomize(1.0)
    response = RandomizedResponse(2.0, ledger=ledger)
    response.randomize([0, 1])
    response.randomize([1])
    assert basic_composition(ledger.entries) == (4.5, 0.0)
    GaussianMechanism(1.0, 1e-5, 1.0, ledger=ledger).randomize(1.0)
    event = ledger.entries[-1].event
    assert isinstance(event, StepEvent)
    assert delta_of_gaussian(1 / event.effective_multiplier, 1.0) == pytest.approx(1e-5)
    with pytest.raises(TypeError, match="privacy_spent"):
        basic_composition(ledger.entries)


def test_two_runs_never_repeat_their_noise():
    mechanism = GaussianMechanism(1.0, 1e-5, 1.0)
    assert not np.array_equal(mechanism.randomize(np.zeros(4)), mechanism.randomize(np.zeros(4)))


def test_release_events_bound_randomised_response_exactly():
    orders = np.array([1.5, 2.0, 8.0, 200.0])
    for epsilon in (0.01, 1.0, 6.0, 40.0):
        rdp = ReleaseEvent(epsilon).rdp(orders)
        assert (rdp <= np.minimum(epsilon, orders * epsilon ** 2 / 2) * (1 + 1e-9)).all()
        p = 1 / (1 + math.exp(-epsilon))
        if epsilon < 10:
            few = orders[:3]
            moment = p ** few * (1 - p) ** (1 - few) + (1 - p) ** few * p ** (1 - few)
            np.testing.assert_allclose(rdp[:3], np.log(moment) / (few - 1), rtol=1e-9, atol=1e-12)
    assert (ReleaseEvent(0.0).rdp(orders) < 1e-15).all()
    assert np.isinf(ReleaseEvent(math.inf).rdp(orders)).all()
    for arguments in ((-1.0,), (math.nan,), (1.0, 1.0), (1.0, -0.1)):
        with pytest.raises(ValueError, match="must be"):
            ReleaseEvent(*arguments)
    with pytest.raises(ValueError, match="replace-one"):
        ReleaseEvent(1.0, sampling=Sampling("full", 10, 10, "zero-out"))


def test_every_kind_of_release_composes_in_privacy_spent():
    ledger = Ledger()
    RandomizedResponse(1.0, ledger=ledger).randomize([0])
    assert privacy_spent(ledger.entries, 1e-5).epsilon == pytest.approx(1.0)
    for _ in range(30):
        GaussianMechanism(1.0, 1e-6, 1.0, ledger=ledger).randomize(1.0)
    together = privacy_spent(ledger.entries, 1e-5)
    assert together.relation == "replace-one"
    gauss = epsilon_of_gaussian(math.sqrt(30) / GaussianMechanism(1.0, 1e-6, 1.0).scale, 1e-5)
    assert gauss < together.epsilon < 1.25 * (gauss + 1.0)
    ledger.record(ReleaseEvent(math.inf))
    assert math.isinf(privacy_spent(ledger.entries, 1e-5).epsilon)


@pytest.mark.parametrize("make, name", [
    (lambda: LaplaceMechanism(0, 1.0), "epsilon"), (lambda: LaplaceMechanism(-1.0, 1.0), "epsilon"),
    (lambda: LaplaceMechanism(math.nan, 1.0), "epsilon"), (lambda: LaplaceMechanism("1", 1.0), "epsilon"),
    (lambda: LaplaceMechanism(1.0, -1.0), "sensitivity"), (lambda: LaplaceMechanism(1.0, math.inf), "sensitivity"),
    (lambda: LaplaceMechanism(1.0), "either sensitivity"),
    (lambda: LaplaceMechanism(1.0, 1.0, clip_norm=1.0), "either sensitivity"),
    (lambda: LaplaceMechanism(1.0, clip_norm=0.0), "clip_norm"),
    (lambda: LaplaceMechanism(1.0, 1.0, ledger=3), "ledger"),
    (lambda: GaussianMechanism(-1.0, 1e-5, 1.0), "epsilon"), (lambda: GaussianMechanism(1.0, 0.0, 1.0), "delta"),
    (lambda: GaussianMechanism(1.0, 1.0, 1.0), "delta"), (lambda: GaussianMechanism(1.0, 1e-5, 0), "sensitivity"),
    (lambda: GaussianMechanism(1.0, 1e-5), "either sensitivity"),
    (lambda: RandomizedResponse(0.0), "epsilon"), (lambda: RandomizedResponse(math.inf), "epsilon"),
    (lambda: RandomizedResponse(1.0, 1), "num_categories"), (lambda: RandomizedResponse(1.0, 2.5), "num_categories"),
    (lambda: RandomizedResponse(1.0).randomize([2]), "labels"),
    (lambda: RandomizedResponse(1.0).randomize([-1]), "labels"),
    (lambda: RandomizedResponse(1.0).randomize([0.5]), "labels"),
    (lambda: RandomizedResponse(1.0).estimate_frequencies([]), "reports"),
    (lambda: RandomizedResponse(1.0).standard_error(0), "num_reports"),
    (lambda: LaplaceMechanism(1.0, 1.0).randomize([math.nan]), "finite"),
    (lambda: LaplaceMechanism(1.0, 1.0).randomize(["a"]), "numbers"),
    (lambda: LaplaceMechanism(1.0, clip_norm=1.0).randomize(3.0), "records"),
])
def test_refuses_bad_input(make, name):
    with pytest.raises((TypeError, ValueError), match=name):
        make()


@pytest.mark.parametrize("norm, scale", [(1e-200, 1e-170), (1e-300, 1e-10), (1.0, 1e300), (1e300, 1e308), (1.0, 3.0)])
@pytest.mark.parametrize("order", [1, 2])
def test_every_clip_norm_is_kept(norm, scale, order):
    records = np.random.default_rng(0).normal(size=(50, 7)) * (scale / 10)
    for row in clipped_records(records, norm, order):
        exact = sum(abs(Fraction(x)) ** order for x in row)
        assert exact <= Fraction(norm) ** order  # to the last bit, in exact arithmetic
        assert exact >= (Fraction(norm) * Fraction(0.999)) ** order or scale == 3.0


@pytest.mark.parametrize("shape", [(0, 3), (0,), (4, 0), (2, 0, 3)])
def test_no_records_and_empty_records_are_released_as_they_are(shape):
    for mechanism in (LaplaceMechanism(1.0, clip_norm=1.0), GaussianMechanism(1.0, 1e-5, clip_norm=1.0),
                      LaplaceMechanism(1.0, 1.0), GaussianMechanism(1.0, 1e-5, 1.0)):
        assert mechanism.randomize(np.zeros(shape)).shape == shape


def test_a_record_that_is_not_finite_is_no_refusal():
    mechanism = LaplaceMechanism(1e6, clip_norm=1.0)
    with pytest.warns(UserWarning, match="2 of the 3 records"):
        out = mechanism.randomize([[math.nan, 1.0], [math.inf, 0.0], [0.5, 0.0]])
    np.testing.assert_allclose(out, [[0, 0], [0, 0], [0.5, 0]], atol=1e-3)
    assert mechanism.ledger.steps == 1


@pytest.mark.parametrize("values", [[1 + 2j], ["1.0"], [None], [[1.0], [1.0, 2.0]], np.array([1.0], np.longdouble),
                                    np.array(["2020-01-01"], "datetime64[D]")])
def test_what_is_no_real_number_is_refused(values):
    mechanism = LaplaceMechanism(1.0, 1.0)
    with pytest.raises(TypeError, match="values must be"):
        mechanism.randomize(values)
    assert mechanism.ledger.steps == 0


@pytest.mark.parametrize("first", [2 ** 60 + 127, 2 ** 63 - 1, -2 ** 63, 2 ** 64 - 2, 10 ** 30])
def test_whole_numbers_never_move_apart(first):
    # float64 would round 2**60 + 127 down and 2**60 + 128 up, 256 apart
    a, b = (as_floats("values", [value])[0] for value in (first, first + 1))
    assert abs(a - b) <= 1


@pytest.mark.parametrize("make", [
    lambda: LaplaceMechanism(1e-320, 1.0), lambda: LaplaceMechanism(1.0, 1e-320), lambda: LaplaceMechanism(1.0, 1e308),
    lambda: LaplaceMechanism(1.0, clip_norm=1.7e308), lambda: GaussianMechanism(1e-320, 1e-320, 1.0),
    lambda: GaussianMechanism(1e-300, 1e-300, 1.0), lambda: GaussianMechanism(1e-12, 1e-12, 1.0),
    lambda: GaussianMechanism(1.0, 1e-5, 1e-300), lambda: RandomizedResponse(1.0, 2 ** 60),
    lambda: RandomizedResponse(1e-17, 3), lambda: RandomizedResponse(1e-17).standard_error(5),
    lambda: LaplaceMechanism(1e-9, 1.0).randomize(np.zeros(10 ** 7))])
def test_budgets_that_float64_cannot_carry_are_refused_in_words(make):
    with pytest.raises(ValueError, match="epsilon"):
        make()


@pytest.mark.parametrize("epsilon", [1e-3, 1.0, 10.0, 29.9, 36.0, 37.0, 50.0, 700.0, 1e5])
@pytest.mark.parametrize("categories", [2, 3, 10, 10 ** 6])
def test_randomised_response_draws_at_most_the_stated_log_odds(epsilon, categories):
    response = RandomizedResponse(epsilon, categories)
    truth = Fraction(response.truth_probability)  # drawn by comparing 52 bits with this whole number of units
    lie = (1 - truth) / (categories - 1)
    assert lie > 0 and truth * 2 ** 52 == int(truth * 2 ** 52)
    odds = Decimal(truth.numerator) / truth.denominator / (Decimal(lie.numerator) / lie.denominator)
    assert abs(odds.ln()) <= Decimal(epsilon)
    assert odds.ln() >= Decimal(min(epsilon, 29.9)) * Decimal("0.999") - Decimal("1e-9")


@pytest.mark.parametrize("word, lies", [(0, False), ("below", False), ("at", True), (2 ** 64 - 1, True)])
def test_randomised_response_compares_all_52_bits(word, lies, monkeypatch):
    response = RandomizedResponse(2.0)
    units = round(response.truth_probability * 2 ** 52)
    word = {"below": (units << 12) - 1, "at": units << 12}.get(word, word)
    monkeypatch.setattr(SecureStream, "words", lambda self, count: np.full(count, word, np.uint64))
    monkeypatch.setattr(SecureStream, "integers", lambda self, high, size: np.zeros(size, np.int64))
    assert (response.randomize([0, 1]) != [0, 1]).all() == lies


def test_the_largest_numbers_stay_finite():
    largest = np.finfo(np.float64).max
    out = LaplaceMechanism(1.0, 2.0 ** 899).randomize(np.array([largest, -largest]))
    assert np.isfinite(out).all()
