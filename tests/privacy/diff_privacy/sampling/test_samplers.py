"""Balls in bins, fixed size, shuffled partition: who joins which step, tested statistically; places; claims."""
import inspect
import os
from dataclasses import replace
from functools import partial

import mindspore.dataset as ds
import numpy as np
import pytest
from mindspore import nn
from records import COUNT, IMAGES, LABELS, epochs_of, included
from scipy import stats
from small_models import model_of
from small_networks import batch_for, dense

from mindarmour.privacy.accounting.accountant import privacy_spent
from mindarmour.privacy.accounting.ledger import LedgerEntry
from mindarmour.privacy.diff_privacy import (
    BallsInBinsSampler,
    ClipMechanismsFactory,
    FixedSizeSampler,
    PoissonSampler,
    ShufflePartition,
)
from mindarmour.privacy.diff_privacy.parallel.ranks import Ranks
from mindarmour.privacy.diff_privacy.sampling.assembly import HOLE
from mindarmour.privacy.diff_privacy.sampling.batches import at_random_places
from mindarmour.privacy.diff_privacy.sampling.claims import claim_of
from mindarmour.utils.secure_random import SecureStream

SAMPLERS = [PoissonSampler, BallsInBinsSampler, FixedSizeSampler, ShufflePartition]
ONCE_AN_EPOCH = [BallsInBinsSampler, ShufflePartition]
SMALLEST_P = 1e-4  # a right sampler fails one run in ten thousand


def table_of(sampler, epochs):
    """Bool [epochs, steps, records]: who took part."""
    dataset = sampler.dataset((IMAGES, LABELS))
    return included(epochs_of(dataset, epochs)).reshape(epochs, dataset.get_dataset_size(), COUNT)


def chi2_p(observed, expected, freedom):
    """P-value of counts against equal expectations."""
    return stats.chi2.sf(((observed - expected) ** 2 / expected).sum(), freedom)


@pytest.mark.parametrize("cls", SAMPLERS)
def test_contract_of_every_sampler(cls):
    dataset = cls(10).dataset((IMAGES, LABELS), ["x", "y"])
    assert dataset.get_col_names() == ["x", "y", "is_real"]
    batches = epochs_of(dataset, 3)
    assert len(batches) == 3 * dataset.get_dataset_size() == 15
    assert len({images.shape for images, _, _ in batches}) == 1, "one physical size: nothing is compiled twice"
    for images, labels, mask in batches:
        real = mask > 0
        assert images.dtype == np.float32 and labels.dtype == np.int32 and mask.dtype == np.float32
        assert not images[~real].any() and not labels[~real].any()
        assert np.array_equal(labels[real] + 1, images[real, 0]), "columns stay together"
        assert len(np.unique(labels[real])) == real.sum(), "no record twice in a batch"


@pytest.mark.parametrize("cls", SAMPLERS)
def test_fresh_by_default_and_repeatable_with_a_seed(cls):
    fresh = table_of(cls(10), 2)
    assert not np.array_equal(fresh[0], fresh[1]) and not np.array_equal(fresh, table_of(cls(10), 2))

    def seeded():
        return list(cls(10, seed=3).dataset((IMAGES, LABELS)).source)

    for first, second in zip(seeded(), seeded()):
        assert all(np.array_equal(a, b) for a, b in zip(first, second))


@pytest.mark.parametrize("cls", SAMPLERS)
def test_a_seeded_sampler_draws_anew_in_each_epoch(cls):
    source = cls(10, seed=3).dataset((IMAGES, LABELS)).source
    first, second = ([batch[0].tobytes() for batch in source] for _ in range(2))
    assert first != second


@pytest.mark.parametrize("cls", SAMPLERS)
def test_a_seeded_sampler_goes_on_where_training_stopped(cls):
    def drawn(step):
        source = cls(10, seed=3).dataset((IMAGES, LABELS)).source
        source.continue_at(step)
        return [batch[1].tobytes() for batch in source]

    straight = cls(10, seed=3).dataset((IMAGES, LABELS)).source
    epochs = [[batch[1].tobytes() for batch in straight] for _ in range(2)]
    assert drawn(0) == epochs[0] and drawn(5) == epochs[1]
    interrupted = drawn(3)
    assert not set(interrupted) & set(epochs[0]), "an epoch that was interrupted is not drawn again"


