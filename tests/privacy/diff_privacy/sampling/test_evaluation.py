"""Metrics count every record once and no hole, whatever data set they are given."""
import mindspore as ms
import mindspore.dataset as ds
import numpy as np
import pytest
from mindspore import Tensor, nn
from records import IMAGES, LABELS

from mindarmour.privacy.accounting.events import FULL
from mindarmour.privacy.diff_privacy import (
    BallsInBinsSampler,
    DPModel,
    FixedSizeSampler,
    NoiseGaussianRandom,
    PoissonSampler,
    ShufflePartition,
    augmented_views,
)
from mindarmour.privacy.diff_privacy.sampling.batches import SamplerDataset
from mindarmour.privacy.diff_privacy.sampling.claims import claim_of
from mindarmour.privacy.diff_privacy.sampling.evaluation import for_metrics

CLASSES = (LABELS % 3 == 0).astype(np.int32)


def rows_of(dataset):
    return [np.concatenate(column) for column in zip(*dataset.create_tuple_iterator(num_epochs=1, output_numpy=True))]


@pytest.mark.parametrize("cls", [PoissonSampler, BallsInBinsSampler, FixedSizeSampler, ShufflePartition])
def test_each_record_comes_once_without_holes(cls):
    changes = (lambda d: d, lambda d: d.project(["image", "label", "is_real"]), lambda d: d.rename(["image"], ["x"]),
               lambda d: augmented_views(d, 3, lambda rows, generator: rows * 0))
    for change in changes:
        images, labels = rows_of(for_metrics(change(cls(8).dataset((IMAGES, LABELS)))))
        assert np.array_equal(labels, LABELS) and np.array_equal(images, IMAGES)
    dataset = cls(8).dataset((IMAGES, LABELS))
    sizes = [len(batch[0]) for batch in for_metrics(dataset).create_tuple_iterator(num_epochs=1, output_numpy=True)]
    assert len(set(sizes[:-1])) <= 1 and len(sizes) == for_metrics(dataset).get_dataset_size()


def test_order_and_choice_of_columns_are_kept():
    dataset = PoissonSampler(8).dataset((IMAGES, LABELS)).project(["is_real", "label", "image"])
    assert for_metrics(dataset).get_col_names() == ["label", "image"]
    labels, images = rows_of(for_metrics(dataset))
    assert np.array_equal(labels, LABELS) and np.array_equal(images, IMAGES)


def test_a_mask_of_the_users_own_is_obeyed_and_data_without_one_stay():
    mask = (LABELS % 4 != 1).astype(np.float32)
    own = ds.NumpySlicesDataset((IMAGES, mask, LABELS), ["x", "is_real", "y"], shuffle=False).batch(9)
    _, labels = rows_of(for_metrics(own))
    assert np.array_equal(labels, LABELS[mask > 0])
    plain = ds.NumpySlicesDataset((IMAGES, LABELS)).batch(9)
    assert for_metrics(plain) is plain


def test_what_is_made_for_metrics_claims_nothing_for_training():
    dataset = PoissonSampler(8).dataset((IMAGES, LABELS))
    assert claim_of(for_metrics(dataset)).kind == FULL
    assert claim_of(SamplerDataset(dataset.source.each_record_once())).kind == FULL


def test_an_evaluation_draws_nothing_from_a_seeded_sampler():
    first, second = (PoissonSampler(8, seed=5).dataset((IMAGES, LABELS)) for _ in range(2))
    rows_of(for_metrics(first))
    for one, other in zip(rows_of(first), rows_of(second)):
        assert np.array_equal(one, other)


def model_of(network, loss=None):
    loss = loss or nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean")
    return DPModel(micro_batches=None, norm_bound=1.0, noise_mech=NoiseGaussianRandom(1.0, 1.0), network=network,
                   loss_fn=loss, optimizer=nn.SGD(network.trainable_params(), 0.1), metrics={"acc", "loss"})


@pytest.mark.parametrize("mode", [ms.GRAPH_MODE, ms.PYNATIVE_MODE])
def test_accuracy_is_that_of_the_records(mode):
    ms.set_context(mode=mode)
    network = nn.Dense(1, 2)
    network.weight.set_data(Tensor([[0.0], [0.1]], ms.float32))
    network.bias.set_data(Tensor([2.0, 0.0], ms.float32))  # holes of zeros would count as hits of class 0
    model = model_of(network)
    dataset = PoissonSampler(8).dataset((IMAGES, CLASSES))
    guesses = (0.1 * IMAGES[:, 0] > 2.0).astype(int)
    assert model.eval(dataset)["acc"] == pytest.approx((guesses == CLASSES).mean())
    model.fit(1, dataset, dataset)
