"""Each layer's exact forms agree with each other, and the cheapest is chosen on both sides of the crossover."""
import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn

from mindarmour.privacy.diff_privacy.grads.layers import conv, embedding, products

UNITS = 3
RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def eager():
    ms.set_context(mode=ms.PYNATIVE_MODE)


def tensor(*shape):
    return Tensor(RNG.normal(size=shape).astype(np.float32))


def evaluate(gradient, *taps):
    """(squares, weighted sum) of a gradient whose last unit is left out."""
    held = gradient.hold(*taps)
    factor = Tensor(np.array([0.5, 2.0, 0.0], np.float32))
    return gradient.squares(held).asnumpy(), gradient.total(held, factor).asnumpy()


def assert_same(found):
    first, *others = found
    for other in others:
        np.testing.assert_allclose(other[0], first[0], rtol=2e-5)
        np.testing.assert_allclose(other[1], first[1], rtol=1e-4, atol=1e-4 * np.abs(first[1]).max())


@pytest.mark.parametrize("positions", [1, 2, 9])
def test_forms_of_a_matrix_agree(positions):
    a, b = tensor(UNITS * positions, 5), tensor(UNITS * positions, 4)
    forms = ["gram", "full"] + (["outer"] if positions == 1 else [])
    assert_same([evaluate(products.product_gradient(UNITS, positions, 5, 4, (4, 5), form), a, b) for form in forms])
    expected = np.einsum("upo,upi->uoi", b.asnumpy().reshape(UNITS, positions, 4),
                         a.asnumpy().reshape(UNITS, positions, 5))
    squares, total = evaluate(products.product_gradient(UNITS, positions, 5, 4, (4, 5)), a, b)
    np.testing.assert_allclose(squares, (expected ** 2).sum((1, 2)), rtol=2e-5)
    np.testing.assert_allclose(total, 0.5 * expected[0] + 2 * expected[1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("positions, inputs, outputs, form", [
    (1, 100, 100, "outer"), (4, 512, 512, "gram"), (1000, 16, 16, "full"), (64, 1024, 1024, "gram"),
    (64, 32, 32, "full")])
def test_cheapest_form_of_a_matrix(positions, inputs, outputs, form):
    assert products.cheapest_form(positions, inputs, outputs) == form


@pytest.mark.parametrize("rows", [UNITS, 2 * UNITS])
def test_forms_of_a_convolution_agree(rows):
    layer = nn.Conv2d(3, 4, 3, stride=2, pad_mode="pad", padding=1)
    image = tensor(rows, 3, 7, 6)
    gradient = tensor(rows, 4, 4, 3)
    assert_same([evaluate(conv.weight_gradient(UNITS, layer.weight.shape, layer.conv2d, image.shape, gradient.shape,
                                               form), image, gradient) for form in ("grouped", "patches")])


@pytest.mark.parametrize("positions, patch, outputs, group, device, form", [
    (784, 25, 6, 1, "CPU", "grouped"), (100, 150, 16, 1, "CPU", "grouped"), (4, 4608, 512, 1, "CPU", "patches"),
    (4, 4608, 512, 2, "CPU", "grouped"), (784, 25, 6, 1, "Ascend", "patches")])
def test_cheapest_form_of_a_convolution(positions, patch, outputs, group, device, form):
    assert conv.cheapest_form(positions, patch, outputs, group, device) == form


def test_forms_of_a_table_agree():
    indices = Tensor(RNG.integers(0, 6, (UNITS * 2, 5)).astype(np.float32))
    gradient = tensor(UNITS * 2, 5, 4)
    assert_same([evaluate(embedding.table_gradient(UNITS, (6, 4), 10, form), gradient, indices)
                 for form in ("pairs", "full")])


@pytest.mark.parametrize("positions, vocabulary, size, form", [(64, 30000, 128, "pairs"), (1000, 10, 16, "full")])
def test_cheapest_form_of_a_table(positions, vocabulary, size, form):
    assert embedding.cheapest_form(positions, vocabulary, size) == form


def test_units_of_factor_zero_add_nothing_even_if_not_finite():
    a, b = tensor(UNITS, 5).asnumpy(), tensor(UNITS, 4)
    clean = a.copy()
    a[2] = np.nan
    for form in ("outer", "gram", "full"):
        gradient = products.product_gradient(UNITS, 1, 5, 4, (4, 5), form)
        dirty_squares, total = evaluate(gradient, Tensor(a), b)
        np.testing.assert_array_equal(total, evaluate(gradient, Tensor(clean), b)[1])
        assert not np.isfinite(dirty_squares[2])
