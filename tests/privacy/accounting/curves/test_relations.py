"""Neighbouring relations, groups of records, and mechanisms that are not Gaussian."""
import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

from mindarmour.privacy.accounting import Accountant, LedgerEntry, Sampling, StepEvent, privacy_spent
from mindarmour.privacy.accounting.curves.gaussian import epsilon_of_gaussian
from mindarmour.privacy.accounting.curves.mechanisms import (
    delta_of_laplace,
    epsilon_of_randomized_response,
    epsilon_of_sparse_vector,
    rdp_laplace,
    rdp_randomized_response,
    sparse_vector_scales,
    truth_probability_for,
)
from mindarmour.privacy.accounting.curves.rdp import DEFAULT_ORDERS
from mindarmour.privacy.accounting.curves.relations import group_epsilon, smallest_epsilon
from mindarmour.privacy.accounting.events import ReleaseEvent
from mindarmour.privacy.accounting.planning import plan_sampling, planned_entries

GRID = np.linspace(-60.0, 60.0, 240_001)
STEP = GRID[1] - GRID[0]


def spent(kind, relation=None, multiplier=2.0, steps=40, stated=None, **options):
    sampling = plan_sampling(kind, 2000, 50, stated)
    return privacy_spent(planned_entries(sampling, multiplier, steps), 1e-5, relation=relation, **options)


@pytest.mark.parametrize("kind, stated", [("poisson", None), ("balls-in-bins", None), ("shuffle", None),
                                          ("full", None), ("full", "zero-out")])
def test_replace_one_costs_at_most_half_the_noise_and_more_than_the_rest(kind, stated):
    own = spent(kind, stated=stated).epsilon
    replaced = spent(kind, "replace-one", stated=stated)
    assert replaced.relation == "replace-one"
    assert own < replaced.epsilon
    if kind != "balls-in-bins":  # there by way of removal and addition
        assert replaced.epsilon <= spent(kind, stated=stated, multiplier=1.0).epsilon * (1 + 1e-9)


@pytest.mark.parametrize("kind", ["poisson", "full", "shuffle"])
def test_recorded_and_restated_replace_one_agree(kind):
    assert spent(kind, "replace-one").epsilon == pytest.approx(spent(kind, stated="replace-one").epsilon, rel=1e-9)


def test_replace_one_under_poisson_is_the_published_number():
    pytest.importorskip("dp_accounting")
    entries = planned_entries(plan_sampling("poisson", 60000, 256, "replace-one"), 1.1, 14062)
    assert privacy_spent(entries, 1e-5, "pld").epsilon == pytest.approx(4.2213578, rel=0.01)


def test_zero_out_costs_what_add_or_remove_costs():
    assert spent("poisson", "zero-out").epsilon == spent("poisson").epsilon
    assert spent("poisson", "zero-out").relation == "zero-out"


@pytest.mark.parametrize("kind, relation", [("shuffle", "add-or-remove"), ("fixed", "add-or-remove"),
                                            ("fixed", "zero-out")])
def test_what_does_not_follow_is_refused(kind, relation):
    with pytest.raises(ValueError, match="relation"):
        spent(kind, relation)


def test_a_mixed_ledger_is_stated_under_what_all_of_it_supports():
    def entry(kind, epoch):
        return planned_entries(plan_sampling(kind, 2000, 50), 4.0, 40)[0]
    both = privacy_spent((entry("poisson", 0), entry("shuffle", 1)), 1e-5)
    assert both.relation == "zero-out" and both.sampling == "poisson+shuffle"
    assert privacy_spent((entry("poisson", 0), entry("fixed", 1)), 1e-5).relation == "replace-one"


def test_a_partition_that_claims_add_or_remove_is_stated_as_zero_out():
    event = StepEvent(Sampling("shuffle", 2000, 50, "add-or-remove", steps_per_epoch=40), 4.0)
    assert privacy_spent((LedgerEntry(event, 40, 1),), 1e-5).relation == "zero-out"


def test_micro_batches_do_not_move_further_when_a_record_is_replaced():
    entries = planned_entries(plan_sampling("full", 2000, 50, unit="micro-batch"), 8.0, 10, "micro-batch")
    assert privacy_spent(entries, 1e-5, relation="replace-one").epsilon == privacy_spent(entries, 1e-5).epsilon
    assert plan_sampling("poisson", 2000, 50, unit="micro-batch").relation == "zero-out"
    with pytest.raises(ValueError, match="relation"):
        plan_sampling("shuffle", 2000, 50, "add-or-remove", "micro-batch")


def test_views_of_one_example_move_like_one_example():
    sampling = plan_sampling("poisson", 2000, 50)
    plain, views = (privacy_spent((LedgerEntry(StepEvent(replace(sampling, views=count), 2.0), 40),), 1e-5,
                                  relation="replace-one").epsilon for count in (1, 4))
    assert plain == views


@pytest.mark.parametrize("size", [2, 5])
def test_groups_under_gaussian_noise_are_exact(size):
    mu = math.sqrt(40) / 20.0
    group = spent("full", multiplier=20.0, group_size=size)
    assert group.epsilon == pytest.approx(epsilon_of_gaussian(size * mu, 1e-5), rel=1e-9)
    assert f"groups of {size}" in group.note


