"""Refuse bad arguments early with one sentence: the argument, what came, what must hold.

Each function returns the checked value. Booleans are never numbers here, NaN is never in a range.
"""
from __future__ import annotations

import math
import numbers
import sys
from collections.abc import Collection
from typing import Any, NoReturn, Optional, Union, cast

_LARGEST = int(sys.float_info.max)


def _refuse(name, value, requirement, error) -> NoReturn:
    raise error(f"{name} must be {requirement}, but got {value!r} ({type(value).__name__}).")


def real(name: str, value: Any, *, low: float = -math.inf, high: float = math.inf, closed: str = "neither",
         strict_float: bool = False) -> float:
    """A finite number between `low` and `high`.

    Args:
        closed (str): Which ends belong to the range: 'neither', 'low', 'high' or 'both'.
        strict_float (bool): Refuse an int, where the documented signature says float.
    """
    kind = float if strict_float else numbers.Real
    if isinstance(value, bool) or not isinstance(value, kind):
        _refuse(name, value, "a float" if strict_float else "a number", TypeError)
    if isinstance(value, numbers.Integral):
        value = int(value)  # NumPy integers overflow in comparisons
    is_exact, value = isinstance(value, (int, numbers.Rational)), cast(float, value)
    if is_exact and not -_LARGEST <= value <= _LARGEST:
        _refuse(name, "a number beyond the range of float", "a finite number", ValueError)
    above = value > low or (closed in ("low", "both") and value == low)
    below = value < high or (closed in ("high", "both") and value == high)
    if not (math.isfinite(value) and above and below):
        left = "[" if closed in ("low", "both") else "("
        right = "]" if closed in ("high", "both") else ")"
        _refuse(name, value, f"a finite number in {left}{low}, {high}{right}", ValueError)
    return float(value)


def integer(name: str, value: Any, *, low: Optional[int] = None, high: Optional[int] = None,
            bool_error: type[Exception] = TypeError) -> int:
    """A whole number in [low, high]."""
    if isinstance(value, bool):
        _refuse(name, value, "an int", bool_error)
    if not isinstance(value, numbers.Integral):
        _refuse(name, value, "an int", TypeError)
    value = int(value)
    if (low is not None and value < low) or (high is not None and value > high):
        if low is not None and high is not None:
            requirement = f"an int from {low} to {high}"
        else:
            requirement = f"an int of at least {low}" if low is not None else f"an int of at most {high}"
        _refuse(name, value, requirement, ValueError)
    return int(value)


def choice(name: str, value: Any, allowed: Collection, error: type[Exception] = ValueError) -> Any:
    """One of a few names."""
    for item in allowed:
        texts = isinstance(value, str) and isinstance(item, str)  # a member of a Word is met by its plain string
        if value is item or ((texts or isinstance(value, type(item))) and value == item):
            return item
    _refuse(name, value, f"one of {', '.join(map(repr, allowed))}", error)
    return None


def instance(name: str, value: Any, kinds: Union[type, tuple], description: Optional[str] = None) -> Any:
    """An instance of `kinds` (a class or a tuple of classes)."""
    if not isinstance(value, kinds):
        names = description or " or ".join(k.__name__ for k in (kinds if isinstance(kinds, tuple) else (kinds,)))
        _refuse(name, value, f"of type {names}", TypeError)
    return value


def boolean(name: str, value: Any) -> bool:
    """True or False, nothing that merely behaves like it."""
    return instance(name, value, bool)
