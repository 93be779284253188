"""Gradient inversion: exact recovery, labels, optimisation, the self-check, the defence, bad input."""
import math

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn, ops

from mindarmour.privacy.diff_privacy import NoiseMechanismsFactory, clipped_gradient_fn
from mindarmour.privacy.evaluation import GradientInversion, reconstruction_report
from mindarmour.privacy.evaluation.inversion import gradient_matching as matching
from mindarmour.privacy.evaluation.inversion.gradient_inversion import infer_labels, total_variation_and_grad

SHAPE = (1, 8, 8)


def randomise(network, scale=0.5, seed=0):
    rng = np.random.default_rng(seed)
    for parameter in network.trainable_params():
        parameter.set_data(ms.Tensor(rng.uniform(-scale, scale, parameter.shape).astype(np.float32)))
    return network


class SmoothNet(nn.Cell):
    """A small network with the smooth activations that the DLG papers use."""

    def __init__(self, dense=False, classes=10, has_bias=True):
        super().__init__()
        self.first = nn.Dense(64, 30) if dense else nn.Conv2d(1, 8, 3, pad_mode="valid", has_bias=True)
        self.last = nn.Dense(30 if dense else 8 * 36, classes, has_bias=has_bias)
        self.sigmoid, self.flatten, self.dense = nn.Sigmoid(), nn.Flatten(), dense

    def construct(self, x):
        if self.dense:
            x = self.flatten(x)
        return self.last(self.flatten(self.sigmoid(self.first(x))))


def image(seed=0):
    return np.random.default_rng(seed).random((1, *SHAPE)).astype(np.float32)


def gradient_of(network, images, labels, loss=None):
    loss = loss or nn.CrossEntropyLoss()

    def forward(x, y):
        return loss(network(x), y)

    weights = ms.ParameterTuple(network.trainable_params())
    return ms.grad(forward, None, weights)(ms.Tensor(images), ms.Tensor(np.asarray(labels, np.int32)))


def psnr(found, true):
    return 10 * math.log10(1 / np.mean((np.clip(found, 0, 1) - true) ** 2))


def test_analytic_recovery_is_exact():
    network = randomise(SmoothNet(dense=True))
    for label in range(10):
        true = image(label)
        found = GradientInversion(network, nn.CrossEntropyLoss(), "analytic").reconstruct(
            gradient_of(network, true, [label]), SHAPE)
        assert np.abs(found.images - true).max() < 1e-5
        assert found.labels.tolist() == [label]


def test_an_attacked_network_still_trains_under_its_optimizer():
    network = randomise(SmoothNet(dense=True))
    loss = nn.CrossEntropyLoss()
    step = nn.TrainOneStepCell(nn.WithLossCell(network, loss), nn.SGD(network.trainable_params(), 1.0))
    GradientInversion(network, loss, "idlg").reconstruct(gradient_of(network, image(), [3]), SHAPE, iters=2)
    before = network.last.weight.asnumpy().copy()
    step(ms.Tensor(image()), ms.Tensor([3], ms.int32))
    assert np.abs(network.last.weight.asnumpy() - before).max() > 1e-3


@pytest.mark.parametrize("network", [SmoothNet(), SmoothNet(has_bias=False), SmoothNet(dense=True),
                                     nn.SequentialCell(nn.Flatten(), nn.Dense(64, 20), nn.Tanh(),
                                                       nn.Dense(20, 10, has_bias=False))],
                         ids=["conv", "no bias", "dense", "signed features without bias"])
def test_the_label_of_one_example_is_exact_for_every_class(network):
    randomise(network)
    for label in range(10):
        assert infer_labels(gradient_of(network, image(label), [label])).tolist() == [label]


def test_labels_of_a_batch_on_an_untrained_network():
    network = randomise(SmoothNet(dense=True), 0.01)
    labels = [1, 4, 4, 7]
    images = np.random.default_rng(0).random((4, *SHAPE)).astype(np.float32)
    assert infer_labels(gradient_of(network, images, labels), 4).tolist() == labels


def test_idlg_recovers_the_image_in_both_modes(mode):
    network = randomise(SmoothNet())
    gradients = gradient_of(network, image(), [3])
    found = GradientInversion(network, nn.CrossEntropyLoss(), "idlg").reconstruct(
        gradients, SHAPE, iters=120, seed=1, input_bound=(0, 1), progress=False)
    assert found.labels.tolist() == [3] and found.distance < 1e-3
    assert psnr(found.images, image()) > 25