@pytest.mark.parametrize("accountant", ["rdp", "zcdp", "pld"])
def test_group_bound_covers_real_groups(accountant):
    if accountant == "pld":
        pytest.importorskip("dp_accounting")
    rate, multiplier, size = 0.2, 3.0, 3
    entries = (LedgerEntry(StepEvent(Sampling("poisson", 10, 10 * rate, "add-or-remove"), multiplier), 1),)
    epsilon = privacy_spent(entries, 1e-5, accountant, group_size=size).epsilon
    weights = [math.comb(size, k) * rate ** k * (1 - rate) ** (size - k) for k in range(size + 1)]
    p = sum(w * _normal(GRID - k, multiplier) for k, w in enumerate(weights))
    q = _normal(GRID, multiplier)
    for first, second in ((p, q), (q, p)):
        assert np.maximum(0.0, first - math.exp(epsilon) * second).sum() * STEP <= 1e-5
    assert epsilon > privacy_spent(entries, 1e-5, accountant).epsilon


def _normal(x, multiplier):
    return np.exp(-0.5 * (x / multiplier) ** 2) / (multiplier * math.sqrt(2 * math.pi))


def test_group_epsilon_of_pure_privacy_is_linear():
    epsilon = group_epsilon(lambda e: 0.0 if e >= 0.5 else 1.0, 1e-5, 4)
    assert epsilon == pytest.approx(2.0, rel=1e-6)
    assert group_epsilon(lambda e: 1.0, 1e-5, 2) == math.inf
    assert group_epsilon(lambda e: 0.0, 1e-5, 2) == 0.0


def test_smallest_epsilon_stops_where_delta_rises_again():
    assert smallest_epsilon(lambda e: math.exp(-e) + 1e-3 * math.exp(e / 10), 0.1) == pytest.approx(2.316, abs=0.01)


@pytest.mark.parametrize("size, error", [(0, ValueError), (1.5, TypeError), (True, TypeError)])
def test_bad_group_sizes_are_refused(size, error):
    for call in (lambda: group_epsilon(lambda e: 0.0, 1e-5, size), lambda: Accountant(group_size=size)):
        with pytest.raises(error, match="group_size"):
            call()


@pytest.mark.parametrize("scale", [0.5, 1.0, 10.0])
def test_laplace_against_integration(scale):
    p, q = (np.exp(-np.abs(GRID - centre) / scale) / (2 * scale) for centre in (1.0, 0.0))
    seen = q > 1e-300
    for order in (1.5, 3.0):
        expected = math.log((p[seen] ** order * q[seen] ** (1 - order)).sum() * STEP) / (order - 1)
        if scale < 10:
            assert rdp_laplace(scale, [order])[0] == pytest.approx(expected, rel=1e-3)
    for epsilon in (0.0, 0.5 / scale, 0.9 / scale):
        expected = np.maximum(0.0, p - math.exp(epsilon) * q).sum() * STEP
        assert delta_of_laplace(scale, epsilon) == pytest.approx(expected, rel=0.01, abs=1e-5)
    assert delta_of_laplace(scale, 1 / scale) == 0
    assert (rdp_laplace(scale, [2.0, 64.0, 1e6]) <= 1 / scale).all()
    assert rdp_laplace(scale, [1e6])[0] == pytest.approx(1 / scale, rel=1e-4)


@pytest.mark.parametrize("categories", [2, 3, 10])
def test_randomized_response_against_its_definition(categories):
    truth = truth_probability_for(1.5, categories)
    lie = (1 - truth) / (categories - 1)
    assert epsilon_of_randomized_response(truth, categories) == pytest.approx(1.5)
    p = np.array([truth, lie] + [lie] * (categories - 2))
    q = np.array([lie, truth] + [lie] * (categories - 2))
    for order in (1.1, 2.0, 32.0):
        expected = math.log((p ** order * q ** (1 - order)).sum()) / (order - 1)
        assert rdp_randomized_response(truth, categories, [order])[0] == pytest.approx(expected, rel=1e-9)
    assert rdp_randomized_response(1 / categories, categories).max() < 1e-13


@pytest.mark.parametrize("monotone", [False, True])
def test_sparse_vector_bounds_what_it_answers_and_is_not_far_above(monotone):
    positives, queries = 2, 6
    scales = (1.0, 3.0)
    stated = epsilon_of_sparse_vector(*scales, positives, 1.0, monotone)
    low, largest = np.linspace(-40, 40, 8001), 0.0
    shift = (0.0, 1.0) if monotone else (-1.0, 1.0)
    for pattern in itertools.product((0, 1), repeat=queries):
        if sum(pattern) > positives:
            continue
        for moves in itertools.product(shift, repeat=2):
            # all queries with a negative answer move one way, all with a positive one the other
            base = [0.0] * queries
            moved = [moves[answer] for answer in pattern]
            ratio = math.log(_answers(pattern, moved, *scales, low) / _answers(pattern, base, *scales, low))
            largest = max(largest, abs(ratio))
    assert largest <= stated
    if not monotone:  # some of the slack is only used up by long runs of negative answers
        assert largest >= 0.5 * stated


