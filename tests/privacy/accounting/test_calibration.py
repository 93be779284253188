"""Calibration: the budget is kept, and anything slightly better would break it."""
import math

import numpy as np
import pytest
from scipy.stats import norm

from mindarmour.privacy.accounting import Accountant, privacy_spent
from mindarmour.privacy.accounting.calibration import (
    batch_size_for,
    delta_for,
    epochs_for,
    noise_multiplier_for,
    noise_multiplier_for_advantage,
    noise_multiplier_for_bayes_risk,
    noise_multiplier_for_rates,
    smallest_multiplier,
    steps_for,
)
from mindarmour.privacy.accounting.curves.tradeoff import (
    advantage_of_gaussian,
    true_positive_rate_from_curve,
    true_positive_rate_of_gaussian,
)
from mindarmour.privacy.accounting.planning import plan_sampling, planned_entries
from mindarmour.privacy.accounting.sampling import steps_of_epoch

MNIST = plan_sampling("poisson", 60000, 256)
KINDS = ("poisson", "balls-in-bins", "shuffle", "fixed", "full")


def epsilon(sampling, multiplier, steps, accountant="rdp", unit="example"):
    return privacy_spent(planned_entries(sampling, multiplier, steps, unit), 1e-5, accountant).epsilon


def test_published_calibrations():
    assert noise_multiplier_for(3.0, 1e-5, MNIST, 14062) == pytest.approx(1.0141, abs=2e-4)
    assert steps_for(3.0, 1e-5, MNIST, 1.1) == 18338


@pytest.mark.slow
def test_pld_needs_less_noise():
    pytest.importorskip("dp_accounting")
    found = noise_multiplier_for(3.0, 1e-5, MNIST, 14062, "pld")
    assert found == pytest.approx(0.9692, rel=0.003)
    assert epsilon(MNIST, found, 14062, "pld") <= 3


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("budget", [0.5, 4.0, 50.0])
@pytest.mark.parametrize("unit", ["example", "micro-batch"])
def test_noise_keeps_the_budget_and_is_not_wasted(kind, budget, unit):
    sampling = plan_sampling(kind, 5000, 100, unit=unit)
    found = noise_multiplier_for(budget, 1e-5, sampling, 100, unit=unit)
    assert epsilon(sampling, found, 100, unit=unit) <= budget
    assert epsilon(sampling, found * 0.995, 100, unit=unit) > budget


@pytest.mark.parametrize("kind", KINDS)
def test_length_keeps_the_budget_and_one_more_would_not(kind):
    sampling = plan_sampling(kind, 5000, 100)
    multiplier = {"shuffle": 4.0, "full": 40.0, "fixed": 2.0}.get(kind, 1.0)
    steps = steps_for(3.0, 1e-5, sampling, multiplier)
    assert steps > 0
    assert epsilon(sampling, multiplier, steps) <= 3.0 < epsilon(sampling, multiplier, steps + 1)
    epochs = epochs_for(3.0, 1e-5, sampling, multiplier)
    per_epoch = steps_of_epoch(kind, 5000, 100)
    assert epsilon(sampling, multiplier, epochs * per_epoch) <= 3.0
    assert epsilon(sampling, multiplier, (epochs + 1) * per_epoch) > 3.0
    assert epochs == steps // per_epoch


def test_the_last_epoch_keeps_the_budget():
    # the original returns the first epoch beyond it: 17, which costs 2.018
    sampling = plan_sampling("poisson", 60000, 256)
    epochs = epochs_for(2.0, 1e-5, sampling, 1.5)
    assert epsilon(sampling, 1.5, epochs * 234) <= 2.0 < epsilon(sampling, 1.5, (epochs + 1) * 234)


def test_no_step_fits_into_a_tiny_budget():
    assert steps_for(0.01, 1e-5, MNIST, 0.5) == 0
    assert epochs_for(0.01, 1e-5, MNIST, 0.5) == 0


def test_batch_size_keeps_the_budget():
    for length in ({"steps": 1000}, {"epochs": 60}):
        found = batch_size_for(3.0, 1e-5, MNIST, 1.1, **length)
        for size, fits in ((found, True), (found + 1, False)):
            plan = plan_sampling("poisson", 60000, size)
            steps = length.get("steps") or 60 * steps_of_epoch("poisson", 60000, size)
            assert (epsilon(plan, 1.1, steps) <= 3.0) is fits
    with pytest.raises(ValueError, match="epsilon"):
        batch_size_for(1e-4, 1e-5, plan_sampling("poisson", 10, 1), 0.3, steps=1000)


