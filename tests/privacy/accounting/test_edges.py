"""At the edges of double precision: a number that is right, infinity, or a clear refusal; never a crash."""
import math
from fractions import Fraction

import pytest

from mindarmour.privacy.accounting import Accountant, Ledger, LedgerEntry, Sampling, StepEvent, privacy_spent
from mindarmour.privacy.accounting import pld as pld_module
from mindarmour.privacy.accounting.accountant import privacy_spent_delta
from mindarmour.privacy.accounting.calibration import noise_multiplier_for
from mindarmour.privacy.accounting.curves.gaussian import delta_of_gaussian, epsilon_of_gaussian, mu_of_gaussian
from mindarmour.privacy.accounting.curves.rdp import DEFAULT_ORDERS, epsilon_from_rdp, rdp_gaussian
from mindarmour.privacy.accounting.events import ADD_OR_REMOVE, REPLACE_ONE, ZERO_OUT, ReleaseEvent
from mindarmour.privacy.accounting.planning import plan_sampling, planned_entries

ACCOUNTANTS = ("rdp", "zcdp", "pld")


def needs(accountant):
    if accountant == "pld":
        pytest.importorskip("dp_accounting")


def releases(count, steps=0, epsilon=1.0, delta=1e-5):
    ledger = Ledger()
    ledger.record(StepEvent(Sampling("poisson", 1000, 10, ADD_OR_REMOVE), 1.0), steps)
    ledger.record(ReleaseEvent(epsilon, delta), count)
    return ledger.entries


@pytest.mark.parametrize("accountant", ACCOUNTANTS)
@pytest.mark.parametrize("count, steps", [(1, 0), (3, 0), (1, 100)])
def test_below_a_stated_delta_epsilon_is_infinite(accountant, count, steps):
    needs(accountant)
    for delta in (5e-324, 1e-300, 1e-6, 9e-6):
        assert privacy_spent(releases(count, steps), delta, accountant).epsilon == math.inf
    judge = Accountant(1e-6, accountant)
    assert 0 < judge.advantage(releases(count, steps)) <= 1


@pytest.mark.parametrize("accountant", ACCOUNTANTS)
def test_delta_of_a_run_that_hides_nothing_is_one(accountant):
    needs(accountant)
    entries = planned_entries(plan_sampling("poisson", 3840, 256), 0.27, 150)
    for epsilon in (0.0, 1e-320, 30.0, 1e308):
        assert 0.0 <= privacy_spent_delta(entries, epsilon, accountant).delta <= 1.0
    assert privacy_spent_delta(entries, 0.0, accountant).delta > 0.99


@pytest.mark.parametrize("accountant", ("rdp", "zcdp"))
@pytest.mark.parametrize("multiplier", [5e-324, 1e-300, 1e-150, 1e-5, 1e5, 1e150, 1e300, 1.7e308])
def test_extreme_noise(accountant, multiplier):
    for kind in ("poisson", "balls-in-bins", "shuffle", "fixed", "full"):
        entries = planned_entries(plan_sampling(kind, 1000, 50), multiplier, 10)
        epsilon = privacy_spent(entries, 1e-5, accountant).epsilon
        assert epsilon >= 0 and (epsilon > 1e6) == (multiplier < 1)


@pytest.mark.parametrize("budget, delta, steps", [(0.001, 1e-9, 100), (0.01, 1e-8, 2344), (1e-9, 1e-12, 10 ** 9),
                                                  (1e-300, 1e-9, 10), (1e-320, 1e-5, 1), (1e-5, 1e-15, 10 ** 6)])
@pytest.mark.parametrize("kind", ["poisson", "full", "fixed"])
def test_tiny_budgets_are_reached_and_kept(budget, delta, steps, kind):
    sampling = plan_sampling(kind, 1000, 100)
    multiplier = noise_multiplier_for(budget, delta, sampling, steps)
    assert privacy_spent(planned_entries(sampling, multiplier, steps), delta).epsilon <= budget
    # never more noise than a run without any amplification needs
    doubled = 2.0 if kind == "fixed" else 1.0
    assert multiplier <= 1.001 * doubled * math.sqrt(steps) / mu_of_gaussian(budget, delta)


@pytest.mark.parametrize("delta", [1e-300, 1e-30, 1e-17, 1e-9, 1e-5])
@pytest.mark.parametrize("ratio, growth", [(0.0, 1.0), (1.0, 1.44528697), (1e-6, 1.0000005)])
def test_a_tiny_gaussian_keeps_its_digits(delta, ratio, growth):
    # to first order in mu: delta = mu (phi(r) - r Phi(-r)) at epsilon = r mu; at epsilon = 0: mu / sqrt(2 pi)
    mu = mu_of_gaussian(ratio * delta, delta)
    assert mu == pytest.approx(delta * math.sqrt(2 * math.pi) * growth, rel=1e-5)
    assert delta_of_gaussian(mu, ratio * delta) == pytest.approx(delta, rel=1e-9)


@pytest.mark.parametrize("value, error", [(0, ValueError), (-1e-320, ValueError), (10 ** 400, ValueError),
                                          (Fraction(10 ** 400), ValueError), (math.inf, ValueError)])
