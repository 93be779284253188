"""Samplers and claims: inclusion statistics with power, padding, truncation, what a plain data set may claim."""
import mindspore.dataset as ds
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from records import COUNT, IMAGES, LABELS, epochs_of, included
from scipy import stats

from mindarmour.privacy.accounting import Ledger, StepEvent, privacy_spent
from mindarmour.privacy.diff_privacy import PoissonSampler
from mindarmour.privacy.diff_privacy.sampling.claims import claim_of
from mindarmour.privacy.diff_privacy.sampling.samplers import physical_batch_size


def test_inclusion_is_bernoulli_and_independent_with_power():
    table = included(epochs_of(PoissonSampler(10, steps_per_epoch=500).dataset((IMAGES, LABELS)), 8))
    trials = table.shape[0]
    counts = table.sum(axis=0)
    rate = 0.2
    chi2 = ((counts - trials * rate) ** 2 / (trials * rate * (1 - rate))).sum()
    assert stats.chi2.sf(chi2, COUNT) > 1e-4
    wrong = ((counts - trials * rate * 1.1) ** 2 / (trials * rate * (1 - rate))).sum()
    assert stats.chi2.sf(wrong, COUNT) < 1e-9, "the test would not see a rate that is 10% off"
    # sizes are binomial: a fixed-size sampler would have no variance, a partition less
    sizes = table.sum(axis=1)
    assert sizes.var() == pytest.approx(COUNT * rate * (1 - rate), rel=0.1)
    # pairs of records, and consecutive steps of one record, are uncorrelated
    z = np.sqrt(trials)
    pairs = np.corrcoef(table[:, :20].T)[np.triu_indices(20, 1)] * z
    assert np.abs(pairs).max() < 5
    lags = [np.corrcoef(table[:-1, i], table[1:, i])[0, 1] * z for i in range(COUNT)]
    assert np.abs(lags).max() < 5


def test_epochs_runs_and_seeds():
    def draw(seed):
        return included(epochs_of(PoissonSampler(10, steps_per_epoch=5, seed=seed).dataset((IMAGES, LABELS)), 2))

    fresh = draw(0)
    assert not np.array_equal(fresh[:5], fresh[5:]), "an epoch must not repeat the one before"
    assert not np.array_equal(fresh, draw(0))


def test_batches_have_one_size_and_padding_is_marked():
    dataset = PoissonSampler(10).dataset((IMAGES, LABELS), ["x", "y"])
    assert dataset.get_dataset_size() == 5 and dataset.get_col_names() == ["x", "y", "is_real"]
    size = physical_batch_size(COUNT, 10)
    for images, labels, mask in epochs_of(dataset, 3):
        assert images.shape == (size, 1) and labels.shape == (size,) and mask.shape == (size,)
        assert images.dtype == np.float32 and labels.dtype == np.int32 and mask.dtype == np.float32
        real = mask > 0
        assert not images[~real].any() and not labels[~real].any()
        assert np.array_equal(labels[real] + 1, images[real, 0])


def test_empty_and_overfull_draws_behave():
    empty = epochs_of(PoissonSampler(1, steps_per_epoch=60).dataset((IMAGES, LABELS)), 1)
    assert min(mask.sum() for _, _, mask in empty) == 0
    cut = epochs_of(PoissonSampler(25, steps_per_epoch=40, max_batch_size=25).dataset((IMAGES, LABELS)), 1)
    table = included(cut)
    assert table.sum(axis=1).max() == 25
    # what is cut is chosen at random, not by position
    assert abs(table[:, :25].sum() - table[:, 25:].sum()) < 6 * np.sqrt(40 * 25 / 2)


@pytest.mark.parametrize("count, size", [(60000, 256), (4000, 512), (100, 100), (10, 1)])
def test_physical_batch_holds_almost_every_draw(count, size):
    cap = physical_batch_size(count, size, 1e-9)
    assert stats.binom.sf(cap, count, size / count) <= 1e-9
    assert cap == size or stats.binom.sf(cap - 1, count, size / count) > 1e-9


