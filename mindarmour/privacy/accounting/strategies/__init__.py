"""Correlated noise in NumPy and SciPy: strategies, what they cost and what they gain."""
from typing import Any

from mindarmour.privacy.accounting.strategies.families import Buffered, InverseToeplitz, Strategy, Toeplitz
from mindarmour.privacy.accounting.strategies.sensitivity import matrix_sensitivity

# Found when asked for: SciPy's optimisers take a second to load, and accountants never need them.
_OPTIMAL = ("decaying", "inverse_square_root", "optimal_buffered", "optimal_inverse", "optimal_toeplitz", "square_root",
            "total_error")

__all__ = [
    "Buffered",
    "InverseToeplitz",
    "Strategy",
    "Toeplitz",
    "decaying",
    "inverse_square_root",
    "matrix_sensitivity",
    "optimal_buffered",
    "optimal_inverse",
    "optimal_toeplitz",
    "square_root",
    "total_error",
]


def __getattr__(name: str) -> Any:
    if name not in _OPTIMAL:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from mindarmour.privacy.accounting.strategies import optimal
    return getattr(optimal, name)