def _answers(pattern, queries, threshold_scale, query_scale, threshold):
    """Probability of a pattern of answers, integrated over the one noisy threshold."""
    weight = np.exp(-np.abs(threshold) / threshold_scale) / (2 * threshold_scale)
    for answer, query in zip(pattern, queries):
        z = (threshold - query) / query_scale
        below = np.where(z < 0, 0.5 * np.exp(np.minimum(z, 0)), 1 - 0.5 * np.exp(-np.maximum(z, 0)))
        weight = weight * (1 - below if answer else below)
    return weight.sum() * (threshold[1] - threshold[0])


def test_sparse_vector_counts_every_positive_and_every_release():
    assert epsilon_of_sparse_vector(2.0, 8.0, 4) == pytest.approx(0.5 + 1.0)
    assert epsilon_of_sparse_vector(2.0, 8.0, 4, monotone=True) == pytest.approx(0.5 + 0.5)
    assert epsilon_of_sparse_vector(2.0, 8.0, 4, release_scale=4.0) == pytest.approx(0.5 + 1.0 + 1.0)
    assert epsilon_of_sparse_vector(2.0, 8.0, 4, sensitivity=3.0) == pytest.approx(3 * 1.5)


@pytest.mark.parametrize("monotone", [False, True])
def test_sparse_vector_scales_spend_the_budget_at_the_least_variance(monotone):
    scales = sparse_vector_scales(1.2, 5, 2.0, monotone)
    assert epsilon_of_sparse_vector(*scales, 5, 2.0, monotone) == pytest.approx(1.2)
    best = scales[0] ** 2 + scales[1] ** 2
    for share in (0.9, 1.1):
        threshold = scales[0] * share
        query = (1 if monotone else 2) * 5 * 2.0 / (1.2 - 2.0 / threshold)
        assert threshold ** 2 + query ** 2 > best


def test_releases_compose_with_training_steps():
    release = LedgerEntry(ReleaseEvent(0.5, mechanism="randomised response"), 1)
    training = planned_entries(plan_sampling("full", 2000, 50, "replace-one"), 30.0, 10)
    alone = [privacy_spent(entries, 1e-5).epsilon for entries in ((release,), training)]
    assert alone[0] == pytest.approx(0.5)
    together = privacy_spent((release, *training), 1e-5).epsilon
    assert max(alone) < together <= sum(alone) * 1.3
    failing = replace(release, event=replace(release.event, delta=1e-4))
    assert privacy_spent((failing, *training), 1e-5).epsilon == math.inf
    assert privacy_spent((release, *training), 1e-5, "zcdp").epsilon >= together


def test_releases_in_the_privacy_loss_distribution():
    pytest.importorskip("dp_accounting")
    entries = (LedgerEntry(ReleaseEvent(0.1), 30), *planned_entries(plan_sampling("poisson", 2000, 50), 2.0, 40))
    tight, loose = (privacy_spent(entries, 1e-5, name).epsilon for name in ("pld", "rdp"))
    assert 0.5 * loose < tight <= loose


@pytest.mark.parametrize("call, name, error", [
    (lambda: rdp_laplace(0.0), "noise_multiplier", ValueError),
    (lambda: rdp_laplace(math.nan), "noise_multiplier", ValueError),
    (lambda: delta_of_laplace(1.0, -1.0), "epsilon", ValueError),
    (lambda: rdp_randomized_response(1.0), "truth_probability", ValueError),
    (lambda: rdp_randomized_response(0.4), "truth_probability", ValueError),
    (lambda: rdp_randomized_response(0.9, 1), "categories", ValueError),
    (lambda: rdp_randomized_response(0.9, 2.0), "categories", TypeError),
    (lambda: truth_probability_for(-1.0), "epsilon", ValueError),
    (lambda: epsilon_of_sparse_vector(0.0, 1.0, 1), "threshold_scale", ValueError),
    (lambda: epsilon_of_sparse_vector(1.0, math.inf, 1), "query_scale", ValueError),
    (lambda: epsilon_of_sparse_vector(1.0, 1.0, 0), "positives", ValueError),
    (lambda: epsilon_of_sparse_vector(1.0, 1.0, 1, -1.0), "sensitivity", ValueError),
    (lambda: epsilon_of_sparse_vector(1.0, 1.0, 1, 1.0, 1), "monotone", TypeError),
    (lambda: epsilon_of_sparse_vector(1.0, 1.0, 1, release_scale=0.0), "release_scale", ValueError),
    (lambda: sparse_vector_scales(0.0, 1), "epsilon", ValueError)])
def test_bad_arguments_are_refused(call, name, error):
    with pytest.raises(error, match=name):
        call()


def test_default_orders_are_the_documented_range():
    assert DEFAULT_ORDERS[0] == 1.02 and DEFAULT_ORDERS[-1] == 1024 and list(DEFAULT_ORDERS) == sorted(DEFAULT_ORDERS)
