"""Samplers whose records come again at known distances."""
import numpy as np
import pytest

from mindarmour.privacy.diff_privacy import CyclicPoissonSampler, FixedOrder, augmented_views
from mindarmour.privacy.diff_privacy.sampling.claims import claim_of, order_of

COUNT = 105


def records_of_epochs(dataset, epochs):
    """Record numbers of each step, epoch after epoch."""
    steps = []
    for _ in range(epochs):
        for column, is_real in dataset.create_tuple_iterator(num_epochs=1, output_numpy=True):
            steps.append(sorted(column[is_real > 0].astype(int).tolist()))
    return steps


def data(sampler, count=COUNT):
    return sampler.dataset((np.arange(count, dtype=np.float32),), ["number"])


def test_a_fixed_order_is_a_secret_partition_that_stays(seed=0):
    dataset = data(FixedOrder(10))
    assert dataset.get_dataset_size() == 11 == claim_of(dataset).steps_per_epoch
    steps = records_of_epochs(dataset, 3)
    assert steps[:11] == steps[11:22] == steps[22:]
    assert sorted(sum(steps[:11], [])) == list(range(COUNT)) and [len(s) for s in steps[:11]] == [10] * 10 + [5]
    assert steps[:11] != records_of_epochs(data(FixedOrder(10)), 1)
    assert claim_of(dataset).kind == "fixed-order" and claim_of(dataset).relation == "zero-out"


def test_an_order_belongs_to_its_sampler_and_survives_a_map():
    sampler = FixedOrder(10)
    dataset = data(sampler)
    assert order_of(dataset) is order_of(dataset) and order_of(dataset) is not order_of(data(sampler))
    mapped = dataset.map(lambda x: x * 1, ["number"])
    assert records_of_epochs(mapped, 1) == records_of_epochs(dataset, 1)


@pytest.mark.parametrize("make", [lambda seed: FixedOrder(10, seed=seed),
                                  lambda seed: CyclicPoissonSampler(10, 3, seed=seed)])
def test_seeded_samplers_repeat_and_say_so(make):
    runs = [records_of_epochs(data(make(seed)), 2) for seed in (5, 5, 6)]
    assert runs[0] == runs[1] != runs[2]
    assert claim_of(data(make(5))).noise_source == "seeded"


def test_groups_take_turns_and_stay():
    bands, epochs = 4, 60
    dataset = data(CyclicPoissonSampler(20, bands, steps_per_epoch=8))
    claim = claim_of(dataset)
    assert (claim.kind, claim.groups, claim.relation) == ("cyclic-poisson", bands, "add-or-remove")
    steps = records_of_epochs(dataset, epochs)
    groups = [set().union(*map(set, steps[group::bands])) for group in range(bands)]
    assert sum(map(len, groups)) == COUNT == len(set().union(*groups))
    turns = len(steps) // bands
    taken = np.bincount(np.array(sum(steps, [])), minlength=COUNT)
    rate = bands * 20 / COUNT
    assert abs(taken.sum() - COUNT * turns * rate) < 5 * np.sqrt(COUNT * turns * rate * (1 - rate))
    assert taken.min() > 0 and taken.max() <= turns


def test_one_band_is_poisson_sampling():
    steps = records_of_epochs(data(CyclicPoissonSampler(20, 1, steps_per_epoch=400)), 1)
    taken = np.bincount(np.array(sum(steps, [])), minlength=COUNT)
    rate = 20 / COUNT
    assert np.abs(taken - 400 * rate).max() < 5 * np.sqrt(400 * rate * (1 - rate))


def test_epochs_hold_whole_turns():
    assert data(CyclicPoissonSampler(10, 4)).get_dataset_size() == 8
    assert data(CyclicPoissonSampler(10, 7)).get_dataset_size() == 7
    with pytest.raises(ValueError, match="multiple of the 4 groups"):
        data(CyclicPoissonSampler(10, 4, steps_per_epoch=10))
    with pytest.raises(ValueError, match="bands"):
        data(CyclicPoissonSampler(10, 11))


def test_views_keep_the_order():
    dataset = augmented_views(data(FixedOrder(10)), 2, lambda rows, _: rows)
    steps = records_of_epochs(dataset, 2)
    assert steps[:11] == steps[11:] and claim_of(dataset).views == 2 and order_of(dataset) is not None
