"""Edges of the bounds: what is refused, what must be monotone, where digits could be lost."""
import math
import pickle
import subprocess
import sys

import numpy as np
import pytest

from mindarmour.privacy.accounting.curves.gaussian import delta_of_gaussian
from mindarmour.privacy.auditing import bounds


@pytest.mark.parametrize("call", [
    lambda: bounds.one_run_epsilon(100, 50, 51),
    lambda: bounds.one_run_epsilon(100, 101, 50),
    lambda: bounds.one_run_epsilon(100, 0, 0),
    lambda: bounds.one_run_epsilon(100, 50, 40, delta=1.0),
    lambda: bounds.one_run_epsilon(100, 50, 40, delta=-0.1),
    lambda: bounds.one_run_epsilon(100, 50, 40, confidence=1.0),
    lambda: bounds.one_run_epsilon(100, 50, 40, confidence=float("nan")),
    lambda: bounds.epsilon_from_rates(11, 10, 0, 10),
    lambda: bounds.epsilon_from_rates(1, 10, 11, 10),
    lambda: bounds.curve_p_value(100, 50, 40),
    lambda: bounds.curve_p_value(100, 50, 40, mu=1.0, curve=bounds.GaussianCurve(1.0)),
    lambda: bounds.anytime_epsilon("+5 x3"),
    lambda: bounds.anytime_epsilon("+100", delta=0.01),
    lambda: bounds.anytime_epsilon(np.ones(5)),
    lambda: bounds.exposure(0, 10),
    lambda: bounds.TabulatedCurve([1.0, math.inf], [0.1, 0.0]),
    lambda: bounds.TabulatedCurve([1.0], [1.5]),
    lambda: bounds.mu_from_scores(1, 1, 0.5),
])
def test_bad_arguments_are_refused(call):
    with pytest.raises(ValueError):
        call()


@pytest.mark.parametrize("guesses", [2, 10, 100, 5000])
def test_nothing_passes_the_ceiling(guesses):
    ceiling = bounds.one_run_ceiling(guesses)
    assert bounds.one_run_epsilon(10_000, guesses, guesses) == pytest.approx(ceiling, abs=1e-9)
    assert bounds.one_run_epsilon(10_000, guesses, guesses, delta=1e-7) <= ceiling


def test_ceilings_as_documented():
    needed = [next(r for r in range(1, 20_000) if bounds.one_run_ceiling(r) >= claim) for claim in (1.0, 2.0, 4.0, 8.0)]
    assert needed == [10, 24, 166, 8932]


def test_bound_grows_with_right_guesses():
    values = [bounds.one_run_epsilon(1000, 100, right, 1e-5) for right in range(0, 101, 5)]
    assert values == sorted(values) and values[0] == 0


def test_p_value_of_delta_near_one_is_one():
    assert bounds.one_run_p_value(1000, 100, 100, 0.0, delta=0.99) == 1.0


def test_huge_alpha_of_a_rate_keeps_its_digits():
    # P[Bin(100, p) <= 0] = alpha has a closed form
    assert bounds.clopper_pearson_upper(0, 100, 1e-13) == pytest.approx(1 - 1e-13 ** 0.01, rel=1e-9)


@pytest.mark.parametrize("mu", [1e-8, 1e-3, 0.3, 3.0, 8.0])
def test_a_table_of_the_gaussian_curve_is_close_and_never_stronger(mu):
    epsilons = np.concatenate([[0.0], np.geomspace(1e-6, 60, 600)])
    table = bounds.TabulatedCurve(epsilons, [delta_of_gaussian(mu, e) for e in epsilons])
    exact = bounds.GaussianCurve(mu)
    for rate in (1e-6, 1e-3, 0.1, 0.5, 0.9, 0.999, 1 - 1e-9):
        assert table.fpr_at(rate) <= exact.fpr_at(rate) + 1e-12
        assert table.tpr_at(rate) >= exact.tpr_at(rate) - 1e-12
    assert table.tpr_at(0.1) == pytest.approx(exact.tpr_at(0.1), rel=2e-3)
    assert table.accuracy_of_top(0.2) == pytest.approx(exact.accuracy_of_top(0.2), rel=2e-3)
    assert bounds.area_ceiling(exact) >= 0.5


def test_a_steep_line_keeps_its_digits():
    curve = bounds.pure_curve(60.0, 0.0)
    assert curve.fpr_at(1 - 1e-16) <= 1 - 1e-16
    assert curve.fpr_at(0.999) == pytest.approx(0.999 * math.exp(-60.0))


def test_table_tests_what_its_closed_form_tests():
    epsilons = np.concatenate([[0.0], np.geomspace(1e-5, 40, 800)])
    table = bounds.TabulatedCurve(epsilons, [delta_of_gaussian(1.0, e) for e in epsilons])
    exact = bounds.curve_p_value(1000, 138, 135, mu=1.0)
    assert exact <= bounds.curve_p_value(1000, 138, 135, curve=table) <= exact * 1.05


def test_ceilings_of_a_curve():
    curve = bounds.GaussianCurve(1.0)
    # Phi(mu / sqrt 2) is the area under the Gaussian curve
    assert 0.760250 <= bounds.area_ceiling(curve) <= 0.765
    assert bounds.reconstruction_ceiling(curve, 0.01) == pytest.approx(0.0923622, rel=1e-5)
    assert bounds.accuracy_ceiling(bounds.pure_curve(1.0)) == pytest.approx(math.e / (1 + math.e), rel=1e-9)


@pytest.mark.parametrize("mu", [1e-8, 1e-3])
def test_tiny_mu_keeps_its_digits(mu):
    """A difference of logarithms loses all digits here; a peer raises ValueError."""
    assert 0 <= bounds.epsilon_of_gaussian(mu, 1e-5) < 1e-2
    assert bounds.one_run_mu_epsilon(1000, 100, 59) >= 0


def test_anytime_survives_long_and_one_sided_sequences():
    assert bounds.anytime_epsilon("-5000") == 0
    assert 6 < bounds.anytime_epsilon("+20000") < bounds.one_run_ceiling(20_000)


def test_scores_without_spread_say_so():
    assert math.isnan(bounds.effect_size(np.ones(5), np.zeros(5)))


def test_statement_survives_pickling():
    value = pickle.loads(pickle.dumps(bounds.one_run_epsilon(100, 50, 45)))
    assert value.kind == "lower-bound" and value.confidence == 0.95


def test_bounds_import_no_mindspore():
    code = "import sys, mindarmour.privacy.auditing.bounds; sys.exit('mindspore' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