def test_dlg_finds_label_and_image():
    network = randomise(SmoothNet())
    gradients = gradient_of(network, image(1), [6])
    found = GradientInversion(network, None, "dlg").reconstruct(gradients, SHAPE, iters=150, seed=1,
                                                                labels=np.array([0]), progress=False)
    assert found.labels.tolist() == [6]
    assert psnr(found.images, image(1)) > 20


def test_cosine_works_through_relu_and_pooling():
    network = nn.SequentialCell(nn.Conv2d(1, 16, 3, pad_mode="same", has_bias=True), nn.ReLU(), nn.MaxPool2d(2, 2),
                                nn.Flatten(), nn.Dense(256, 10))
    randomise(network, 0.2)
    height, width = np.meshgrid(np.arange(8), np.arange(8), indexing="ij")
    smooth = np.exp(-((height - 3) ** 2 + (width - 4) ** 2) / 8).astype(np.float32)[None, None]
    found = GradientInversion(network, nn.CrossEntropyLoss(), "cosine").reconstruct(
        gradient_of(network, smooth, [2]), SHAPE, iters=200, seed=0, input_bound=(0, 1), progress=False)
    assert psnr(found.images, smooth) > 18
    assert found.distance < 0.05


def test_another_loss_with_known_labels():
    class Squared(nn.Cell):
        def construct(self, logits, labels):
            table = ops.one_hot(labels, 10, ms.Tensor(1.0, ms.float32), ms.Tensor(0.0, ms.float32))
            return ((logits - table) ** 2).sum()

    network = randomise(SmoothNet(), 0.3)
    attack = GradientInversion(network, Squared(), "idlg")
    gradients = gradient_of(network, image(), [3], Squared())
    with pytest.raises(ValueError, match="labels must be given"):
        attack.reconstruct(gradients, SHAPE)
    found = attack.reconstruct(gradients, SHAPE, labels=np.array([3]), iters=150, seed=1, input_bound=(0, 1),
                               progress=False)
    assert psnr(found.images, image()) > 20


def test_a_start_at_the_truth_is_left_there():
    network = randomise(SmoothNet())
    true = np.random.default_rng(3).uniform(0, 1, (1, *SHAPE)).astype(np.float32)
    found = GradientInversion(network).reconstruct(gradient_of(network, true, [3]), SHAPE, iters=5, seed=3,
                                                   input_bound=(0, 1), progress=False)
    assert np.abs(found.images - true).max() < 1e-3


def test_restarts_keep_the_best_and_the_seed_repeats():
    network = randomise(SmoothNet())
    gradients = gradient_of(network, image(), [3])
    attack = GradientInversion(network)
    one = attack.reconstruct(gradients, SHAPE, iters=10, seed=4, progress=False)
    three = attack.reconstruct(gradients, SHAPE, iters=10, seed=4, restarts=3, progress=False)
    again = attack.reconstruct(gradients, SHAPE, iters=10, seed=4, restarts=3, progress=False)
    assert three.distance <= one.distance * (1 + 1e-6) and three.restarts == 3
    np.testing.assert_array_equal(three.images, again.images)


def test_the_network_is_left_as_it_was(mode):
    network = randomise(SmoothNet())
    before = [p.asnumpy().copy() for p in network.get_parameters()]
    GradientInversion(network).reconstruct(gradient_of(network, image(), [3]), SHAPE, iters=3, progress=False)
    for parameter, value in zip(network.get_parameters(), before):
        np.testing.assert_array_equal(parameter.asnumpy(), value)


@pytest.mark.parametrize("distance", [matching.squared_distance, matching.cosine_distance])
def test_distances_and_their_derivatives(distance):
    rng = np.random.default_rng(0)
    target = [rng.standard_normal((3, 2)), rng.standard_normal(4)]
    gradient = [rng.standard_normal((3, 2)), rng.standard_normal(4)]
    assert distance(target, target)[0] == pytest.approx(0, abs=1e-12)
    slope = distance(gradient, target)[1]
    for part in range(2):
        for index in np.ndindex(gradient[part].shape):
            values = []
            for step in (1e-5, -1e-5):
                moved = [g.copy() for g in gradient]
                moved[part][index] += step
                values.append(distance(moved, target)[0])
            assert slope[part][index] == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-4, abs=1e-8)