def test_data_from_a_source_and_from_a_data_set():
    class Source:
        def __len__(self):
            return COUNT

        def __getitem__(self, index):
            return IMAGES[index], np.asarray(LABELS[index])

    rows = ds.NumpySlicesDataset((IMAGES, LABELS), ["image", "label"], shuffle=False)
    for data in (Source(), rows):
        for images, labels, mask in epochs_of(PoissonSampler(10).dataset(data), 1):
            assert np.array_equal(labels[mask > 0] + 1, images[mask > 0, 0])


def test_a_samplers_claim_survives_map_of_records_project_and_rename_with_the_mask():
    for kept in (sampled().map(np.sqrt, "image"), sampled().project(["label", "image", "is_real"]),
                 sampled().rename("image", "x"), sampled().map(np.sqrt, "image").project(["is_real", "image"])):
        claim = claim_of(kept)
        assert (claim.kind, claim.relation) == ("poisson", "add-or-remove")
        assert (claim.num_examples, claim.batch_size) == (COUNT, 10)
        assert claim.max_batch_size == physical_batch_size(COUNT, 10)
        assert "is_real" in kept.get_col_names()


def sampled():
    return PoissonSampler(10).dataset((IMAGES, LABELS))


LOSES_A_SAMPLERS_CLAIM = {
    "project without mask": lambda d: d.project(["image", "label"]),
    "rename of mask": lambda d: d.rename("is_real", "mask"),
    "mask swapped by rename": lambda d: d.rename(["is_real", "label"], ["label", "is_real"]),
    "repeat": lambda d: d.repeat(2), "endless repeat": lambda d: d.repeat(), "take": lambda d: d.take(2),
    "skip": lambda d: d.skip(1), "shuffle": lambda d: d.shuffle(3), "batch": lambda d: d.batch(2),
    "padded_batch": lambda d: d.padded_batch(2, pad_info={}), "filter": lambda d: d.filter(lambda *c: True),
    "concat": lambda d: d + d, "concat of two": lambda d: d.concat(sampled()),
    "zip": lambda d: d.zip(sampled().rename(["image", "label", "is_real"], ["a", "b", "c"])),
    "bucket": lambda d: d.bucket_batch_by_length(["image"], [1], [5, 5], element_length_function=len),
    "map that MindSpore's own class was asked for": lambda d: ds.Dataset.map(d, lambda x: x - x.mean(), "image"),
    "deep": lambda d: d.rename("image", "x").project(["x", "label", "is_real"]).take(1).rename("x", "y"),
}


@pytest.mark.parametrize("change", LOSES_A_SAMPLERS_CLAIM)
def test_whatever_else_is_done_to_a_samplers_batches_is_refused(change):
    with pytest.raises(ValueError, match="must not be changed|must stay as it is"):
        claim_of(LOSES_A_SAMPLERS_CLAIM[change](sampled()))


def test_a_claim_belongs_to_the_node_and_cannot_be_put_on_another():
    class Forged:
        sampling = claim = sampled().claim

        def __len__(self):
            return 5

        def __iter__(self):
            yield from [(IMAGES[:10], LABELS[:10])] * 5

    assert claim_of(ds.GeneratorDataset(Forged(), ["image", "label"])).kind == "full"
    borrowed = ds.GeneratorDataset(sampled().source, ["image", "label", "is_real"], shuffle=False)
    assert claim_of(borrowed).kind == "full"


@pytest.mark.parametrize("columns", [("is_real",), ("image", "is_real")])
def test_map_is_never_given_the_mask(columns):
    with pytest.raises(ValueError, match="must not hold 'is_real'"):
        sampled().map(lambda *c: c, list(columns))
    with pytest.raises(ValueError, match="output_columns must not hold"):
        sampled().map(lambda x: (x, x), ["image"], ["image", "is_real"])


