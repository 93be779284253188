"""Correlated noise in NumPy and SciPy: strategies, what they cost and what they gain."""
from mindarmour.privacy.accounting.strategies.families import Buffered, InverseToeplitz, Strategy, Toeplitz
from mindarmour.privacy.accounting.strategies.optimal import (
    decaying,
    inverse_square_root,
    optimal_buffered,
    optimal_inverse,
    optimal_toeplitz,
    square_root,
    total_error,
)
from mindarmour.privacy.accounting.strategies.sensitivity import matrix_sensitivity

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
