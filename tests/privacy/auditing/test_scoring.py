"""Plan, scores and verdict: fixed beforehand, ties at random, nothing flipped, no two epsilons compared."""
import math

import numpy as np
import pytest

from mindarmour.privacy.accounting import Ledger, Sampling, StepEvent
from mindarmour.privacy.auditing.claim import claim_of_ledger
from mindarmour.privacy.auditing.plan import AuditPlan
from mindarmour.privacy.auditing.scoring import CanaryScores, audited

COUNT = 1000


def claim_of(multiplier):
    ledger = Ledger()
    ledger.record(StepEvent(Sampling("poisson", 3000, 250, "add-or-remove"), multiplier), steps=72)
    return claim_of_ledger(ledger, 1e-5, "rdp")


CLAIM = claim_of(1.0)
PLAN = AuditPlan.for_claim(COUNT, CLAIM.statement.epsilon, 1e-5)


def drawn(factor, seed):
    rng = np.random.default_rng(seed)
    coins = rng.random(COUNT) < 0.5
    return CanaryScores(factor * CLAIM.mu * coins + rng.normal(size=COUNT), coins)


def test_true_claims_are_seldom_contradicted_and_gross_lies_always():
    true = [audited(drawn(1.0, seed), CLAIM, PLAN).verdict for seed in range(100)]
    false = [audited(drawn(4.0, seed), CLAIM, PLAN).verdict for seed in range(20)]
    assert true.count("contradicted") <= 5 and set(true) <= {"contradicted", "not contradicted"}
    assert set(false) == {"contradicted"}


def test_a_bound_below_the_claim_can_still_contradict():
    result = audited(drawn(3.0, 0), CLAIM, PLAN)
    assert result.epsilon_lower < CLAIM.statement.epsilon and result.verdict == "contradicted"


@pytest.mark.parametrize("claim,plan", [(CLAIM, AuditPlan.fixed(COUNT, 8, 1e-5)), (claim_of(0.0), PLAN)],
                         ids=["few guesses", "nothing claimed"])
def test_audits_that_cannot_contradict_say_so(claim, plan):
    assert audited(drawn(1.0, 0), claim, plan).verdict == "too weak to tell"


def test_ties_do_not_follow_the_coins_or_the_order():
    coins = np.arange(COUNT) < COUNT // 2
    assert 35 <= CanaryScores(np.zeros(COUNT), coins).right(100) <= 65


def test_reversed_scores_are_named_and_not_flipped():
    scores = drawn(4.0, 0)
    result = audited(CanaryScores(-scores.scores, scores.is_in), CLAIM, PLAN)
    assert result.auc < 0.2 and any("reversed" in note for note in result.notes)
    assert result.epsilon_lower == 0 and result.verdict == "not contradicted"


@pytest.mark.parametrize("scores,coins", [
    (np.full(COUNT, math.nan), np.arange(COUNT) % 2), (np.zeros(COUNT), np.ones(COUNT)),
    (np.zeros(COUNT), np.arange(COUNT)), (np.zeros(COUNT), np.zeros(3)), (np.zeros((2, 2)), np.zeros(2))],
    ids=["NaN", "all in", "no coins", "lengths", "shape"])
def test_bad_scores_are_refused(scores, coins):
    with pytest.raises(ValueError):
        CanaryScores(scores, coins)


def test_scores_of_another_plan_are_refused():
    with pytest.raises(ValueError, match="plan's 999"):
        audited(drawn(1.0, 0), CLAIM, AuditPlan.for_claim(999, 4.0, 1e-5))


def test_plan_survives_plain_data_and_warns_of_its_ceiling():
    plan = AuditPlan.for_claim(COUNT, 8.0, 1e-5)
    assert AuditPlan.from_dict(plan.to_dict()) == plan
    assert plan.ceiling < 8.0 and any("can prove at most" in text for text in plan.warnings)


def test_attack_and_statement_of_a_result():
    result = audited(drawn(1.0, 1), CLAIM, PLAN)
    assert result.as_attack().auc == pytest.approx(result.auc)
    assert result.spent().kind == "lower-bound" and result.spent().accountant == "audit"
    assert "ids" not in result.to_json() and "coins\":" not in result.to_json()
