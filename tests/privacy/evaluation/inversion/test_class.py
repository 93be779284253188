"""Class inversion: the class is reached under an independent network, the best start wins, bad input."""
import math

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn

from mindarmour.privacy.evaluation import ClassInversion, reconstruction_report
from mindarmour.privacy.evaluation.inversion.class_inversion import ClassInversionLoss

SHAPE = (1, 8, 8)


def linear(seed, classes=4):
    """Nearest-centre classifiers of the same four patterns, each with noise of its own."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).random((classes, 64)) > 0.6
    network = nn.SequentialCell(nn.Flatten(), nn.Dense(64, classes))
    weight = (centres - 0.4) + 0.1 * rng.standard_normal((classes, 64))
    network[1].weight.set_data(Tensor(weight.astype(np.float32)))
    network[1].bias.set_data(Tensor(np.zeros(classes, np.float32)))
    return network


def test_an_independent_network_sees_the_class(mode):
    attack = ClassInversion(linear(0), SHAPE, (0, 1), variation_weight=0.1, energy_weight=0.1)
    labels = np.array([3, 0, 1, 2, 2])
    images = attack.reconstruct(labels, iters=60, restarts=2, seed=0)
    assert images.shape == (5, *SHAPE) and images.min() >= 0 and images.max() <= 1
    report = attack.evaluate(images, labels, linear(1), images, 1 - images)
    assert report.label_match == 1
    np.testing.assert_allclose(report.nearest_train, 0, atol=1e-4)
    expected = [min(np.sqrt(np.mean((image - (1 - other)) ** 2)) for other in images) for image in images]
    np.testing.assert_allclose(report.nearest_test, expected, rtol=1e-4)
    assert "label match 100%" in report.summary()


def test_the_best_of_several_starts_is_returned():
    attack = ClassInversion(linear(0), SHAPE, (0, 1))
    labels = np.arange(4)
    loss = ClassInversionLoss(linear(0), 1.0, 1.0)

    def losses(restarts):
        images = attack.reconstruct(labels, iters=3, restarts=restarts, seed=0)
        return loss(Tensor(images), Tensor(np.eye(4, dtype=np.float32))).asnumpy()

    assert losses(8).mean() < losses(1).mean()


def test_the_priors_change_the_image_and_the_seed_repeats_it():
    def run(seed=0, **weights):
        return ClassInversion(linear(0), SHAPE, (0, 1), **weights).reconstruct(np.array([1]), iters=40, restarts=1,
                                                                               seed=seed)

    def roughness(images):
        return np.abs(np.diff(images, axis=2)).mean() + np.abs(np.diff(images, axis=3)).mean()

    np.testing.assert_array_equal(run(), run())
    assert roughness(run(variation_weight=20)) < roughness(run(variation_weight=0))
    assert (run(energy_weight=5) ** 2).mean() < (run(energy_weight=0) ** 2).mean()


def test_a_network_that_ends_in_softmax_is_inverted_like_its_logits(mode):
    plain = linear(0)
    ending = nn.SequentialCell(*plain, nn.Softmax())
    one, other = (ClassInversion(network, SHAPE, (0, 1)).reconstruct(np.arange(4), iters=30, restarts=1, seed=0)
                  for network in (plain, ending))
    np.testing.assert_allclose(one, other, atol=2e-3)


def test_the_confidence_of_a_network_that_ends_in_softmax_is_its_probability():
    images = np.random.default_rng(0).random((6, *SHAPE))
    plain = linear(0)
    ending = nn.SequentialCell(*plain, nn.Softmax())
    one, other = (reconstruction_report(images, images, data_range=1, labels=np.arange(6) % 4, network=network)
                  for network in (plain, ending))
    np.testing.assert_allclose(one["confidence"].values, other["confidence"].values, rtol=1e-4)


@pytest.mark.parametrize("network, message", [
    (nn.SequentialCell(nn.Flatten(), nn.Dense(64, 1)), "one logit z"),
    (nn.SequentialCell(nn.Flatten(), nn.Dense(64, 3), nn.Sigmoid()), "One sigmoid for each label"),
    (nn.SequentialCell(nn.Flatten(), nn.Dense(64, 3, weight_init="zeros", bias_init=ms.common.initializer.Constant(
        math.nan))), "finite"),
])
def test_outputs_that_are_no_logits_are_refused_before_the_search(network, message):
    with pytest.raises(ValueError, match=message):
        ClassInversion(network, SHAPE, (0, 1)).reconstruct(np.array([0]), iters=2)


def test_a_search_that_never_sees_a_finite_loss_is_an_error_not_noise():
    class FiniteOnProbes(nn.Cell):
        """Overflows once the images are those of the search: a single image in the batch."""

        def construct(self, images):
            logits = images.reshape((images.shape[0], -1))[:, :3] - 0.5
            return logits / (0.0 if images.shape[0] == 1 else 1.0)

    with pytest.raises(ArithmeticError, match="NaN or infinite in every step"):
        ClassInversion(FiniteOnProbes(), SHAPE, (0, 1)).reconstruct(np.array([0]), iters=2, restarts=1)


def test_the_nearest_of_more_images_is_not_taken_for_a_memory():
    rng = np.random.default_rng(0)
    images, train, test = (rng.random((count, *SHAPE)) for count in (40, 2000, 50))
    attack = ClassInversion(linear(0), SHAPE, (0, 1))
    for sets in ((train, test), (test, train)):
        report = attack.evaluate(images, np.arange(40) % 4, linear(1), *sets)
        difference = report.nearest_train - report.nearest_test
        # all are draws of one distribution
        assert abs(difference.mean()) < 4 * difference.std() / 40 ** .5


@pytest.mark.parametrize("arguments, error, message", [
    ({"network": len}, TypeError, "network"),
    ({"input_shape": (8, 8)}, ValueError, "input_shape"),
    ({"input_bound": (1, 0)}, ValueError, "input_bound"),
    ({"variation_weight": -1}, ValueError, "variation_weight"),
    ({"variation_weight": math.nan}, ValueError, "variation_weight"),
    ({"energy_weight": math.inf}, ValueError, "energy_weight"),
    ({"energy_weight": "1"}, TypeError, "energy_weight"),
])
def test_refuses_bad_constructor_arguments(arguments, error, message):
    good = {"network": linear(0), "input_shape": SHAPE, "input_bound": (0, 1)}
    with pytest.raises(error, match=message):
        ClassInversion(**{**good, **arguments})


@pytest.mark.parametrize("arguments, error, message", [
    ({"labels": [1]}, TypeError, "labels"),
    ({"labels": np.array([1.0])}, ValueError, "labels must be whole numbers"),
    ({"labels": np.array([4])}, ValueError, "labels must be classes from 0 to 3"),
    ({"labels": np.array([-1])}, ValueError, "labels must be classes from 0 to 3"),
    ({"iters": 0}, ValueError, "iters"),
    ({"restarts": 0}, ValueError, "restarts"),
    ({"lr": 0}, ValueError, "lr"),
    ({"seed": -1}, ValueError, "seed"),
])
def test_refuses_bad_runs(arguments, error, message):
    with pytest.raises(error, match=message):
        ClassInversion(linear(0), SHAPE, (0, 1)).reconstruct(**{"labels": np.array([1]), "iters": 2, **arguments})


def test_evaluate_refuses():
    attack, images = ClassInversion(linear(0), SHAPE, (0, 1)), np.zeros((2, *SHAPE))
    with pytest.raises(ValueError, match="labels must have one row"):
        attack.evaluate(images, np.array([1]), linear(1), images, images)
    with pytest.raises(ValueError, match="train_images must hold images of shape"):
        attack.evaluate(images, np.array([1, 2]), linear(1), np.zeros((2, 3, 8, 8)), images)
    with pytest.raises(TypeError, match="network"):
        attack.evaluate(images, np.array([1, 2]), len, images, images)


def test_leaves_the_context_alone():
    before = ms.get_context("mode")
    ClassInversion(linear(0), SHAPE, (0, 1)).reconstruct(np.array([1]), iters=2, restarts=1)
    assert ms.get_context("mode") == before
