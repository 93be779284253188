"""Checks that the bounds share."""
from __future__ import annotations

from typing import Callable

from mindarmour.utils import _validate


def check_delta(delta: float) -> float:
    """A delta in [0, 1)."""
    return _validate.real("delta", delta, low=0, high=1, closed="low")


def check_confidence(confidence: float) -> float:
    """A confidence in (0, 1)."""
    return _validate.real("confidence", confidence, low=0, high=1)


def check_guesses(canaries: int, guesses: int, right: int) -> tuple[int, int, int]:
    """(m, r, v) with v <= r <= m."""
    canaries = _validate.integer("canaries", canaries, low=1)
    guesses = _validate.integer("guesses", guesses, low=1, high=canaries)
    return canaries, guesses, _validate.integer("right", right, low=0, high=guesses)


def largest_rejected(rejects: Callable[[float], bool], high: float) -> float:
    """Largest value that a test rejects, 0 if it does not reject 0. The test rejects all values below one it rejects.

    Args:
        rejects (Callable): Value to whether it is rejected.
        high (float): Where the search starts; doubled, at most 40 times, until it is not rejected.
    """
    if not rejects(0.0):
        return 0.0
    low = 0.0
    for _ in range(40):
        if not rejects(high):
            break
        low, high = high, 2 * high
    for _ in range(100):
        middle = 0.5 * (low + high)
        if middle in (low, high) or high - low <= 1e-10 * high:
            break
        low, high = (middle, high) if rejects(middle) else (low, middle)
    return low