MIXING = {"mean": lambda x: x - x.mean(axis=0), "sort": lambda x: np.sort(x, axis=0),
          "roll": lambda x: np.roll(x, 1, 0), "cumsum": lambda x: np.cumsum(x, axis=0),
          "max": lambda x: x / (1 + np.abs(x).max())}


@pytest.mark.parametrize("name", MIXING)
def test_a_map_after_the_sampler_sees_one_record_whatever_it_does(name):
    dataset = PoissonSampler(25, steps_per_epoch=3).dataset((IMAGES, LABELS)).map(MIXING[name], "image")
    for images, labels, mask in epochs_of(dataset, 1):
        alone = np.stack([MIXING[name](IMAGES[n:n + 1])[0] for n in labels[mask > 0]])
        assert np.array_equal(images[mask > 0], alone) and not images[mask == 0].any()


def test_map_after_the_sampler_may_add_and_drop_columns():
    dataset = sampled().map(lambda x, y: (x, x * 2, y), ["image", "label"], ["image", "double", "label"])
    assert dataset.get_col_names() == ["image", "double", "label", "is_real"]
    images, double, labels, mask = epochs_of(dataset, 1)[0]
    assert np.array_equal(images * 2, double) and np.array_equal(labels[mask > 0] + 1, images[mask > 0, 0])


def rows_of(**arguments):
    return ds.NumpySlicesDataset((IMAGES, LABELS), ["image", "label"], **arguments)


def test_claim_of_a_shuffled_partition():
    claim = claim_of(rows_of().shuffle(50).batch(8, drop_remainder=True).repeat(3))
    assert (claim.kind, claim.relation, claim.passes_per_epoch, claim.steps_per_epoch) == ("shuffle", "zero-out", 3, 6)
    assert claim.num_examples == 48 and claim.batch_size == 8


@pytest.mark.parametrize("dataset, records, steps", [
    (lambda: rows_of().batch(8), COUNT, 7), (lambda: rows_of().batch(8, drop_remainder=True), 48, 6),
    (lambda: rows_of().batch(64), COUNT, 1), (lambda: rows_of().take(20).batch(8), 20, 3),
    (lambda: rows_of().batch(8).take(2), 16, 2), (lambda: rows_of().batch(8).skip(6), 8, 1),
    (lambda: rows_of().map(lambda x: x, "image").batch(8).repeat(2).repeat(2), COUNT, 7),
    (lambda: rows_of().repeat(1).batch(8), COUNT, 7), (lambda: rows_of().batch(8).repeat(), COUNT, 7),
    (lambda: rows_of(sampler=ds.SubsetRandomSampler(range(20))).batch(8), 20, 3),
    (lambda: rows_of().batch(10).shuffle(3).map(np.negative, "image"), COUNT, 5),
    (lambda: rows_of().padded_batch(8, pad_info={"image": ([1], 0), "label": ([], 0)}), COUNT, 7)])
def test_a_partition_counts_its_records_and_the_steps_of_a_pass(dataset, records, steps):
    claim = claim_of(dataset())
    assert (claim.kind, claim.num_examples, claim.steps_per_epoch) == ("shuffle", records, steps)


class Reverse(ds.Sampler):
    def __iter__(self):
        yield from range(COUNT - 1, -1, -1)


def with_child():
    sampler = ds.SequentialSampler()
    sampler.add_child(ds.RandomSampler(replacement=True, num_samples=20))
    return sampler


