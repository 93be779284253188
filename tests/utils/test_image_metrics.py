"""SSIM and PSNR against scikit-image, and the inputs they refuse."""
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from mindarmour.utils.image_metrics import compute_psnr, compute_ssim


def pair(seed, shape, span=1.0, low=0.0):
    rng = np.random.default_rng(seed)
    a = low + span * rng.random(shape)
    return a, np.clip(a + 0.2 * span * rng.standard_normal(shape), low, low + span)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 999), height=st.integers(7, 40), width=st.integers(7, 40),
       span=st.sampled_from([0.5, 1.0, 2.0, 3.2457, 255.0]), low=st.sampled_from([0.0, -0.4242, -1.0]))
def test_equals_scikit_image_on_grey_images_of_any_range(seed, height, width, span, low):
    a, b = pair(seed, (height, width), span, low)
    assert compute_ssim(a, b, span) == pytest.approx(structural_similarity(a, b, data_range=span), abs=1e-6)
    assert compute_psnr(a, b, span) == pytest.approx(peak_signal_noise_ratio(a, b, data_range=span), abs=1e-6)


@pytest.mark.parametrize("shape, axis", [((3, 20, 31), 0), ((20, 31, 3), 2), ((1, 20, 31), 0),
                                         ((20, 31, 1), -1), ((5, 16, 12), 0)])
def test_equals_scikit_image_on_colour_images(shape, axis):
    a, b = pair(3, shape)
    expected = structural_similarity(a, b, data_range=1.0, channel_axis=axis)
    assert compute_ssim(a, b, 1.0, channel_axis=axis) == pytest.approx(expected, abs=1e-6)


def test_the_outer_axis_of_one_or_three_is_the_channel_axis():
    a, b = pair(3, (3, 20, 31))
    assert compute_ssim(a, b) == compute_ssim(a, b, channel_axis=0)
    a, b = np.moveaxis(a, 0, 2), np.moveaxis(b, 0, 2)
    assert compute_ssim(a, b) == compute_ssim(a, b, channel_axis=2)


@pytest.mark.parametrize("make, span", [(lambda a: (a * 255).astype(np.uint8), 255), (lambda a: a, 1.0),
                                        (lambda a: 2 * a - 1, 2.0), (lambda a: a.astype(np.float32), 1.0)])
def test_a_clear_range_is_inferred(make, span):
    a, b = (make(image) for image in pair(1, (16, 16)))
    assert compute_ssim(a, b) == compute_ssim(a, b, span)
    assert compute_psnr(a, b) == compute_psnr(a, b, span)


def test_images_in_the_unit_interval_are_not_flattered():
    # a range of 2 where 1 holds inflates SSIM
    grey, noise = np.full((16, 16), 0.5), 0.05 * np.random.default_rng(0).standard_normal((16, 16))
    assert compute_ssim(grey, grey + noise) < compute_ssim(grey, grey + noise, 2.0) - 0.05


def test_equal_images():
    a, _ = pair(0, (9, 9))
    assert compute_ssim(a, a) == pytest.approx(1)
    assert compute_psnr(a, a) == math.inf


@pytest.mark.parametrize("metric", [compute_ssim, compute_psnr])
def test_refuses_what_it_cannot_compare(metric):
    a, b = pair(0, (9, 9))
    with pytest.raises(TypeError, match="a must be"):
        metric(a.tolist(), b)
    with pytest.raises(ValueError, match="one shape"):
        metric(a, b[:8])
    with pytest.raises(ValueError, match="at least one pixel"):
        metric(a[:0], b[:0])
    with pytest.raises(ValueError, match="finite"):
        metric(a, np.where(b > 0.5, np.nan, b), 1.0)
    with pytest.raises(ValueError, match="data_range must be given"):
        metric(3 * a, b)
    for wrong in (0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="data_range"):
            metric(a, b, wrong)
    with pytest.raises(TypeError, match="data_range"):
        metric(a, b, "1")


def test_ssim_refuses_small_and_unclear_shapes():
    with pytest.raises(ValueError, match="sides of at least 7"):
        compute_ssim(*pair(0, (6, 9)))
    with pytest.raises(ValueError, match="channel_axis must be given"):
        compute_ssim(*pair(0, (5, 9, 9)))
    with pytest.raises(ValueError, match="two or three dimensions"):
        compute_ssim(*pair(0, (1, 3, 9, 9)))