@pytest.mark.parametrize("cls", SAMPLERS)
@pytest.mark.parametrize("sampling_seed, noise_seed, clip_seed, kind", [
    (0, 0, None, "secure"), (7, 0, None, "seeded"), (0, 7, None, "seeded"), (0, 0, 5, "seeded"), (0, 0, 0, "secure")])
def test_the_ledger_says_which_randomness_was_the_weakest(cls, sampling_seed, noise_seed, clip_seed, kind):
    dataset = cls(10, seed=sampling_seed).dataset(tuple(c.asnumpy() for c in batch_for("dense", COUNT)))
    assert claim_of(dataset).noise_source == ("seeded" if sampling_seed else "secure")
    clip = None if clip_seed is None else ClipMechanismsFactory.recommended(seed=clip_seed)
    plan = replace(model_of(dense(), seed=noise_seed, clip_mech=clip).train_network.plan, sampling=claim_of(dataset))
    event = plan.event(0, 10)
    assert event.noise_source == kind
    statement = privacy_spent((LedgerEntry(event, 5, 1 if cls in ONCE_AN_EPOCH else 0),), 1e-5)
    assert ("seeded noise" in statement.note) == (kind == "seeded")


def test_a_resumed_seeded_run_replays_no_draw(tmp_path):
    columns = tuple(c.asnumpy() for c in batch_for("dense", COUNT))
    first = model_of(dense(), 1.0)
    first.train(1, PoissonSampler(10, seed=7).dataset(columns))
    again = model_of(dense(), 1.0)
    again.train_network.continue_from(first.ledger)
    dataset = PoissonSampler(10, seed=7).dataset(columns)
    again.train(1, dataset)
    assert dataset.source._position == 10


@pytest.mark.parametrize("cls", SAMPLERS)
def test_forked_processes_draw_for_themselves(cls):
    source = cls(10).dataset((IMAGES, LABELS)).source
    draws = []
    for _ in range(3):
        out, into = os.pipe()
        if os.fork() == 0:
            os.write(into, next(iter(source))[1].tobytes())
            os._exit(0)
        os.wait()
        draws.append(os.read(out, 4096))
        os.close(out)
        os.close(into)
    draws.append(next(iter(source))[1].tobytes())
    assert len(set(draws)) == 4


@pytest.mark.parametrize("cls", ONCE_AN_EPOCH)
def test_every_record_once_an_epoch(cls):
    assert (table_of(cls(10), 20).sum(axis=1) == 1).all()


def test_bins_are_drawn_uniformly_and_independently_with_power():
    epochs = 600
    table = table_of(BallsInBinsSampler(10), epochs)
    bins = table.argmax(axis=1)  # [epochs, records]
    counts = np.stack([(bins == step).sum(axis=0) for step in range(5)])
    assert chi2_p(counts, epochs / 5, 4 * COUNT) > SMALLEST_P
    favoured = counts.copy()
    favoured[0] += epochs // 25
    assert chi2_p(favoured, epochs / 5, 4 * COUNT) < 1e-6, "the test would not see a bin that gets 20% too much"
    # sizes are binomial; a partition has none of that variance
    sizes = table.sum(axis=2)
    assert sizes.var() == pytest.approx(COUNT * 0.2 * 0.8, rel=0.12)
    # two records share a bin in one epoch of five, and so does one record in two epochs
    together = (bins[:, :-1] == bins[:, 1:]).sum()
    assert abs(together - bins[:, 1:].size / 5) < 5 * np.sqrt(bins[:, 1:].size * 0.16)
    again = (bins[:-1] == bins[1:]).sum()
    assert abs(again - bins[1:].size / 5) < 5 * np.sqrt(bins[1:].size * 0.16)