def test_total_variation_and_its_derivative():
    images = np.random.default_rng(0).random((2, 3, 4, 5))
    value, slope = total_variation_and_grad(images)
    assert value == pytest.approx(np.abs(np.diff(images, axis=2)).mean() + np.abs(np.diff(images, axis=3)).mean())
    moved = images.copy()
    moved[1, 2, 3, 0] += 1e-6
    assert slope[1, 2, 3, 0] == pytest.approx((total_variation_and_grad(moved)[0] - value) / 1e-6, rel=1e-4)


def matcher(network, loss):
    target = [g.asnumpy().astype(np.float64) for g in gradient_of(network, image(), [3])]
    return matching.GradientMatcher(network, loss, target, matching.squared_distance, True)


def test_the_derivative_equals_finite_differences():
    network = randomise(SmoothNet())
    match = matcher(network, matching.SoftLabelCrossEntropy())
    rng, start, labels = np.random.default_rng(0), image(5).astype(np.float64), np.eye(10)[[3]]
    match.check(start, labels, rng)
    slope = match.value_and_grad(start, labels)[1][0]
    for _ in range(5):
        direction = rng.standard_normal(start.shape) + 3 * slope / np.linalg.norm(slope)
        direction /= np.linalg.norm(direction)
        ahead, behind = (match.value(start + step * direction, labels) for step in (1e-2, -1e-2))
        assert (ahead - behind) / 2e-2 == pytest.approx(np.vdot(slope, direction), rel=0.01)


@pytest.mark.parametrize("error", [0.95, 1.05, 0.0, -1.0])
def test_the_self_check_refuses_a_wrong_derivative(error, monkeypatch):
    match = matcher(randomise(SmoothNet()), matching.SoftLabelCrossEntropy())
    right = match.value_and_grad

    def wrong(images, labels):
        value, slopes = right(images, labels)
        return value, [error * slope for slope in slopes]

    monkeypatch.setattr(match, "value_and_grad", wrong)
    with pytest.raises(ArithmeticError, match="failed its self-check"):
        match.check(image(5).astype(np.float64), np.eye(10)[[3]], np.random.default_rng(0))


def test_a_start_beside_a_kink_is_drawn_again(monkeypatch):
    network, starts, right = randomise(SmoothNet()), [], matching.GradientMatcher.check

    def check(match, images, labels, rng):
        starts.append(images)
        if len(starts) < 3:
            raise ArithmeticError("a kink")
        right(match, images, labels, rng)

    monkeypatch.setattr(matching.GradientMatcher, "check", check)
    GradientInversion(network).reconstruct(gradient_of(network, image(), [3]), SHAPE, iters=2, progress=False)
    assert len(starts) == 3 and not np.array_equal(starts[0], starts[1])


def test_randomness_in_the_network_fails_the_self_check():
    network = nn.SequentialCell(nn.Flatten(), nn.Dense(64, 40), nn.Sigmoid(), nn.Dropout(p=0.5), nn.Dense(40, 10))
    randomise(network).set_train(True)
    with pytest.raises(ArithmeticError, match="dropout"):
        GradientInversion(network).reconstruct(gradient_of(network, image(), [3]), SHAPE, progress=False)


@pytest.mark.slow
def test_a_clipped_and_noised_gradient_gives_nothing_away():
    network = randomise(SmoothNet())
    clipped = clipped_gradient_fn(network, nn.CrossEntropyLoss(), norm_bound=1.0)
    noise = NoiseMechanismsFactory.create("Gaussian", norm_bound=1.0, initial_noise_multiplier=1.0)
    true = np.concatenate([np.exp(-4 * image(i)) for i in range(2)])
    plain, private = [], []
    for i in range(2):
        total = clipped(ms.Tensor(true[i:i + 1]), ms.Tensor(np.array([i], np.int32))).total
        released = [g + noise(g) for g in total]
        for gradients, found in ((total, plain), (released, private)):
            found.append(GradientInversion(network).reconstruct(gradients, SHAPE, iters=60, seed=9 + i,
                                                                input_bound=(0, 1), labels=np.array([i]),
                                                                progress=False).images[0])
    plain = reconstruction_report(true, np.stack(plain), data_range=1)
    private = reconstruction_report(true, np.stack(private), data_range=1)
    # scaling a gradient does not hide it: the plain report shows that the attack itself works
    assert plain["psnr"].mean > 15
    assert private["psnr"].mean < 10 and private["psnr"].mean < private["psnr"].baseline_mean


