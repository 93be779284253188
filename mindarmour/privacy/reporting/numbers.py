"""Numbers as the report writes them."""
from __future__ import annotations

import math
from typing import Union

Number = Union[int, float, str]


def as_float(value: Number) -> float:
    """The number; 'inf' is infinite."""
    return float(value)


def short(value: Union[Number, None], digits: int = 3) -> str:
    """A number with few digits.

    Examples:
        >>> short(2.38226), short(1e-05), short("inf"), short(14062), short(None)
        ('2.38', '1e-5', '∞', '14062', '–')
    """
    if value is None:
        return "–"
    if isinstance(value, int):
        return str(value)
    number = as_float(value)
    if math.isinf(number):
        return "∞"
    if number == int(number) and abs(number) < 1e9:
        return str(int(number))
    return f"{number:.{digits}g}".replace("e-0", "e-").replace("e+0", "e")


def percent(rate: Number) -> str:
    r"""A rate as a percentage, without a line break inside.

    Examples:
        >>> percent(0.054).replace("\u00a0", " ")
        '5.4 %'
    """
    return f"{short(100 * as_float(rate))}\u00a0%"