def test_a_partition_deals_without_bias_and_pads_the_last_batch():
    dataset = ShufflePartition(8).dataset((IMAGES, LABELS))
    assert dataset.get_dataset_size() == 7
    batches = epochs_of(dataset, 300)
    assert [mask.sum() for _, _, mask in batches[:7]] == [8] * 6 + [2]
    table = included(batches).reshape(300, 7, COUNT)
    last = table[:, -1].sum(axis=0)
    assert chi2_p(last, 300 * 2 / COUNT, COUNT - 1) > SMALLEST_P, "everybody is equally often in the short batch"
    # in a partition a batch mate is a little less frequent than independent draws would make it
    together = sum((table[:, :, i] & table[:, :, i + 1]).sum() for i in range(COUNT - 1)) / (300 * (COUNT - 1))
    expected = (6 * 8 * 7 + 2 * 1) / (COUNT * (COUNT - 1))
    assert together == pytest.approx(expected, abs=5 * np.sqrt(expected / (300 * (COUNT - 1))))


def test_fixed_size_batches_are_uniform_subsets_drawn_anew():
    table = table_of(FixedSizeSampler(10, steps_per_epoch=500), 4).reshape(2000, COUNT)
    assert (table.sum(axis=1) == 10).all()
    counts = table.sum(axis=0)
    variance = 2000 * 0.2 * 0.8
    assert stats.chi2.sf(((counts - 400) ** 2).sum() / variance * (COUNT - 1) / COUNT, COUNT - 1) > SMALLEST_P
    assert stats.chi2.sf(((counts - 440) ** 2).sum() / variance, COUNT - 1) < 1e-9
    # without replacement inside a batch, independent between batches
    pairs = (table[:, :-1] & table[:, 1:]).mean()
    assert pairs == pytest.approx(10 * 9 / (COUNT * (COUNT - 1)), rel=0.08)
    lags = (table[:-1] & table[1:]).mean()
    assert lags == pytest.approx(0.04, rel=0.08)


def test_a_missing_record_moves_no_other():
    # the places of the others have the same distribution whether a record is there or not, so that units of several
    # examples keep their members: count how often records 1 and 2 stand in the same half of the places
    def same_half(records):
        stream = SecureStream()
        found = 0
        for _ in range(3000):
            places = at_random_places(records, 8, stream)
            found += (np.flatnonzero(places == 1)[0] < 4) == (np.flatnonzero(places == 2)[0] < 4)
        return found / 3000

    expected = 3 / 7
    for records in (np.array([1, 2]), np.array([0, 1, 2]), np.arange(8)):
        assert same_half(records) == pytest.approx(expected, abs=5 * np.sqrt(0.25 / 3000))
    packed = 1.0  # what filling the places in order would give
    assert abs(packed - expected) > 10 * np.sqrt(0.25 / 3000)


def test_surplus_records_are_cut_at_random_and_no_records_leave_holes_only():
    stream = SecureStream()
    kept = np.zeros(12)
    for _ in range(2000):
        places = at_random_places(np.arange(12), 8, stream)
        assert HOLE not in places and len(set(places)) == 8
        kept[places] += 1
    assert chi2_p(kept, 2000 * 8 / 12, 11) > SMALLEST_P
    assert (at_random_places(np.arange(0), 4, stream) == HOLE).all()


@pytest.mark.parametrize("cls, kind, relation, steps", [
    (BallsInBinsSampler, "balls-in-bins", "add-or-remove", 6), (FixedSizeSampler, "fixed", "replace-one", None),
    (ShufflePartition, "shuffle", "zero-out", 7)])
def test_claims(cls, kind, relation, steps):
    claim = claim_of(cls(8).dataset((IMAGES, LABELS)))
    assert (claim.kind, claim.relation, claim.steps_per_epoch) == (kind, relation, steps)
    assert (claim.num_examples, claim.batch_size, claim.max_batch_size) == (COUNT, 8, None)


