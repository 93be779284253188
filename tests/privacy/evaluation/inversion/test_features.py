"""White-box feature inversion: recovery, both modes and methods, shapes, determinism, bad input."""
import math

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn

from mindarmour.privacy.evaluation import ImageInversionAttack, InversionLoss
from mindarmour.privacy.evaluation.inversion.projected_descent import total_variation

SHAPE = (1, 12, 12)
TRUST = (1, 1e-6, 1e-6)


def convolution(channels=1, seed=0):
    cell = nn.Conv2d(channels, 6, 3, pad_mode="valid", has_bias=True)
    rng = np.random.default_rng(seed)
    cell.weight.set_data(ms.Tensor((0.4 * rng.standard_normal(cell.weight.shape)).astype(np.float32)))
    return cell


def blobs(count, shape, seed=0):
    """Smooth bright blobs on black, one an image."""
    rng = np.random.default_rng(seed)
    height, width = np.meshgrid(np.arange(shape[1]), np.arange(shape[2]), indexing="ij")
    centres = rng.uniform(2, min(shape[1:]) - 2, (count, shape[0], 2))
    distance = ((height - centres[..., :1, None]) ** 2 + (width - centres[..., 1:, None]) ** 2)
    return np.exp(-distance / 6).astype(np.float32)


def features(network, images):
    return network(ms.Tensor(images)).asnumpy()


def test_recovers_images_from_a_convolution_in_both_modes(mode):
    images, network = blobs(4, SHAPE), convolution()
    attack = ImageInversionAttack(network, SHAPE, (0, 1), TRUST)
    found = attack.generate(features(network, images), 200, seed=0)
    assert found.shape == images.shape and found.dtype == np.float32
    assert found.min() >= 0 and found.max() <= 1
    result = attack.evaluate(images, found)
    assert result[1] > 0.95 and result[2] is None
    assert result.report["psnr"].mean > 25 > result.report["psnr"].baseline_mean
    assert result.report.outcome == "recognisable"


def test_each_image_is_found_as_if_it_were_alone():
    images, network = blobs(3, SHAPE), convolution()
    attack = ImageInversionAttack(network, SHAPE, (0, 1), TRUST)
    target = features(network, images)
    together = attack.generate(target, 40, seed=0)
    alone = attack.generate(target[:1], 40, seed=0)
    # the first image draws the same start in both
    np.testing.assert_allclose(together[:1], alone, atol=1e-4)


def test_sees_weights_that_changed_since_the_last_call():
    images, network = blobs(2, SHAPE), convolution()
    attack = ImageInversionAttack(network, SHAPE, (0, 1), TRUST)
    first = attack.generate(features(network, images), 100, seed=0)
    network.weight.set_data(ms.Tensor(-2 * network.weight.asnumpy()))
    second = attack.generate(features(network, images), 100, seed=0)
    for found in (first, second):
        assert attack.evaluate(images, found)[1] > 0.8


def test_colour_and_non_square_images():
    shape = (3, 9, 16)
    images, network = blobs(2, shape), convolution(3)
    attack = ImageInversionAttack(network, shape, (-1, 1), TRUST)
    found = attack.generate(features(network, images), 200, seed=0)
    assert found.shape == (2, *shape)
    assert attack.evaluate(images, found).report["psnr"].mean > 20


def test_adam_beats_the_documented_sign_method():
    images, network = blobs(3, SHAPE), convolution()
    attack = ImageInversionAttack(network, SHAPE, (0, 1), TRUST)
    target = features(network, images)
    by_method = [attack.evaluate(images, attack.generate(target, 100, method=method, seed=0))[1]
                 for method in ("adam", "sign")]
    assert by_method[0] > by_method[1]


def test_the_seed_fixes_the_result_and_the_rate_changes_it():
    images, network = blobs(1, SHAPE), convolution()
    attack = ImageInversionAttack(network, SHAPE, (0, 1), TRUST)
    target = features(network, images)
    one, same, other, slower = (attack.generate(target, 5, seed=s, lr=lr)
                                for s, lr in ((1, None), (1, None), (2, None), (1, 0.001)))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other) and not np.array_equal(one, slower)


def test_the_network_keeps_its_mode_and_weights():
    network = nn.SequentialCell(convolution(), nn.Dropout(p=0.5))
    network.set_train(True)
    before = network[0].weight.asnumpy().copy()
    attack = ImageInversionAttack(network, SHAPE, (0, 1), TRUST)
    attack.generate(features(network[0], blobs(1, SHAPE)), 5, seed=0)
    assert network.training and network[1].training
    np.testing.assert_array_equal(network[0].weight.asnumpy(), before)


