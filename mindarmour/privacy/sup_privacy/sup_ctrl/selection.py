"""Which weights of one layer are suppressed, and what happens to the others. NumPy only."""
from __future__ import annotations

import numpy as np

SMALL_LAYER = 10000  # up to this size the floor, the cap and the noise apply
WEIGHT_FLOOR = 0.005
NOISE_THRESHOLD = 0.5
NOISE_VOLUME = 0.1
UPPER_BOUND_MIN = 0.1
ZERO_THRESHOLD = 1e-7  # what the calc_actual_* methods count as zero
GIVE_UP_BELOW = 0.02  # the first layer is left alone when no weight of it is larger


def suppressed_count(size: int, sparsity: float, min_num: int) -> int:
    """How many of `size` weights a fraction `sparsity` is, leaving at least `min_num` (-1: no floor)."""
    wanted = int(size * sparsity + 1e-6)  # 0.29 * 100 is 28.999999999999996
    return min(wanted, size - max(min_num, 0))


def grow_suppression(weights: np.ndarray, kept: np.ndarray, count: int) -> np.ndarray:
    """Suppress the weights smallest in magnitude until `count` are suppressed; what was suppressed stays so.

    Args:
        weights (ndarray): Flat weights, [N].
        kept (ndarray): bool [N], False where a weight is suppressed already.
        count (int): Weights to be suppressed in all.

    Returns:
        ndarray, bool [N], the new `kept`. Of equal magnitudes those that come first are suppressed.
    """
    if count <= np.count_nonzero(~kept):
        return kept
    # a NaN counts as the largest: nothing compares with it, and the masks would be cleared
    rank = np.where(kept, np.nan_to_num(np.abs(weights), nan=np.inf, posinf=np.inf), -1.0)
    threshold = np.partition(rank, count - 1)[count - 1]
    below = rank < threshold
    ties = np.flatnonzero(rank == threshold)[:count - np.count_nonzero(below)]
    below[ties] = True
    return ~below


def adjust_kept(weights: np.ndarray, kept: np.ndarray, *, is_add_noise: bool, is_lower_clip: bool,
                upper_bound: float, rng: np.random.Generator) -> np.ndarray:
    """What a small layer undergoes besides: noise on its large weights, a floor, a cap.

    Args:
        weights (ndarray): Flat weights, [N].
        kept (ndarray): bool [N], the weights that are not suppressed; only these change.
        is_add_noise (bool): Add uniform noise from [-0.1, 0.1] to weights above 0.5 in magnitude.
        is_lower_clip (bool): Lift magnitudes up to 0.005 to 0.005.
        upper_bound (float): Cut magnitudes at this value, or at 0.1 if it is smaller.
        rng (Generator): Source of the noise.

    Returns:
        ndarray, the new weights; the suppressed ones are as they came.
    """
    changed = weights.copy()
    if is_add_noise:
        large = np.abs(changed) > NOISE_THRESHOLD
        changed[large] += rng.uniform(-NOISE_VOLUME, NOISE_VOLUME, np.count_nonzero(large))
    if is_lower_clip:
        low = np.abs(changed) <= WEIGHT_FLOOR
        changed[low] = np.copysign(WEIGHT_FLOOR, changed[low])
    bound = max(upper_bound, UPPER_BOUND_MIN)
    return np.where(kept, np.clip(changed, -bound, bound), weights)