@pytest.mark.parametrize("arguments, error, message", [
    ({"network": len}, TypeError, "network"),
    ({"loss_fn": len}, TypeError, "loss_fn"),
    ({"loss_fn": nn.CrossEntropyLoss(reduction="sum")}, ValueError, "loss_fn must be a mean cross-entropy"),
    ({"loss_fn": nn.CrossEntropyLoss(label_smoothing=0.1)}, ValueError, "loss_fn must be a mean cross-entropy"),
    ({"loss_fn": nn.SoftmaxCrossEntropyWithLogits(sparse=True)}, ValueError, "loss_fn must be a mean cross-entropy"),
    ({"loss_fn": nn.MSELoss(), "method": "dlg"}, ValueError, "method 'dlg' searches the labels"),
    ({"method": "gan"}, ValueError, "method must be one of 'analytic', 'idlg', 'dlg', 'cosine'"),
    ({"variation_weight": -1}, ValueError, "variation_weight"),
    ({"variation_weight": math.nan}, ValueError, "variation_weight"),
    ({"lr": 0}, ValueError, "lr"),
    ({"lr": math.inf}, ValueError, "lr"),
    ({"lr": "1"}, TypeError, "lr"),
])
def test_refuses_bad_constructor_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        GradientInversion(**{"network": SmoothNet(), **arguments})


GOOD = [np.ones((8, 1, 3, 3)), np.ones(8), np.ones((10, 288)), np.ones(10)]


@pytest.mark.parametrize("arguments, error, message", [
    ({"gradients": GOOD[:3]}, ValueError, "each of the network's 4 trainable parameters, but holds 3"),
    ({"gradients": GOOD[0]}, TypeError, "gradients"),
    ({"gradients": [*GOOD[:3], [1.0]]}, TypeError, r"gradients\[3\]"),
    ({"gradients": [*GOOD[:3], np.ones(9)]}, ValueError, r"must have shape \(10,\), but has \(9,\)"),
    ({"gradients": [*GOOD[:3], np.full(10, np.nan)]}, ValueError, r"gradients\[3\] must be finite"),
    ({"gradients": [0 * g for g in GOOD]}, ValueError, "must not all be zero"),
    ({"input_shape": [1, 8, 8]}, TypeError, "input_shape"),
    ({"input_shape": (1, 8, 0)}, ValueError, "input_shape"),
    ({"labels": [3]}, TypeError, "labels"),
    ({"labels": np.array([3.0])}, ValueError, "labels must be whole numbers"),
    ({"labels": np.array([10])}, ValueError, "labels must be classes from 0 to 9"),
    ({"input_bound": (1, 0)}, ValueError, "input_bound"),
    ({"iters": 0}, ValueError, "iters"),
    ({"restarts": 0}, ValueError, "restarts"),
    ({"seed": -1}, ValueError, "seed"),
])
def test_refuses_bad_gradients(arguments, error, message):
    with pytest.raises(error, match=message):
        GradientInversion(SmoothNet()).reconstruct(**{"gradients": GOOD, "input_shape": SHAPE, "progress": False,
                                                      **arguments})


def test_analytic_says_what_it_needs():
    attack = GradientInversion(SmoothNet(), method="analytic")
    with pytest.raises(ValueError, match="begin|first parameters are the weight"):
        attack.reconstruct(GOOD, SHAPE)
    network = SmoothNet(dense=True)
    attack = GradientInversion(network, method="analytic")
    gradients = gradient_of(network, image(), [3])
    with pytest.raises(ValueError, match="reconstructs one example"):
        attack.reconstruct(gradients, SHAPE, labels=np.array([1, 2]))


class HeadFirst(nn.Cell):
    """The last layer is declared before the first one, and the features are normalised."""

    def __init__(self, classes=5, bias=True, norm=False, width=16):
        super().__init__()
        self.head = nn.Dense(width, classes, has_bias=bias)
        self.body = nn.Dense(12, width)
        self.norm = nn.LayerNorm((width,)) if norm else nn.Identity()

    def construct(self, x):
        return self.head(ops.sigmoid(self.norm(self.body(x))))