def test_delta_belongs_to_epsilon():
    delta = delta_for(2.0, MNIST, 1.1, 14062)
    assert privacy_spent(planned_entries(MNIST, 1.1, 14062), delta * (1 + 1e-9)).epsilon <= 2.0
    assert delta > delta_for(3.0, MNIST, 1.1, 14062)


def test_attack_bounds_of_the_gaussian_are_exact():
    sampling = plan_sampling("full", 100, 100)
    for multiplier in (0.7, 2.0):
        entries, mu = planned_entries(sampling, multiplier, 1), 1 / multiplier
        judge = Accountant(0.5)
        thresholds = np.linspace(-10, 12, 20001)
        advantage = (norm.sf(thresholds - mu) - norm.sf(thresholds)).max()
        assert judge.advantage(entries) == pytest.approx(advantage, rel=1e-6)
        assert judge.true_positive_rate(entries, 0.01) == pytest.approx(norm.sf(norm.isf(0.01) - mu), rel=1e-9)


def test_attack_bounds_from_a_curve_are_those_of_the_gaussian():
    def delta_at(epsilons):
        return norm.cdf(0.5 - epsilons) - np.exp(epsilons) * norm.cdf(-0.5 - epsilons)
    for rate in (1e-3, 0.01, 0.3, 0.9):
        exact = true_positive_rate_of_gaussian(1.0, rate)
        assert exact <= true_positive_rate_from_curve(delta_at, rate) <= exact * 1.01


@pytest.mark.parametrize("accountant", ["rdp", "pld"])
def test_attacks_on_poisson_sampling_stay_below_the_bound(accountant):
    if accountant == "pld":
        pytest.importorskip("dp_accounting")
    sampling = plan_sampling("poisson", 20, 10)
    entries = planned_entries(sampling, 1.0, 1)
    judge = Accountant(0.5, accountant)
    thresholds = np.linspace(-10, 12, 20001)
    true, false = 0.5 * norm.sf(thresholds) + 0.5 * norm.sf(thresholds - 1), norm.sf(thresholds)
    assert (true - false).max() <= judge.advantage(entries)
    for rate in (0.01, 0.2):
        best = true[false <= rate].max()
        bound = judge.true_positive_rate(entries, rate)
        assert best <= bound
        if accountant == "pld":
            assert bound <= best * 1.05


def test_noise_against_attacks_keeps_the_limit():
    sampling = plan_sampling("shuffle", 60000, 256)
    multiplier = noise_multiplier_for_advantage(0.1, sampling, 2340)
    assert advantage_of_gaussian(math.sqrt(10) / multiplier) == pytest.approx(0.1, rel=2e-3)
    assert advantage_of_gaussian(math.sqrt(10) / multiplier) <= 0.1
    multiplier = noise_multiplier_for_rates(0.05, 0.01, sampling, 2340)
    assert 0.0497 <= true_positive_rate_of_gaussian(math.sqrt(10) / multiplier, 0.01) <= 0.05
    judge = Accountant(0.5, "rdp")
    multiplier = noise_multiplier_for_advantage(0.1, MNIST, 2340, "rdp")
    assert 0.095 <= judge.advantage(planned_entries(MNIST, multiplier, 2340)) <= 0.1


@pytest.mark.parametrize("prior", [0.02, 0.3, 0.5, 0.9])
def test_bayes_risk_is_that_of_the_best_guess(prior):
    full, poisson = plan_sampling("full", 100, 100), plan_sampling("poisson", 20, 10)
    outcomes = np.linspace(-12, 14, 200001)
    without, width = norm.pdf(outcomes), outcomes[1] - outcomes[0]
    for sampling, rate in ((full, 1.0), (poisson, 0.5)):
        member = rate * norm.pdf(outcomes - 1) + (1 - rate) * without
        # removing a record and adding it: whoever attacks chooses which of the two is the data set
        exact = min((np.minimum(prior * a, (1 - prior) * b)).sum() * width
                    for a, b in ((member, without), (without, member)))
        bound = Accountant(0.5).bayes_risk(planned_entries(sampling, 1.0, 1), prior)
        assert 0 <= bound <= exact * (1 + 1e-6)
        if sampling is full:
            assert bound == pytest.approx(exact, rel=1e-4)


