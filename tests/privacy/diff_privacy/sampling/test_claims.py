"""Samplers and claims: inclusion statistics with power, padding, truncation, what a plain data set may claim."""
import mindspore.dataset as ds
import numpy as np
import pytest
from records import COUNT, IMAGES, LABELS, epochs_of, included
from scipy import stats

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


def test_claim_of_a_sampler_survives_map_and_nothing_else():
    dataset = PoissonSampler(10).dataset((IMAGES, LABELS))
    claim = claim_of(dataset.map(np.sqrt, "image"))
    assert (claim.kind, claim.relation, claim.num_examples, claim.batch_size) == ("poisson", "add-or-remove", COUNT, 10)
    assert claim.max_batch_size == physical_batch_size(COUNT, 10)
    for changed in (dataset.repeat(2), dataset.take(2), dataset.shuffle(3)):
        with pytest.raises(ValueError, match="must not be changed"):
            claim_of(changed)


def rows_of(**arguments):
    return ds.NumpySlicesDataset((IMAGES, LABELS), ["image", "label"], **arguments)


def test_claim_of_a_shuffled_partition():
    claim = claim_of(rows_of().shuffle(50).batch(8, drop_remainder=True).repeat(3))
    assert (claim.kind, claim.relation, claim.passes_per_epoch, claim.steps_per_epoch) == ("shuffle", "zero-out", 3, 6)
    assert claim.num_examples == 48 and claim.batch_size == 8


@pytest.mark.parametrize("sampler", [ds.RandomSampler(replacement=True), ds.WeightedRandomSampler([1.0] * COUNT)])
def test_drawing_with_replacement_claims_no_partition(sampler):
    assert claim_of(rows_of(sampler=sampler).batch(5)).kind == "full"


def test_what_could_repeat_a_record_is_refused_or_claims_nothing():
    with pytest.raises(ValueError, match="repeat.. before dataset.batch"):
        claim_of(rows_of().repeat(2).batch(5))
    both = rows_of() + rows_of()
    assert claim_of(both.batch(5)).kind == "full"


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