def test_budgets_that_are_none_are_refused(value, error):
    with pytest.raises(error, match="epsilon"):
        noise_multiplier_for(value, 1e-5, plan_sampling("poisson", 1000, 100), 10)


def test_sums_that_overflow_are_infinite():
    for entries in ((LedgerEntry(ReleaseEvent(1e308), 10 ** 10),), (LedgerEntry(ReleaseEvent(1.0), 2 ** 63 - 1),) * 3):
        for accountant in ("rdp", "zcdp"):
            assert privacy_spent(entries, 1e-5, accountant).epsilon > 1e18
    with pytest.raises(ValueError, match="steps"):
        LedgerEntry(ReleaseEvent(1.0), 10 ** 400)


def test_the_gaussian_without_amplification_bounds_every_sampling():
    for kind in ("poisson", "fixed", "balls-in-bins"):
        for relation in (REPLACE_ONE, None):
            entries = planned_entries(plan_sampling(kind, 1000, 100, relation), 1e4, 100)
            plain = planned_entries(plan_sampling("full", 1000, 100, entries[0].event.sampling.relation), 1e4, 100)
            assert privacy_spent(entries, 1e-9).epsilon <= privacy_spent(plain, 1e-9).epsilon
    cut = Sampling("poisson", 1000, 100, ADD_OR_REMOVE, max_batch_size=100)
    whole = Sampling("poisson", 1000, 100, ADD_OR_REMOVE)
    costs = [privacy_spent((LedgerEntry(StepEvent(s, 1e4), 100),), 1e-9).epsilon for s in (cut, whole)]
    assert costs[0] > costs[1]  # a record may displace another: the plain Gaussian does not bound that


def test_a_failure_inside_the_library_leaves_the_bound(monkeypatch):
    pytest.importorskip("dp_accounting")
    entries = planned_entries(plan_sampling("poisson", 1000, 100), 1.0, 100)
    bound = privacy_spent(entries, 1e-5).epsilon
    for failure in (OverflowError("int too large"), ValueError("empty"), MemoryError()):
        def fails(*_, error=failure):
            raise error
        monkeypatch.setattr(pld_module, "_composed", fails)
        spent = privacy_spent(entries, 1e-5, "pld")
        assert spent.epsilon == bound and "RDP bound" in spent.note
        assert Accountant(1e-5, "pld").advantage(entries) == Accountant(1e-5).advantage(entries)


# -- planted bugs that nothing noticed ----------------------------------------------------------------------------


def test_equal_releases_apart_from_each_other_add_up():
    first, second = ReleaseEvent(1.0, 1e-7), ReleaseEvent(0.5, 1e-7)
    apart = privacy_spent((LedgerEntry(first, 1), LedgerEntry(second, 1), LedgerEntry(first, 1)), 1e-5).epsilon
    together = privacy_spent((LedgerEntry(first, 2), LedgerEntry(second, 1)), 1e-5).epsilon
    assert apart == pytest.approx(together, rel=1e-12)


def test_one_accountant_serves_two_ledgers():
    sampling = Sampling("poisson", 1000, 50, ADD_OR_REMOVE)
    one, two = (tuple(LedgerEntry(StepEvent(sampling, z), 10) for z in levels)
                for levels in ((1.0, 2.0, 3.0), (0.5, 0.6, 0.7)))
    account = Accountant(1e-5)
    account.spent(one)
    assert account.spent(two).epsilon == Accountant(1e-5).spent(two).epsilon


@pytest.mark.parametrize("relation, cap", [(ADD_OR_REMOVE, 330), (ZERO_OUT, 300), (REPLACE_ONE, 300),
                                           (REPLACE_ONE, 330)])
def test_the_stated_epsilon_keeps_delta_where_batches_are_cut(relation, cap):
    event = StepEvent(Sampling("poisson", 60000, 256, relation, max_batch_size=cap), 1.0)
    entries = (LedgerEntry(event, 500),)
    epsilon = privacy_spent(entries, 1e-5).epsilon
    assert Accountant(0.5).delta_at(entries, epsilon).delta <= 1e-5 * (1 + 1e-6)


@pytest.mark.parametrize("steps", [1, 200])
def test_fixed_size_costs_at_least_the_pair_that_attains_it(steps):
    needs("pld")
    fixed = (LedgerEntry(StepEvent(Sampling("fixed", 1000, 50, REPLACE_ONE), 2.0), steps),)
    attained = (LedgerEntry(StepEvent(Sampling("poisson", 1000, 50, ADD_OR_REMOVE), 1.0), steps),)
    assert privacy_spent(fixed, 1e-5, "pld").epsilon >= 0.99 * privacy_spent(attained, 1e-5, "pld").epsilon


def test_rdp_is_never_below_the_exact_gaussian():
    for exponent in range(-20, 5):
        mu = 10 ** (exponent / 4)
        for delta in (1e-9, 1e-5, 1e-2):
            bound = epsilon_from_rdp(rdp_gaussian(1 / mu), DEFAULT_ORDERS, delta)
            assert bound >= epsilon_of_gaussian(mu, delta) * (1 - 1e-6)
            assert delta_of_gaussian(mu, epsilon_of_gaussian(mu, delta)) <= delta * (1 + 1e-9)