def test_a_balls_in_bins_batch_never_overflows():
    size, count, steps = BallsInBinsSampler(256)._claim(60000, 1)[1], 60000, 234
    assert stats.binom.sf(size, count, 1 / steps) <= 1e-30 < stats.binom.sf(size - 2, count, 1 / steps)


@pytest.mark.parametrize("cls", SAMPLERS)
@pytest.mark.parametrize("source", ["random access", "data set"])
def test_data_from_a_source_and_from_a_data_set(cls, source):
    class Source:
        def __len__(self):
            return COUNT

        def __getitem__(self, index):
            return IMAGES[index], np.asarray(LABELS[index])

    rows = ds.NumpySlicesDataset((IMAGES, LABELS), ["image", "label"], shuffle=False)
    data = Source() if source == "random access" else rows
    for images, labels, mask in epochs_of(cls(10).dataset(data), 1):
        assert np.array_equal(labels[mask > 0] + 1, images[mask > 0, 0])


@pytest.mark.parametrize("cls", SAMPLERS)
def test_ranks_share_the_work(cls, monkeypatch):
    seen = np.zeros(COUNT, int)
    for rank in range(2):
        monkeypatch.setattr("mindarmour.privacy.diff_privacy.sampling.samplers.current_ranks", partial(Ranks, rank, 2))
        dataset = cls(10).dataset((IMAGES, LABELS))
        table = included(list(dataset.source))
        assert not table[:, 1 - rank::2].any(), "each rank reads its own records"
        assert claim_of(dataset, Ranks(rank, 2)).shards == 2
        seen += table.sum(axis=0)
    if cls in ONCE_AN_EPOCH:
        assert (seen == 1).all()
    elif cls is FixedSizeSampler:
        assert seen.sum() == 50
    with pytest.raises(ValueError, match="shards"):
        claim_of(dataset)


@pytest.mark.parametrize("cls, count, size, name", [
    (FixedSizeSampler, 49, 10, "data"), (FixedSizeSampler, 50, 9, "batch_size"),
    (ShufflePartition, 50, 9, "batch_size")])
def test_shares_that_cannot_be_even_are_refused(cls, count, size, name, monkeypatch):
    monkeypatch.setattr("mindarmour.privacy.diff_privacy.sampling.samplers.current_ranks", lambda: Ranks(0, 2))
    with pytest.raises(ValueError, match=f"{name} must"):
        cls(size).dataset((IMAGES[:count], LABELS[:count]))


BAD = {"batch_size": [(0, ValueError), (2.0, TypeError), (True, TypeError), ("8", TypeError), (COUNT + 1, ValueError)],
       "steps_per_epoch": [(0, ValueError), (1.5, TypeError), (True, TypeError)],
       "seed": [(-1, ValueError), (0.5, TypeError), (None, TypeError)]}


@pytest.mark.parametrize("cls", SAMPLERS)
def test_bad_arguments_are_refused_by_every_sampler(cls):
    for name in set(inspect.signature(cls).parameters) & set(BAD):
        for value, error in BAD[name]:
            with pytest.raises(error, match=name):
                cls(**{"batch_size": 10, name: value}).dataset((IMAGES, LABELS))


@pytest.mark.parametrize("cls", SAMPLERS)
def test_one_line_from_sampler_to_ledger(cls):
    columns = tuple(c.asnumpy() for c in batch_for("dense", 60))
    network = dense()
    model = model_of(network, 2.0, optimizer=nn.SGD(network.trainable_params(), 0.1))
    model.train(2, cls(10).dataset(columns))
    assert model.ledger.steps == 12
    sampling = model.ledger.entries[0].event.sampling
    assert sampling == claim_of(cls(10).dataset(columns))
    spent = privacy_spent(model.ledger.entries, 1e-5)
    assert spent.kind == "guarantee" and spent.relation == sampling.relation and spent.sampling == sampling.kind
    assert 0 < spent.epsilon < 20
    expected_epochs = {1, 2} if cls in ONCE_AN_EPOCH else {0}
    assert {entry.epoch for entry in model.ledger.entries} == expected_epochs
