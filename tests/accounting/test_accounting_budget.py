"""The guard agrees with the accountant at every step and asks the slow one rarely."""
import math

import pytest

from mindarmour.privacy.accounting import Accountant, Ledger, StepEvent
from mindarmour.privacy.accounting.budget import BudgetGuard
from mindarmour.privacy.accounting.planning import plan_sampling

EVENT = StepEvent(plan_sampling("poisson", 2000, 50), 1.5)


def last_allowed(guard, limit=400, event=EVENT):
    ledger = Ledger()
    for step in range(limit):
        if not guard.allows(ledger.preview(event)):
            return step
        ledger.record(event)
    return limit


@pytest.mark.parametrize("accountant", ["rdp", "zcdp"])
def test_stops_before_the_step_that_would_exceed(accountant):
    budget = 1.2 if accountant == "rdp" else 60.0
    steps = last_allowed(BudgetGuard(budget, 1e-5, accountant))
    assert 10 < steps < 400
    ledger, accountant = Ledger(), Accountant(1e-5, accountant)
    ledger.record(EVENT, steps)
    assert accountant.epsilon_after(ledger.entries) <= budget
    assert accountant.epsilon_after(ledger.preview(EVENT)) > budget


def test_pld_is_asked_rarely_and_stops_at_its_own_limit(monkeypatch):
    pytest.importorskip("dp_accounting")
    asked = []
    original = Accountant.epsilon_after

    def counted(self, entries):
        if self._accountant == "pld":
            asked.append(entries)
        return original(self, entries)
    monkeypatch.setattr(Accountant, "epsilon_after", counted)
    steps = last_allowed(BudgetGuard(1.0, 1e-5, "pld"))
    assert last_allowed(BudgetGuard(1.0, 1e-5, "rdp")) < steps < 400
    assert 0 < len(asked) <= 30
    ledger, accountant = Ledger(), Accountant(1e-5, "pld")
    ledger.record(EVENT, steps)
    assert accountant.epsilon_after(ledger.entries) <= 1.0 * 1.001
    assert accountant.epsilon_after(ledger.preview(EVENT, 4)) > 1.0


def test_forgets_what_no_longer_applies():
    pytest.importorskip("dp_accounting")
    guard = BudgetGuard(1.0, 1e-5, "pld")
    ledger = Ledger()
    ledger.record(EVENT, 150)
    first = guard.allows(ledger.preview(EVENT, 1000))
    assert not first and guard.allows(Ledger().preview(EVENT))


@pytest.mark.parametrize("arguments, name, error", [
    ((0.0, 1e-5), "epsilon", ValueError), ((math.nan, 1e-5), "epsilon", ValueError),
    (("1", 1e-5), "epsilon", TypeError),
    ((1.0, 0.0), "delta", ValueError), ((1.0, 1e-5, "gdp"), "accountant", ValueError),
    ((1.0, 1e-5, "rdp", "bounded"), "relation", ValueError)])
def test_bad_arguments_are_refused(arguments, name, error):
    with pytest.raises(error, match=name):
        BudgetGuard(*arguments)
