"""Arguments that all inversion attacks check alike."""
from __future__ import annotations

from typing import Any, Optional

import numpy as np

from mindarmour.privacy.evaluation.checks import checked_labels
from mindarmour.utils import _validate as check


def check_weights(weights: Any) -> tuple[float, ...]:
    """Three positive numbers."""
    check.instance("loss_weights", weights, (list, tuple))
    if len(weights) != 3:
        raise ValueError(f"loss_weights must have 3 values, for features, variation and energy, but has "
                         f"{len(weights)}.")
    return tuple(check.real(f"loss_weights[{i}]", weight, low=0) for i, weight in enumerate(weights))


def check_bound(bound: Any) -> tuple[float, float]:
    """A pair of numbers, the lower first."""
    check.instance("input_bound", bound, (list, tuple))
    if len(bound) != 2:
        raise ValueError(f"input_bound must be a pair (low, high), but has {len(bound)} values.")
    low, high = (check.real(f"input_bound[{i}]", value) for i, value in enumerate(bound))
    if not low < high:
        raise ValueError(f"input_bound must be (low, high) with low < high, but got {tuple(bound)!r}: no image "
                         f"could be told from another.")
    return low, high


def check_input_shape(shape: tuple) -> tuple[int, ...]:
    """A tuple of three positive ints: the shape of one image."""
    check.instance("input_shape", shape, tuple)
    if len(shape) != 3:
        raise ValueError(f"input_shape must be the shape of one image with 3 values, channels first, but has "
                         f"{len(shape)}.")
    return check_sides(shape)


def check_sides(shape: tuple) -> tuple[int, ...]:
    """A tuple of positive ints: the shape of one input."""
    check.instance("input_shape", shape, tuple)
    return tuple(check.integer(f"input_shape[{i}]", side, low=1) for i, side in enumerate(shape))


def check_classes(labels: Any, classes: Optional[int] = None, count: Optional[int] = None) -> np.ndarray:
    """Class numbers int64 [N], given as class numbers of shape [N] or [N, 1]."""
    check.instance("labels", labels, np.ndarray)
    if labels.ndim == 0 or len(labels) == 0 or labels.dtype.kind not in "biu":
        raise ValueError(f"labels must be whole numbers of shape [N], but have shape {labels.shape} and type "
                         f"{labels.dtype}.")
    if count is not None and len(labels) != count:
        raise ValueError(f"labels must have one row for each of the {count} images, but have shape {labels.shape}.")
    return checked_labels(labels, len(labels), classes)


def check_images(name: str, images: Any) -> np.ndarray:
    """Finite images float64 [N, C, H, W] with sides of at least 7, which SSIM needs."""
    check.instance(name, images, np.ndarray)
    if images.ndim != 4 or len(images) == 0 or min(images.shape[2:]) < 7:
        raise ValueError(f"{name} must have shape [N, C, H, W] with N at least 1 and sides of at least 7, but has "
                         f"{images.shape}.")
    if not np.isfinite(images).all():
        raise ValueError(f"{name} must be finite, but holds NaN or infinity.")
    return images.astype(np.float64)