def vectors(count=1, seed=0):
    return np.random.default_rng(seed).random((count, 12)).astype(np.float32)


@pytest.mark.parametrize("build", [
    HeadFirst, lambda: HeadFirst(bias=False), lambda: HeadFirst(classes=2), lambda: HeadFirst(norm=True),
    lambda: HeadFirst(classes=3, bias=False), lambda: HeadFirst(classes=12, norm=True),
    lambda: nn.SequentialCell(nn.Dense(12, 16), nn.LayerNorm((16,)), nn.ReLU(), nn.Dense(16, 4)),
    lambda: nn.SequentialCell(nn.Dense(12, 7, has_bias=False), nn.Tanh(), nn.Dense(7, 7)),
], ids=["head first", "no bias", "two classes", "normalised", "three, no bias", "twelve", "head last", "square"])
def test_labels_are_read_off_the_last_layer_wherever_it_is_declared(build):
    for seed in range(12):
        ms.set_seed(seed)
        network = build()
        classes = network(ms.Tensor(vectors())).shape[1]
        label = seed % classes
        assert infer_labels(gradient_of(network, vectors(seed=seed), [label])).tolist() == [label]


def test_labels_that_nothing_tells_apart_are_refused():
    network = HeadFirst(classes=2, bias=False)
    with pytest.raises(ValueError, match="both labels of two classes"):
        infer_labels(gradient_of(network, vectors(), [1]))
    # a third class whose probability is lost in rounding leaves two rows, as two classes do
    probability, features = np.array([0.4, 0.6, 0.0]), np.array([1.0, -2.0, 0.5])
    with pytest.raises(ValueError, match="both labels"):
        infer_labels([np.outer(probability - np.eye(3)[0], features)])
    tiny = np.array([0.4, 0.6 - 1e-9, 1e-9])
    for label in range(3):
        assert infer_labels([np.outer(tiny - np.eye(3)[label], features)]).tolist() == [label]


@pytest.mark.parametrize("noise", [0.1, 1.0])
def test_noise_hides_which_layer_is_last_and_the_user_may_say_it(noise):
    rng, network = np.random.default_rng(0), HeadFirst()
    noisy = [g.asnumpy() + noise * rng.normal(size=g.shape) for g in gradient_of(network, vectors(), [3])]
    with pytest.raises(ValueError, match="head="):
        infer_labels(noisy)
    assert infer_labels(noisy, head=0).shape == (1,)
    found = GradientInversion(network, None, "idlg").reconstruct(noisy, (12,), iters=2, seed=0, progress=False)
    assert found.labels.tolist() == infer_labels(noisy, head=0).tolist()


@pytest.mark.parametrize("head, error", [(9, ValueError), (1, ValueError), (1.0, TypeError)])
def test_a_wrong_head_is_refused(head, error):
    with pytest.raises(error, match="head"):
        infer_labels(gradient_of(HeadFirst(), vectors(), [3]), head=head)


@pytest.mark.parametrize("method", ["idlg", "cosine", "analytic", "dlg"])
def test_images_behind_a_network_whose_head_is_declared_first(method):
    ms.set_seed(1)
    network, x = HeadFirst(), vectors(seed=5)
    gradients = gradient_of(network, x, [3])
    attack = GradientInversion(network, None, method)
    found = attack.reconstruct(gradients, (12,), input_bound=(0, 1), iters=150, seed=0, progress=False)
    assert found.labels.tolist() == [3]
    assert np.abs(found.images - x).max() < 0.3


def test_analytic_takes_the_layer_that_sees_the_input():
    # the head has as many columns as the input: its row gives the features, whose gradient is another one
    ms.set_seed(2)
    network, x = HeadFirst(width=12), vectors(seed=3)
    found = GradientInversion(network, None, "analytic").reconstruct(gradient_of(network, x, [1]), (12,))
    np.testing.assert_allclose(found.images, x, atol=1e-4)
    assert 0 <= found.distance < 1e-4


def test_infer_labels_refuses():
    with pytest.raises(ValueError, match="weight"):
        infer_labels([np.ones(3)])
    with pytest.raises(ValueError, match="batch_size"):
        infer_labels(GOOD, 0)
    with pytest.raises(ValueError, match="without bias"):
        infer_labels(GOOD[:3], 2, head=2)
    with pytest.raises(TypeError, match="gradients"):
        infer_labels(3)