COULD_REPEAT = {
    "repeat, then batch": (lambda: rows_of().repeat(2).batch(5), r"repeat\(\) before dataset.batch"),
    "endless repeat, then batch": (lambda: rows_of().repeat().batch(5), r"repeat\(\) before dataset.batch"),
    "repeat, then padded_batch": (lambda: rows_of().repeat(3).shuffle(60).padded_batch(5, pad_info={}), "repeat"),
    "repeat, then bucket": (lambda: rows_of().repeat(3).bucket_batch_by_length(["image"], [1], [5, 5]), "bucket"),
    "replacement": (lambda: rows_of(sampler=ds.RandomSampler(replacement=True)).batch(5), "replacement"),
    "num_samples and shuffle": (lambda: rows_of(num_samples=500, shuffle=True).batch(5), "replacement"),
    "weights": (lambda: rows_of(sampler=ds.WeightedRandomSampler([1.0] * COUNT)).batch(5), "WeightedRandomSampler"),
    "subset with repeats": (lambda: rows_of(sampler=ds.SubsetSampler([0, 0, 1])).batch(2), "must be different"),
    "random subset with repeats": (lambda: rows_of(sampler=ds.SubsetRandomSampler([0, 1, 0])).batch(2), "must be"),
    "list as sampler": (lambda: rows_of(sampler=[3, 3]).batch(2), "must be different"),
    "sampler of the user": (lambda: rows_of(sampler=Reverse()).batch(5), "Reverse"),
    "iterable as sampler": (lambda: rows_of(sampler=iter_only()).batch(5), "may visit"),
    "child sampler": (lambda: rows_of(sampler=with_child()).batch(5), "child sampler"),
    "added sampler": (lambda: added(rows_of(), ds.RandomSampler(replacement=True)).batch(5), "child sampler"),
    "offset": (lambda: rows_of(sampler=ds.DistributedSampler(3, 0, offset=1)).batch(5), "DistributedSampler"),
    "batch_sampler": (lambda: ds.GeneratorDataset(list(IMAGES), ["image"], batch_sampler=[[0, 0]]), "batch_sampler"),
    "sum": (lambda: (rows_of() + rows_of()).batch(5), "concat"),
    "concat of batches": (lambda: rows_of().batch(5).concat(rows_of().batch(5)), "concat"),
    "zip": (lambda: rows_of().zip(rows_of().rename(["image", "label"], ["a", "b"])).batch(5), "zip"),
}


def iter_only():
    class Numbers:
        def __iter__(self):
            yield from range(COUNT)

    return Numbers()


def added(dataset, sampler):
    dataset.add_sampler(sampler)
    return dataset


@pytest.mark.parametrize("name", COULD_REPEAT)
def test_what_could_put_copies_of_a_record_into_one_batch_is_refused(name):
    make, match = COULD_REPEAT[name]
    with pytest.raises(ValueError, match=match):
        claim_of(make())


MIXES_ROWS = {
    "per_batch_map": lambda: rows_of().batch(5, per_batch_map=lambda a, b, i: ([x - np.mean(a, 0) for x in a], b)),
    "mean": lambda: rows_of().batch(5).map(lambda x: x - x.mean(axis=0), "image"),
    "after one that is known": lambda: rows_of().batch(5).map(np.abs, "image").map(np.sort, "image"),
    "MixUpBatch": lambda: pictures().batch(5).map(ds.vision.MixUpBatch(1.0), ["image", "label"]),
    "CutMixBatch": lambda: pictures().batch(5).map(ds.vision.CutMixBatch(ds.vision.ImageBatchFormat.NHWC),
                                                   ["image", "label"]),
    "one of several": lambda: rows_of().batch(5).map([np.sqrt, lambda x: x], "image"),
    "filter of batches": lambda: rows_of().batch(5).filter(lambda a, b: bool(a.max() < 12)),
    "padding to the longest": lambda: rows_of().padded_batch(5, pad_info={}),
    "padding of one column to the longest": lambda: rows_of().padded_batch(5, pad_info={"image": ([None], 0)}),
    "bucket": lambda: rows_of().bucket_batch_by_length(["image"], [1], [5, 5]),
    "batches of batches": lambda: rows_of().batch(5).batch(2),
}


def pictures():
    images = np.random.default_rng(0).random((20, 8, 8, 3)).astype(np.float32)
    return ds.NumpySlicesDataset((images, np.eye(4, dtype=np.float32)[np.arange(20) % 4]), ["image", "label"])