def test_noise_for_a_bayes_risk_keeps_it():
    sampling = plan_sampling("shuffle", 60000, 256)
    for prior, risk in ((0.5, 0.4), (0.05, 0.03), (0.95, 0.03)):
        multiplier = noise_multiplier_for_bayes_risk(risk, prior, sampling, 2340)
        reached = Accountant(0.5).bayes_risk(planned_entries(sampling, multiplier, 2340), prior)
        assert risk <= reached <= risk * 1.01
    with pytest.raises(ValueError, match=r"bayes_risk must be below 0\.05"):
        noise_multiplier_for_bayes_risk(0.06, 0.95, sampling, 2340)


def test_search_is_exact_on_a_known_cost():
    for limit in (1e-3, 1.0, 7.0):
        found = smallest_multiplier(lambda z: 5 / z ** 2, limit, 1e-4)
        assert math.sqrt(5 / limit) <= found <= math.sqrt(5 / limit) * 1.0001
    steps = smallest_multiplier(lambda z: math.inf if z < 3.3 else 0.0, 1.0, 1e-3)
    assert 3.3 <= steps <= 3.3 * 1.001
    with pytest.raises(ValueError, match="budget"):
        smallest_multiplier(lambda z: 2.0, 1.0, 1e-3)


@pytest.mark.parametrize("call, name, error", [
    (lambda: noise_multiplier_for(0, 1e-5, MNIST, 10), "epsilon", ValueError),
    (lambda: noise_multiplier_for("3", 1e-5, MNIST, 10), "epsilon", TypeError),
    (lambda: noise_multiplier_for(3.0, 0.0, MNIST, 10), "delta", ValueError),
    (lambda: noise_multiplier_for(3.0, 1e-5, MNIST, 0), "steps", ValueError),
    (lambda: noise_multiplier_for(3.0, 1e-5, MNIST, 10.0), "steps", TypeError),
    (lambda: noise_multiplier_for(3.0, 1e-5, MNIST, 10, unit="batch"), "unit", ValueError),
    (lambda: noise_multiplier_for(3.0, 1e-5, MNIST, 10, "gdp"), "accountant", ValueError),
    (lambda: steps_for(math.nan, 1e-5, MNIST, 1.0), "epsilon", ValueError),
    (lambda: steps_for(1.0, 1e-5, MNIST, 0.0), "noise_multiplier", ValueError),
    (lambda: epochs_for(1.0, 1e-5, MNIST, math.inf), "noise_multiplier", ValueError),
    (lambda: batch_size_for(1.0, 1e-5, MNIST, 1.0), "steps", ValueError),
    (lambda: batch_size_for(1.0, 1e-5, MNIST, 1.0, 5, 5), "steps", ValueError),
    (lambda: delta_for(-1.0, MNIST, 1.0, 5), "epsilon", ValueError),
    (lambda: noise_multiplier_for_advantage(0.0, MNIST, 5), "advantage", ValueError),
    (lambda: noise_multiplier_for_advantage(1.0, MNIST, 5), "advantage", ValueError),
    (lambda: noise_multiplier_for_rates(0.1, 0.1, MNIST, 5), "true_positive_rate", ValueError),
    (lambda: noise_multiplier_for_rates(1.1, 0.1, MNIST, 5), "true_positive_rate", ValueError),
    (lambda: noise_multiplier_for_rates(0.5, -0.1, MNIST, 5), "false_positive_rate", ValueError),
    (lambda: advantage_of_gaussian(-1.0), "mu", ValueError),
    (lambda: true_positive_rate_of_gaussian(1.0, 2.0), "false_positive_rate", ValueError),
    (lambda: plan_sampling("systematic", 10, 1), "sampling", ValueError),
    (lambda: plan_sampling("poisson", 0, 1), "num_examples", ValueError),
    (lambda: plan_sampling("poisson", 10, 11), "batch_size", ValueError),
    (lambda: plan_sampling("poisson", 10, 1, "unbounded"), "relation", ValueError),
    (lambda: plan_sampling("poisson", 10, 1, unit="epoch"), "unit", ValueError),
    (lambda: planned_entries(MNIST, 1.0, -1), "steps", ValueError)])
def test_bad_arguments_are_refused(call, name, error):
    with pytest.raises(error, match=name):
        call()
