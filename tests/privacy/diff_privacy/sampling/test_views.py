"""Augmentation multiplicity: the views of an example are one unit of sensitivity C."""
import numpy as np
import pytest
from mindspore import Tensor
from small_models import loss_fn, model_of, weights
from small_networks import batch_for, dense, flat

from mindarmour.privacy.diff_privacy import (
    PoissonSampler,
    augmented_views,
    clipped_gradient_fn,
    random_flip,
    random_shift,
)

COUNT, VIEWS = 32, 3


def shaken(rows, generator):
    return rows + generator.normal(size=rows.shape).astype(rows.dtype) * 0.1


def data(augment=shaken):
    columns = tuple(c.asnumpy() for c in batch_for("dense", COUNT))
    return augmented_views(PoissonSampler(8).dataset(columns), VIEWS, augment)


def test_views_stand_together_and_holes_stay_holes():
    images, labels, mask = next(data().create_tuple_iterator(num_epochs=1, output_numpy=True))
    grouped = labels.reshape(-1, VIEWS)
    assert (grouped == grouped[:, :1]).all()
    marks = mask.reshape(-1, VIEWS)
    assert (marks == marks[:, :1]).all() and 0 < mask.sum() < len(mask)
    views = images[mask > 0].reshape(-1, VIEWS, 6)
    assert (views[:, 0] != views[:, 1]).any(axis=1).all(), "each view is augmented by itself"
    assert np.abs(views - views[:, :1]).max() < 1.5


def test_maps_before_and_after_the_views_reach_single_records():
    columns = tuple(c.asnumpy() for c in batch_for("dense", COUNT))
    plain = PoissonSampler(8).dataset(columns).map(lambda x: x * 0 + len(x), "image")
    first = augmented_views(plain, VIEWS, lambda rows, generator: rows + np.arange(len(rows))[:, None])
    images, _, mask = next(first.create_tuple_iterator(num_epochs=1, output_numpy=True))
    assert (images[mask > 0, 0] == 1 + np.flatnonzero(mask)).all()
    after = augmented_views(PoissonSampler(8).dataset(columns), VIEWS, shaken).map(lambda x: x * 0 + 5, "image")
    images, _, mask = next(after.create_tuple_iterator(num_epochs=1, output_numpy=True))
    assert np.abs(images[mask > 0] - 5).max() < 2 and len(images) % VIEWS == 0
    assert after.claim.views == VIEWS


def test_an_example_with_all_its_views_moves_the_sum_by_at_most_the_bound():
    network, bound = dense(), 0.1
    rows = 4 * VIEWS
    images, labels = (np.repeat(c.asnumpy(), VIEWS, axis=0) for c in batch_for("dense", 4))
    images = shaken(images, np.random.default_rng(0))
    fn = clipped_gradient_fn(network, loss_fn(), norm_bound=bound, micro_batches=4, engine="vmap")
    whole = flat(fn(Tensor(images), Tensor(labels)).total)
    for example in range(4):
        mask = (np.arange(rows) // VIEWS != example).astype(np.float32)
        distance = np.linalg.norm(whole - flat(fn(Tensor(images), Tensor(labels), is_real=mask).total))
        assert 0.5 * bound < distance <= bound * (1 + 1e-5)


def test_model_counts_an_example_once_and_divides_by_the_expected_examples():
    network = dense()
    model = model_of(network, bound=0.2, engine="vmap")
    dataset = data()
    before = weights(network)
    batches = list(dataset.create_tuple_iterator(num_epochs=1))
    model.train(1, dataset)
    event = model.ledger.entries[0].event
    assert (event.sensitivity, event.unit, event.sampling.rate) == (1.0, "example (3 views)", 0.25)
    assert model.train_network.plan.expected_units(model.train_network.rows) == 8
    assert np.abs(before - weights(network)).max() > 0 and len(batches) == 4


def test_micro_batches_and_views_exclude_each_other():
    with pytest.raises(ValueError, match="micro_batches must be None"):
        model_of(dense(), micro_batches=2).train(1, data())


def test_bad_arguments_are_refused():
    plain = PoissonSampler(8).dataset(tuple(c.asnumpy() for c in batch_for("dense", COUNT)))
    for views, error in ((0, ValueError), (2.0, TypeError)):
        with pytest.raises(error, match="views"):
            augmented_views(plain, views, shaken)
    with pytest.raises(TypeError, match="augment"):
        augmented_views(plain, 2, None)
    with pytest.raises(ValueError, match="straight from a sampler"):
        augmented_views(plain.project(["image", "is_real"]), 2, shaken)
    with pytest.raises(ValueError, match="pixels"):
        random_shift(-1)


def test_shift_and_flip_move_whole_images():
    images = np.arange(2 * 1 * 5 * 5, dtype=np.float32).reshape(2, 1, 5, 5)
    generator = np.random.default_rng(0)
    shift = random_shift(2)
    assert np.array_equal(random_shift(0)(images, generator), images)
    moved = {shift(images, generator)[0, 0, 2, 2] for _ in range(300)}
    assert moved == set(images[0, 0].ravel()), "every shift of up to two pixels occurs"
    flips = np.stack([random_flip(images, generator)[0] for _ in range(100)])
    mirrored = (flips == images[0][..., ::-1]).all(axis=(1, 2, 3))
    assert 25 < mirrored.sum() < 75 and ((flips == images[0]).all(axis=(1, 2, 3)) | mirrored).all()
