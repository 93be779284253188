"""The documented gradient wrappers and distances, in both modes, against closed forms."""
import math

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn

from mindarmour.utils import GradWrap, GradWrapWithLoss, util


@pytest.fixture(params=[ms.PYNATIVE_MODE, ms.GRAPH_MODE], ids=["pynative", "graph"])
def mode(request):
    before = ms.get_context("mode")
    ms.set_context(mode=request.param)
    yield request.param
    ms.set_context(mode=before)


class TwoInputs(nn.Cell):
    def construct(self, a, b):
        return a * b


class Detector(nn.Cell):
    def __init__(self):
        super().__init__()
        self.dense = nn.Dense(4, 6)

    def construct(self, x):
        return self.dense(x).reshape((-1, 2, 3))


@pytest.fixture
def data():
    return np.random.default_rng(0).random((5, 4)).astype(np.float32)


def test_grad_wrap_is_the_vector_jacobian_product(mode, data):
    network = nn.Dense(4, 3)
    sens = np.random.default_rng(1).random((5, 3)).astype(np.float32)
    gradient = GradWrap(network)(ms.Tensor(data), ms.Tensor(sens)).asnumpy()
    np.testing.assert_allclose(gradient, sens @ network.weight.asnumpy(), rtol=1e-5, atol=1e-6)


def test_grad_wrap_takes_several_inputs(mode, data):
    gradient = GradWrap(TwoInputs())(ms.Tensor(data), ms.Tensor(2 * data), ms.Tensor(np.ones_like(data)))
    np.testing.assert_allclose(gradient.asnumpy(), 2 * data, rtol=1e-6)


def test_grad_wrap_with_loss_is_the_gradient_of_the_loss(mode, data):
    network = nn.Dense(4, 3)
    label = np.array([0, 1, 2, 0, 1], np.int32)
    cell = util.WithLossCell(network, nn.CrossEntropyLoss())
    gradient = GradWrapWithLoss(cell)(ms.Tensor(data), ms.Tensor(label)).asnumpy()
    logits = data @ network.weight.asnumpy().T + network.bias.asnumpy()
    softmax = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    expected = (softmax - np.eye(3)[label]) / len(data) @ network.weight.asnumpy()
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-6)


def test_jacobian_matrix_of_a_linear_classifier_is_its_weight(data):
    network = nn.Dense(4, 3)
    jacobian = util.jacobian_matrix(GradWrap(network), data, 3)
    assert jacobian.shape == (3, 5, 4)
    np.testing.assert_allclose(jacobian, np.repeat(network.weight.asnumpy()[:, None], 5, 1), rtol=1e-6)


def test_jacobian_matrix_for_detection(data):
    network = Detector()
    jacobian = util.jacobian_matrix_for_detection(GradWrap(network), data, 2, 3)
    assert jacobian.shape == (2, 3, 5, 4)
    np.testing.assert_allclose(jacobian[1, 2, 0], network.dense.weight.asnumpy()[5], rtol=1e-6)


def test_jacobian_matrix_refuses_bad_arguments(data):
    with pytest.raises(TypeError, match="inputs"):
        util.jacobian_matrix(GradWrap(nn.Dense(4, 3)), data.tolist(), 3)
    with pytest.raises(ValueError, match="num_classes"):
        util.jacobian_matrix(GradWrap(nn.Dense(4, 3)), data, 0)


def test_to_tensor_tuple(data):
    one, two = util.to_tensor_tuple(data), util.to_tensor_tuple((data, ms.Tensor(data)))
    assert len(one) == 1 and len(two) == 2
    assert all(isinstance(item, ms.Tensor) for item in one + two)
    np.testing.assert_array_equal(one[0].asnumpy(), data)


def test_calculate_iou():
    box = np.array([0.0, 0.0, 2.0, 2.0])
    assert util.calculate_iou(box, box) == 1
    assert util.calculate_iou(box, box + 5) == 0
    assert util.calculate_iou(box, np.array([0.0, 1.0, 2.0, 3.0])) == pytest.approx(1 / 3)
    assert util.calculate_iou(np.zeros(4), np.zeros(4)) == 0


def test_calculate_lp_distance():
    original = np.array([[3.0, 4.0]])
    assert util.calculate_lp_distance(original, original) == (0, 0, 0)
    assert util.calculate_lp_distance(original, np.array([[3.0, 3.0]])) == (0.5, 0.2, 0.25)
    assert util.calculate_lp_distance(np.zeros(2), np.ones(2)) == (1, math.inf, math.inf)
    assert util.calculate_lp_distance(np.zeros(2), np.zeros(2)) == (0, 0, 0)
    # bytes must not wrap around
    assert util.calculate_lp_distance(np.array([200], np.uint8), np.array([100], np.uint8)) == (1, 0.5, 0.5)
    with pytest.raises(ValueError, match="compared_image must have the shape"):
        util.calculate_lp_distance(original, np.ones(3))
    with pytest.raises(TypeError, match="original_image"):
        util.calculate_lp_distance([1.0], np.ones(1))


def test_ssim_and_psnr_keep_their_documented_place():
    from mindarmour.utils import image_metrics
    assert util.compute_ssim is image_metrics.compute_ssim
    assert util.compute_psnr is image_metrics.compute_psnr
