"""Filters of SciPy, imported when they are first used: the package alone takes a second to load."""
from __future__ import annotations

from typing import Any

import numpy as np


def lfilter(numerator: Any, denominator: Any, values: Any) -> np.ndarray:
    """`scipy.signal.lfilter`."""
    from scipy import signal
    return np.asarray(signal.lfilter(numerator, denominator, values))


def fftconvolve(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """`scipy.signal.fftconvolve`."""
    from scipy import signal
    return signal.fftconvolve(first, second)
