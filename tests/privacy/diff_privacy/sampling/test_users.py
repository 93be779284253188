"""Samplers of users: whose rows stand together, what removing a user moves, and which claim that is."""
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mindspore import Tensor, nn
from records import COUNT, IMAGES, LABELS
from small_models import loss_fn, model_of, weights
from small_networks import batch_for, dense, flat

from mindarmour.privacy.accounting import privacy_spent
from mindarmour.privacy.accounting.ledger import LedgerEntry
from mindarmour.privacy.diff_privacy import (
    ClipMechanismsFactory,
    DPModel,
    PoissonSampler,
    PrivateLoop,
    UserBallsInBinsSampler,
    UserPoissonSampler,
    augmented_views,
    clipped_gradient_fn,
)
from mindarmour.privacy.diff_privacy.noise.mechanisms import NoiseGaussianRandom
from mindarmour.privacy.diff_privacy.sampling import users
from mindarmour.privacy.diff_privacy.sampling.batches import HOLE
from mindarmour.privacy.diff_privacy.sampling.users import _rows_of, rows_by_user
from mindarmour.utils.secure_random import SecureStream

# 20 users: user u owns 1 .. 4 of the 50 records, in no order
OWNERS = np.random.default_rng(3).permutation(np.repeat(np.arange(20), [1, 2, 3, 4] * 5))
USERS = 20


def user_data(examples=3, users_per_batch=5, **arguments):
    columns = tuple(c.asnumpy() for c in batch_for("dense", COUNT))
    return UserPoissonSampler(users_per_batch, examples, **arguments).dataset(columns, OWNERS)


@pytest.mark.parametrize("cls", [UserPoissonSampler, UserBallsInBinsSampler])
@pytest.mark.parametrize("examples", [1, 3, 6])
def test_the_rows_of_a_user_stand_together_and_nobody_elses_fill_his_holes(cls, examples):
    dataset = cls(5, examples).dataset((IMAGES, LABELS), OWNERS)
    seen = set()
    for images, labels, mask in (batch for _ in range(80) for batch in dataset.source):
        assert len(mask) % examples == 0
        drawn = []
        for place in range(0, len(mask), examples):
            real = mask[place:place + examples] > 0
            records = labels[place:place + examples][real]
            assert not images[place:place + examples][~real].any()
            assert len(np.unique(OWNERS[records])) <= 1 and len(np.unique(records)) == len(records)
            if len(records):
                owner = OWNERS[records[0]]
                assert len(records) == min(examples, (owner == OWNERS).sum())
                drawn.append(owner)
            seen.update(records.tolist())
        assert len(set(drawn)) == len(drawn), "no user twice in a batch"
    assert seen == set(range(COUNT)), "which examples a user brings is drawn anew"


