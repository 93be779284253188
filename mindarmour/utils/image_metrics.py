"""How alike two images are: SSIM and PSNR with an explicit data range. NumPy and SciPy only.

References:
    Wang, Bovik, Sheikh, Simoncelli (2004), "Image quality assessment: from error visibility to structural
    similarity", equation 13.
"""
from __future__ import annotations

import math
from typing import Optional

import numpy as np
from scipy.ndimage import uniform_filter

from mindarmour.utils import _validate as check

WINDOW = 7
K1, K2 = 0.01, 0.03


def _pair(a, b):
    """Both images as float64 arrays of one shape, finite."""
    a, b = check.instance("a", a, np.ndarray), check.instance("b", b, np.ndarray)
    if a.shape != b.shape:
        raise ValueError(f"a and b must have one shape, but got {a.shape} and {b.shape}.")
    if a.size == 0:
        raise ValueError(f"a and b must hold at least one pixel, but have shape {a.shape}.")
    a64, b64 = a.astype(np.float64), b.astype(np.float64)
    if not (np.isfinite(a64).all() and np.isfinite(b64).all()):
        raise ValueError("a and b must be finite, but hold NaN or infinity.")
    return a64, b64


def infer_data_range(a: np.ndarray, b: np.ndarray) -> float:
    """Span of the values two images may take, where their type or their values leave no doubt.

    Integers span their type; floats inside [0, 1] span 1 and floats inside [-1, 1] span 2.

    Raises:
        ValueError: Where neither holds: the range must then be said, it cannot be guessed.
    """
    if np.issubdtype(a.dtype, np.integer) and a.dtype == b.dtype:
        limits = np.iinfo(a.dtype)
        return float(limits.max - limits.min)
    low, high = min(a.min(), b.min()), max(a.max(), b.max())
    if low >= 0 and high <= 1:
        return 1.0
    if low >= -1 and high <= 1:
        return 2.0
    raise ValueError(f"data_range must be given for images with values from {low:.4g} to {high:.4g}: pass "
                     f"the span of the values that images can take, such as 255 for bytes.")


def _range(a, b, data_range):
    if data_range is None:
        return infer_data_range(a, b)
    return check.real("data_range", data_range, low=0)


def _channels_first(image, channel_axis):
    """[C, H, W] of an image of two or three dimensions."""
    if image.ndim == 2:
        return image[None]
    if image.ndim != 3:
        raise ValueError(f"a and b must have two or three dimensions, but have {image.ndim}.")
    if channel_axis is None:
        small = [axis for axis in (0, 2) if image.shape[axis] in (1, 3)]
        if not small:
            raise ValueError(f"channel_axis must be given for images of shape {image.shape}: neither the "
                             f"first nor the last axis has 1 or 3 channels.")
        channel_axis = small[0]
    channel_axis = check.integer("channel_axis", channel_axis, low=-3, high=2)
    return np.moveaxis(image, channel_axis, 0)


def _ssim_channel(a, b, data_range):
    """Mean SSIM of two images [H, W]: uniform 7x7 window, sample covariance, borders left out."""
    sample = WINDOW * WINDOW / (WINDOW * WINDOW - 1)
    mean_a, mean_b = uniform_filter(a, WINDOW), uniform_filter(b, WINDOW)
    var_a = sample * (uniform_filter(a * a, WINDOW) - mean_a * mean_a)
    var_b = sample * (uniform_filter(b * b, WINDOW) - mean_b * mean_b)
    covariance = sample * (uniform_filter(a * b, WINDOW) - mean_a * mean_b)
    c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    numerator = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    denominator = (mean_a ** 2 + mean_b ** 2 + c1) * (var_a + var_b + c2)
    border = WINDOW // 2
    return (numerator / denominator)[border:-border, border:-border].mean()


def compute_ssim(a: np.ndarray, b: np.ndarray, data_range: Optional[float] = None, *,
                 channel_axis: Optional[int] = None) -> float:
    """Structural similarity of two images: 1 for equal images, near 0 for unrelated ones.

    Equal to scikit-image's `structural_similarity` with its default 7x7 window and the same data range; a
    colour image gets the mean over its channels.

    Args:
        a (numpy.ndarray): Image [H, W], [C, H, W] or [H, W, C], each side at least 7.
        b (numpy.ndarray): Image of the same shape.
        data_range (Union[float, None]): Span of the values an image can take: 1 for [0, 1], 255 for bytes.
            None takes it from an integer type, or from floats inside [0, 1] or [-1, 1].
        channel_axis (Union[int, None]): Axis of the channels; None finds an outer axis of length 1 or 3, the
            first axis first.

    Returns:
        float, in [-1, 1].

    Raises:
        TypeError: If an image is not an array.
        ValueError: If the shapes differ, a side is shorter than 7, a value is not finite, or the data range
            is neither given nor clear.

    Examples:
        >>> import numpy as np
        >>> from mindarmour.utils.image_metrics import compute_ssim
        >>> image = np.linspace(0, 1, 64).reshape(8, 8)
        >>> round(compute_ssim(image, image), 6)
        1.0
    """
    a64, b64 = _pair(a, b)
    span = _range(a, b, data_range)
    a64, b64 = _channels_first(a64, channel_axis), _channels_first(b64, channel_axis)
    if min(a64.shape[1:]) < WINDOW:
        raise ValueError(f"a and b must have sides of at least {WINDOW} pixels, but have shape {a.shape}.")
    return float(np.mean([_ssim_channel(x, y, span) for x, y in zip(a64, b64)]))


def compute_psnr(a: np.ndarray, b: np.ndarray, data_range: Optional[float] = None) -> float:
    """Peak signal-to-noise ratio of two images in decibels: larger is closer, infinite for equal images.

    Args:
        a (numpy.ndarray): Image of any shape.
        b (numpy.ndarray): Image of the same shape.
        data_range (Union[float, None]): As for `compute_ssim`.

    Returns:
        float.

    Raises:
        TypeError: If an image is not an array.
        ValueError: If the shapes differ, a value is not finite, or the data range is neither given nor clear.

    Examples:
        >>> import numpy as np
        >>> from mindarmour.utils.image_metrics import compute_psnr
        >>> round(compute_psnr(np.zeros((8, 8)), np.full((8, 8), 0.1)), 6)
        20.0
    """
    a64, b64 = _pair(a, b)
    span = _range(a, b, data_range)
    error = np.mean((a64 - b64) ** 2)
    return math.inf if error == 0 else float(10 * math.log10(span ** 2 / error))
