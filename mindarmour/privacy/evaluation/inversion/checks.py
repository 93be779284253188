"""Arguments that all inversion attacks check alike."""
from __future__ import annotations

from mindarmour.utils import _validate as check


def check_weights(weights):
    """Three positive numbers."""
    check.instance("loss_weights", weights, (list, tuple))
    if len(weights) != 3:
        raise ValueError(f"loss_weights must have 3 values, for features, variation and energy, but has "
                         f"{len(weights)}.")
    return tuple(check.real(f"loss_weights[{i}]", weight, low=0) for i, weight in enumerate(weights))


def check_bound(bound):
    """A pair of numbers, the lower first."""
    check.instance("input_bound", bound, (list, tuple))
    if len(bound) != 2:
        raise ValueError(f"input_bound must be a pair (low, high), but has {len(bound)} values.")
    low, high = (check.real(f"input_bound[{i}]", value) for i, value in enumerate(bound))
    if not low < high:
        raise ValueError(f"input_bound must be (low, high) with low < high, but got {tuple(bound)!r}: no image "
                         f"could be told from another.")
    return low, high


def check_input_shape(shape):
    """A tuple of three positive ints: the shape of one image."""
    check.instance("input_shape", shape, tuple)
    if len(shape) != 3:
        raise ValueError(f"input_shape must be the shape of one image with 3 values, channels first, but has "
                         f"{len(shape)}.")
    return tuple(check.integer(f"input_shape[{i}]", side, low=1) for i, side in enumerate(shape))