@pytest.mark.parametrize("name", MIXES_ROWS)
def test_what_makes_a_row_of_several_records_is_refused(name):
    with pytest.raises(ValueError, match="several records|longest row|other records|every record|whole batch"):
        claim_of(MIXES_ROWS[name]())


def numbers():
    for number in range(20):
        yield np.float32([number]), np.int32(number)


@pytest.mark.parametrize("dataset, reason", [
    (lambda: ds.GeneratorDataset(numbers, ["image", "label"]).batch(5), "generator"),
    (lambda: ds.GeneratorDataset([(IMAGES[:5], LABELS[:5])] * 3, ["image", "label"]), "no batch"),
    (lambda: rows_of().batch(lambda info: 5), "function decides"),
    (lambda: rows_of().batch(5).repeat(2).shuffle(4), "mixes passes"),
    (lambda: rows_of().batch(5).repeat(2).skip(3), "mixes passes"),
    (lambda: rows_of().batch(5).repeat(2).take(3), "mixes passes")])
def test_where_too_little_is_known_every_record_is_in_every_step(dataset, reason):
    claim = claim_of(dataset())
    assert claim.kind == "full" and reason in claim.reason
    ledger = Ledger()
    ledger.record(StepEvent(claim, 2.0), 3)
    assert reason in privacy_spent(ledger.entries, 1e-5).note, "the statement says so too"


@settings(max_examples=40, deadline=None)
@given(steps=st.lists(st.sampled_from(
    ["shuffle", "skip", "take", "repeat", "batch", "map", "project", "rename", "filter"]), max_size=6))
def test_a_partition_is_claimed_only_where_it_is_one(steps):
    dataset = rows_of()
    operations = {"shuffle": lambda d: d.shuffle(7), "skip": lambda d: d.skip(1), "take": lambda d: d.take(9),
                  "repeat": lambda d: d.repeat(2), "batch": lambda d: d.batch(4),
                  "map": lambda d: d.map(np.abs, "image"),
                  "project": lambda d: d.project(["image", "label"]), "rename": lambda d: d.rename("image", "image"),
                  "filter": lambda d: d.filter(lambda *c: True)}
    for step in steps:
        dataset = operations[step](dataset)
    try:
        claim = claim_of(dataset)
    except ValueError:
        return
    if claim.kind != "shuffle":
        return
    seen = [labels for _, labels in dataset.create_tuple_iterator(num_epochs=1, output_numpy=True)]
    assert all(len(set(labels)) == len(labels) <= claim.batch_size for labels in seen)
    for start in range(0, len(seen), claim.steps_per_epoch):
        one_pass = np.concatenate(seen[start:start + claim.steps_per_epoch])
        assert len(set(one_pass)) == len(one_pass) <= claim.num_examples
    assert len(seen) <= claim.steps_per_epoch * claim.passes_per_epoch


@pytest.mark.parametrize("name, value, error", [
    ("batch_size", 0, ValueError), ("batch_size", 2.0, TypeError), ("batch_size", True, TypeError),
    ("steps_per_epoch", 0, ValueError), ("steps_per_epoch", 1.5, TypeError),
    ("max_batch_size", 5, ValueError), ("max_batch_size", "20", TypeError), ("seed", -1, ValueError),
    ("seed", 0.5, TypeError)])
def test_bad_arguments_are_refused(name, value, error):
    with pytest.raises(error, match=name):
        PoissonSampler(**{"batch_size": 10, name: value})


def test_bad_data_is_refused():
    sampler = PoissonSampler(10)
    with pytest.raises(ValueError, match="same number of rows"):
        sampler.dataset((IMAGES, LABELS[:-1]))
    with pytest.raises(ValueError, match="column_names"):
        sampler.dataset((IMAGES, LABELS), ["image"])
    with pytest.raises(TypeError, match="random-access source"):
        sampler.dataset(5)
    with pytest.raises(ValueError, match="batch_size"):
        PoissonSampler(COUNT + 1).dataset((IMAGES, LABELS))