def test_the_loss_is_the_documented_sum(mode):
    rng = np.random.default_rng(0)
    images = rng.random((2, 3, 4, 5)).astype(np.float32)
    target = rng.random((2, 60)).astype(np.float32)
    loss = float(InversionLoss(nn.Flatten(), (1, 0.2, 5))(ms.Tensor(images), ms.Tensor(target)))
    error = ((images.reshape(2, -1) - target) ** 2).mean(1) / (target ** 2).mean(1)
    variation = ((np.diff(images, axis=2) ** 2).sum((1, 2, 3)) + (np.diff(images, axis=3) ** 2).sum((1, 2, 3))) / 60
    energy = (images ** 2).mean((1, 2, 3))
    assert loss == pytest.approx((error + 0.2 * variation + 5 * energy).mean(), rel=1e-5)


def test_a_zero_target_and_a_one_pixel_side_stay_finite():
    images = ms.Tensor(np.ones((1, 1, 1, 4), np.float32))
    assert float(total_variation(images)[0]) == 0
    assert float(InversionLoss(nn.Flatten(), (1, 1, 1))(images, ms.ops.zeros((1, 4)))) == pytest.approx(2)


def test_evaluate_returns_the_documented_triple():
    images = blobs(3, SHAPE)
    attack = ImageInversionAttack(convolution(), SHAPE, (0, 1))
    classifier = nn.SequentialCell(nn.Flatten(), nn.Dense(144, 4))
    for labels in (np.array([0, 1, 3]), np.eye(4)[[0, 1, 3]]):
        l2, ssim, confidence = attack.evaluate(images, images, labels, classifier)
        assert l2 == 0 and ssim == pytest.approx(1)
    logits = features(classifier, images).astype(np.float64)
    softmax = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert confidence == pytest.approx(softmax[[0, 1, 2], [0, 1, 3]].mean(), rel=1e-5)


@pytest.mark.parametrize("arguments, error, message", [
    ({"network": len}, TypeError, "network"),
    ({"input_shape": [1, 12, 12]}, TypeError, "input_shape"),
    ({"input_shape": (12, 12)}, ValueError, "input_shape must be the shape"),
    ({"input_shape": (1, 12, 0)}, ValueError, "input_shape"),
    ({"input_shape": (1, 12, 12.0)}, TypeError, "input_shape"),
    ({"input_bound": 1}, TypeError, "input_bound"),
    ({"input_bound": (0, 1, 2)}, ValueError, "input_bound must be a pair"),
    ({"input_bound": (1, 0)}, ValueError, "low < high"),
    ({"input_bound": (0, math.nan)}, ValueError, "input_bound"),
    ({"input_bound": (0, math.inf)}, ValueError, "input_bound"),
    ({"input_bound": (0, "1")}, TypeError, "input_bound"),
    ({"loss_weights": 1}, TypeError, "loss_weights"),
    ({"loss_weights": (1, 1)}, ValueError, "loss_weights must have 3"),
    ({"loss_weights": (0, 1, 1)}, ValueError, "loss_weights"),
    ({"loss_weights": (1, -1, 1)}, ValueError, "loss_weights"),
    ({"loss_weights": (1, math.nan, 1)}, ValueError, "loss_weights"),
    ({"loss_weights": (1, math.inf, 1)}, ValueError, "loss_weights"),
])
def test_refuses_bad_constructor_arguments(arguments, error, message):
    good = {"network": convolution(), "input_shape": SHAPE, "input_bound": (0, 1)}
    with pytest.raises(error, match=message):
        ImageInversionAttack(**{**good, **arguments})


@pytest.mark.parametrize("arguments, error, message", [
    ({"target_features": [1.0]}, TypeError, "target_features"),
    ({"target_features": np.zeros((2, 6, 9, 9), np.float32)}, ValueError, r"must have shape \('N', 6, 10, 10\)"),
    ({"target_features": np.zeros((0, 6, 10, 10), np.float32)}, ValueError, "must have shape"),
    ({"target_features": np.full((1, 6, 10, 10), np.nan, np.float32)}, ValueError, "finite"),
    ({"iters": 0}, ValueError, "iters"),
    ({"iters": 1.5}, TypeError, "iters"),
    ({"method": "lbfgs"}, ValueError, "method must be one of 'adam', 'sign'"),
    ({"lr": 0.0}, ValueError, "lr"),
    ({"lr": math.inf}, ValueError, "lr"),
    ({"lr": "fast"}, TypeError, "lr"),
    ({"seed": -1}, ValueError, "seed"),
    ({"seed": 0.5}, TypeError, "seed"),
])
def test_refuses_bad_targets(arguments, error, message):
    attack = ImageInversionAttack(convolution(), SHAPE, (0, 1))
    good = {"target_features": np.zeros((1, 6, 10, 10), np.float32), "iters": 2}
    with pytest.raises(error, match=message):
        attack.generate(**{**good, **arguments})


def test_evaluate_needs_labels_with_a_network():
    attack = ImageInversionAttack(convolution(), SHAPE, (0, 1))
    with pytest.raises(ValueError, match="labels must be given with new_network"):
        attack.evaluate(blobs(2, SHAPE), blobs(2, SHAPE), None, nn.Flatten())
