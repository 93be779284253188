"""The amortized and the moments accountant: the figures of their authors, and where they stand to sound ones."""
import math

import pytest

from mindarmour.privacy.accounting import Ledger, Sampling, StepEvent
from mindarmour.privacy.accounting.accountant import privacy_spent
from mindarmour.privacy.accounting.curves.gaussian import epsilon_of_gaussian
from mindarmour.privacy.accounting.legacy import AmortizedAccountant, EpsDelta, GaussianMomentsAccountant


def _classic_eps(sigma, delta):
    return math.sqrt(2 * math.log(1.25 / delta)) / sigma


def test_amortized_rule_on_the_setting_of_abadi():
    accountant = AmortizedAccountant(10_000)
    for _ in range(10_000):
        accountant.accumulate_privacy_spending((_classic_eps(4.0, 1e-7), 1e-7), 4.0, 100)
    spent = accountant.get_privacy_spent()
    assert spent.epsilon == pytest.approx(3.126, abs=1e-3)
    assert spent.delta == pytest.approx(1e-5)
    assert spent.kind == "estimate" and spent.accountant == "amortized" and "no theorem" in spent.note


def test_moments_accountant_reproduces_the_paper():
    accountant = GaussianMomentsAccountant(10_000)
    for _ in range(10_000):
        accountant.accumulate_privacy_spending(None, 4.0, 100)
    spent = accountant.get_privacy_spent(target_delta=1e-5)
    assert spent.epsilon == pytest.approx(1.25857, abs=2e-5)  # the paper says 1.26
    assert spent.kind == "guarantee"
    assert accountant.get_privacy_spent(target_eps=spent.epsilon).delta == pytest.approx(1e-5, rel=1e-6)


def test_the_sound_bound_is_below_the_moments_and_those_are_below_the_rule():
    ledger = Ledger()
    ledger.record(StepEvent(Sampling("poisson", 10_000, 100, "add-or-remove"), 4.0), 10_000)
    sound = privacy_spent(ledger.entries, 1e-5).epsilon
    assert sound == pytest.approx(1.03549, abs=1e-4) and sound < 1.25857 < 3.126


def test_the_rule_understates_at_large_eps():
    accountant = AmortizedAccountant(100)
    for _ in range(4):
        accountant.accumulate_privacy_spending((_classic_eps(0.5, 1e-5), 1e-5), 0.5, 100)
    spent = accountant.get_privacy_spent()
    assert spent.epsilon == pytest.approx(19.4, abs=0.05)
    assert epsilon_of_gaussian(math.sqrt(4) / 0.5, spent.delta) > spent.epsilon + 3


def test_the_rule_gives_one_pair_and_trades_nothing():
    accountant = AmortizedAccountant(100)
    accountant.accumulate_privacy_spending(EpsDelta(0.5, 1e-6), None, 100)
    assert accountant.get_privacy_spent(target_delta=1e-5).epsilon == pytest.approx(0.5)
    assert math.isinf(accountant.get_privacy_spent(target_delta=1e-7).epsilon)
    assert accountant.get_privacy_spent(target_eps=0.6).delta == pytest.approx(1e-6)
    assert accountant.get_privacy_spent(target_eps=0.4).delta == 1.0


def test_nothing_spent_is_nothing():
    assert AmortizedAccountant(10).get_privacy_spent().epsilon == 0
    assert GaussianMomentsAccountant(10).get_privacy_spent(target_eps=1.0).delta <= math.exp(-32)


def test_steps_with_different_noise_add_up():
    one, two = GaussianMomentsAccountant(1000), GaussianMomentsAccountant(1000)
    for sigma in (1.0, 2.0, 1.0):
        one.accumulate_privacy_spending(None, sigma, 50)
    for sigma in (1.0, 1.0, 2.0):
        two.accumulate_privacy_spending(None, sigma, 50)
    assert one.get_privacy_spent(target_delta=1e-5) == two.get_privacy_spent(target_delta=1e-5)


@pytest.mark.parametrize("make, name", [
    (lambda: AmortizedAccountant(0), "total_examples"), (lambda: AmortizedAccountant(1.5), "total_examples"),
    (lambda: GaussianMomentsAccountant(True), "total_examples"),
    (lambda: GaussianMomentsAccountant(10, 0), "moment_orders"),
    (lambda: AmortizedAccountant(10).accumulate_privacy_spending((-1.0, 1e-5), None, 5), "eps"),
    (lambda: AmortizedAccountant(10).accumulate_privacy_spending((1.0, 0.0), None, 5), "delta"),
    (lambda: AmortizedAccountant(10).accumulate_privacy_spending((math.nan, 1e-5), None, 5), "eps"),
    (lambda: AmortizedAccountant(10).accumulate_privacy_spending(1.0, None, 5), "eps_delta"),
    (lambda: AmortizedAccountant(10).accumulate_privacy_spending((1.0, 1e-5), None, 11), "num_examples"),
    (lambda: GaussianMomentsAccountant(10).accumulate_privacy_spending(None, 0.0, 5), "sigma"),
    (lambda: GaussianMomentsAccountant(10).accumulate_privacy_spending(None, math.inf, 5), "sigma"),
    (lambda: GaussianMomentsAccountant(10).accumulate_privacy_spending(None, 1.0, 0), "num_examples"),
    (lambda: GaussianMomentsAccountant(10).get_privacy_spent(), "target_eps or target_delta"),
    (lambda: GaussianMomentsAccountant(10).get_privacy_spent(1.0, 1e-5), "not both"),
    (lambda: AmortizedAccountant(10).get_privacy_spent(target_eps=-1.0), "target_eps"),
    (lambda: GaussianMomentsAccountant(10).get_privacy_spent(target_delta=1.0), "target_delta"),
])
def test_refuses_bad_input(make, name):
    with pytest.raises((TypeError, ValueError), match=name):
        make()
