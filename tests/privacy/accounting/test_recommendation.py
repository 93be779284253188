"""The choice of a strategy: every row keeps the budget, and the order is that of the error."""
import math

import numpy as np
import pytest

from mindarmour.privacy.accounting import Ledger, privacy_spent
from mindarmour.privacy.accounting.correlated import CorrelatedEvent
from mindarmour.privacy.accounting.planning import plan_sampling
from mindarmour.privacy.accounting.recommendation import compared_strategies, recommended_strategy


@pytest.mark.parametrize("kind, steps", [("fixed-order", 96), ("shuffle", 96), ("poisson", 96), ("fixed", 30)])
def test_every_choice_keeps_the_budget_and_the_best_is_first(kind, steps):
    choices = compared_strategies(plan_sampling(kind, 640, 20), steps, 2.0, 1e-5)
    errors = [choice.error for choice in choices]
    assert errors == sorted(errors) and sum(choice.name == "independent" for choice in choices) == 1
    for choice in choices:
        event = CorrelatedEvent(choice.sampling, choice.noise_multiplier, choice.strategy)
        entries = Ledger().ahead([(event, steps)], choice.sampling.epoch_length or 32)
        assert 1.99 < privacy_spent(entries, 1e-5).epsilon <= 2.0
        expected = choice.noise_multiplier * math.sqrt(np.mean(choice.strategy.squared_errors(steps)))
        assert choice.error == pytest.approx(expected)
    assert (choices[0].name == "independent") == (kind == "fixed")


def test_without_amplification_correlated_noise_leaves_a_fraction_of_the_error():
    choices = {c.name: c.error for c in compared_strategies(plan_sampling("fixed-order", 5120, 160), 256, 2.0, 1e-5)}
    # 256 steps, 8 epochs of 32 steps: computed with another library
    assert choices["buffered, 2 buffers"] / choices["independent"] == pytest.approx(0.288, abs=0.004)
    assert choices["decaying, rate 0.9"] / choices["independent"] == pytest.approx(0.315, abs=0.004)
    assert choices["banded, 8 bands"] / choices["independent"] == pytest.approx(0.40, abs=0.01)


def test_groups_that_take_turns_beat_poisson_sampling_in_one_epoch():
    best = recommended_strategy(plan_sampling("poisson", 50000, 500), 100, 8.0, 1e-6)
    assert best.sampling.kind == "cyclic-poisson" and best.sampling.groups == best.buffers + 1 > 1
    independent = compared_strategies(plan_sampling("poisson", 50000, 500), 100, 8.0, 1e-6)
    ratio = best.error / next(c.error for c in independent if c.name == "independent")
    assert ratio == pytest.approx(0.53, abs=0.03)