@given(st.lists(st.integers(0, 6), min_size=1, max_size=30), st.integers(1, 4), st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_no_choice_of_users_mixes_rows(owners, examples, seed):
    owned = rows_by_user(owners, len(owners))
    drawn = np.random.default_rng(seed).permutation(np.r_[np.arange(len(owned)), HOLE, HOLE])
    rows = _rows_of(drawn, owned, examples, SecureStream()).reshape(len(drawn), examples)
    for user, some in zip(drawn, rows):
        some = some[some != HOLE]
        assert len(some) == (0 if user == HOLE else min(examples, len(owned[user])))
        assert user == HOLE or set(some) <= set(owned[user])


def test_each_user_joins_with_one_probability_whatever_he_owns():
    dataset = UserPoissonSampler(5, 2, steps_per_epoch=2000).dataset((IMAGES, LABELS), OWNERS)
    joined = np.zeros(USERS)
    for _, labels, mask in dataset.source:
        joined[np.unique(OWNERS[labels[mask > 0]])] += 1
    spread = np.sqrt(2000 * 0.25 * 0.75)
    assert np.abs(joined - 500).max() < 5 * spread
    # a draw of records instead would favour who owns four of them
    assert 20 * spread < 2000 * (1 - 0.75 ** 4) - 500


@pytest.mark.parametrize("examples", [1, 3])
@pytest.mark.parametrize("engine", ["ghost", "vmap", "loop"])
def test_removing_a_user_moves_the_clipped_sum_by_at_most_the_bound(examples, engine):
    bound, network = 0.05, dense()
    images, labels, mask = next(user_data(examples).create_tuple_iterator(num_epochs=1, output_numpy=True))
    images *= np.random.default_rng(0).lognormal(0, 2, (len(images), 1)).astype(np.float32)
    fn = clipped_gradient_fn(network, loss_fn(), norm_bound=bound, views=examples, engine=engine)
    whole = flat(fn(Tensor(images), Tensor(labels), is_real=mask).total)
    units = mask.reshape(-1, examples).any(axis=1)
    for user in np.flatnonzero(units)[:4]:
        without = mask * (np.arange(len(mask)) // examples != user)
        moved = np.linalg.norm(whole - flat(fn(Tensor(images), Tensor(labels), is_real=without).total))
        assert 0.4 * bound < moved <= bound * (1 + 1e-5)


def test_the_neighbour_test_sees_rows_that_are_clipped_one_by_one():
    bound, images, labels = 0.05, np.ones((6, 6), np.float32), np.zeros(6, np.int32)
    for views, most in ((3, 1.0), (1, 3.0)):
        fn = clipped_gradient_fn(dense(), loss_fn(), norm_bound=bound, views=views)
        whole, without = (flat(fn(Tensor(images), Tensor(labels), is_real=np.float32(mask)).total)
                          for mask in ([1] * 6, [0] * 3 + [1] * 3))
        assert np.linalg.norm(whole - without) == pytest.approx(most * bound, rel=1e-4)


def test_one_example_of_each_user_is_poisson_sampling_in_claim_and_number():
    columns = tuple(c.asnumpy() for c in batch_for("dense", COUNT))
    of_users = UserPoissonSampler(10, 1).dataset(columns, np.arange(COUNT)).claim
    of_records = PoissonSampler(10).dataset(columns).claim
    assert replace(of_users, examples_per_user=None) == of_records
    plan = model_of(dense(), 1.5).train_network.plan
    figures = [privacy_spent((LedgerEntry(replace(plan, sampling=claim).event(0, 20), 40, 0),), 1e-5)
               for claim in (of_users, of_records)]
    assert figures[0].epsilon == figures[1].epsilon and figures[0].relation == figures[1].relation


@pytest.mark.parametrize("examples", [1, 3])
def test_the_event_names_the_user_and_divides_by_users(examples):
    network = dense()
    model = model_of(network, 2.0, bound=0.2, clip_mech=ClipMechanismsFactory.recommended())
    before = weights(network)
    model.train(1, user_data(examples))
    event = model.ledger.entries[0].event
    assert (event.sensitivity, event.sampling.num_examples, event.sampling.batch_size) == (1.0, USERS, 5)
    assert event.sampling.relation == "add-or-remove" and event.sampling.examples_per_user == examples
    assert event.unit == f"user (up to {examples} example{'' if examples == 1 else 's'})"
    assert event.count_multiplier == pytest.approx(0.05 * 5 / 0.5), "the adaptive bound counts users"
    assert model.train_network.plan.expected_units(model.train_network.rows) == 5
    assert np.abs(before - weights(network)).max() > 0


def test_the_bound_adapts_to_the_share_of_users_not_of_rows():
    clip = ClipMechanismsFactory.create("Gaussian", "Geometric", learning_rate=1.0, target_unclipped_quantile=0.0,
                                        fraction_stddev=1e-9)
    # every user is there in every step, and all units stay below the bound: the fraction is 1 exactly
    columns = tuple(c.asnumpy() for c in batch_for("dense", COUNT))
    dataset = UserPoissonSampler(USERS, 4, steps_per_epoch=1).dataset(columns, OWNERS)
    model = model_of(dense(), bound=1e3, lr=1e-6, clip_mech=clip)
    model.train(1, dataset)
    assert float(model.train_network.norm_bound.asnumpy()) == pytest.approx(1e3 * np.exp(-1.0), rel=1e-5)


def test_a_budget_and_parts_and_views_hold_for_users():
    data = user_data(3, users_per_batch=4)
    model = model_of(dense(), 1.0, physical_batch_size=6, lr=0.0)
    model.train(1, data)
    whole = model_of(dense(), 1.0, lr=0.0)
    whole.train(1, user_data(3, users_per_batch=4))
    assert model.ledger.entries[0].event == whole.ledger.entries[0].event
    viewed = augmented_views(user_data(3), 2, lambda rows, generator: rows)
    assert viewed.claim.rows == 6
    model = model_of(dense(), 1.0)
    model.train(1, viewed)
    assert model.ledger.entries[0].event.sensitivity == 1.0
    network = dense()
    budgeted = DPModel.for_budget(3.0, 1e-2, 2, user_data(3), network=network, loss_fn=loss_fn(),
                                  optimizer=nn.SGD(network.trainable_params(), 0.1))
    budgeted.train(2, user_data(3))
    assert 2.8 < privacy_spent(budgeted.ledger.entries, 1e-2).epsilon <= 3.0


def test_a_batch_that_did_not_come_from_the_data_set_is_no_batch_of_users():
    network = dense()
    loop = PrivateLoop(network, loss_fn(), nn.SGD(network.trainable_params(), 0.1), 1.0, NoiseGaussianRandom(1.0, 2.0))
    batch = next(loop.batches(user_data(3)))
    loop.step(*batch)
    loop.step(*batch)
    admitted, again = (entry.event for entry in loop.ledger.entries)
    assert admitted.unit == "user (up to 3 examples)" and admitted.sensitivity == 1.0
    assert again.unit == "micro-batch of 3 examples" and again.sensitivity == 2.0
    assert again.sampling.kind == "full" and again.sampling.examples_per_user is None


def test_seeded_draws_repeat_and_fresh_ones_do_not():
    def drawn(seed, start=0):
        source = UserPoissonSampler(5, 2, seed=seed).dataset((IMAGES, LABELS), OWNERS).source
        source.continue_at(start)
        return [batch[1].tobytes() for batch in source]

    assert drawn(7) == drawn(7) and drawn(0) != drawn(0) and drawn(7) != drawn(7, 4) != drawn(8)


@pytest.mark.parametrize("ids, error, match", [
    ([(0, 1)] + [1] * 49, ValueError, "one owner of each record, but record 0 has 2"),
    (np.zeros((COUNT, 2), int), ValueError, "one owner of each record, but has shape"),
    ([{1, 2}] * COUNT, ValueError, "record 0 has 2"), ([None] + [1] * 49, TypeError, "record 0 has None"),
    (np.where(np.arange(COUNT) == 3, np.nan, 1.0), TypeError, "missing owner"), ([1] * 49, ValueError, "49 entries"),
    ([True] * COUNT, TypeError, "whole numbers or strings")])
def test_records_of_no_owner_or_of_two_are_refused(ids, error, match):
    with pytest.raises(error, match=match):
        UserPoissonSampler(1, 2).dataset((IMAGES, LABELS), ids)


def test_ids_of_any_kind_name_the_same_users():
    names = [f"user {owner}" for owner in OWNERS]
    for ids in (OWNERS.tolist(), names, np.array(names), np.array(names, object), OWNERS.astype(np.uint16)):
        owned = rows_by_user(ids, COUNT)
        assert sorted(map(tuple, owned)) == sorted(tuple(np.flatnonzero(user == OWNERS)) for user in range(USERS))


def test_bad_arguments_are_refused():
    for arguments, error in (((0, 2), ValueError), ((5, 0), ValueError), ((5, 2.0), TypeError), ((5, True), TypeError)):
        with pytest.raises(error, match="users_per_batch|examples_per_user"):
            UserPoissonSampler(*arguments)
    with pytest.raises(ValueError, match="max_users_per_batch"):
        UserPoissonSampler(5, 2, max_users_per_batch=4)
    with pytest.raises(ValueError, match="users_per_batch must be an int from 1 to 20"):
        UserPoissonSampler(21, 2).dataset((IMAGES, LABELS), OWNERS)
    with pytest.raises(ValueError, match="micro_batches must be None when the data set brings users"):
        model_of(dense(), micro_batches=2).train(1, user_data(1))


def test_equal_rows_of_two_users_are_pointed_out(monkeypatch):
    said = []
    monkeypatch.setattr(users.LOGGER, "warn", lambda *arguments: said.append(arguments))
    UserPoissonSampler(5, 2).dataset((IMAGES, LABELS), OWNERS)
    assert not said
    UserPoissonSampler(1, 2).dataset((np.ones((4, 1), np.float32), np.zeros(4)), [0, 0, 1, 2])
    assert said[0][2] == 2
