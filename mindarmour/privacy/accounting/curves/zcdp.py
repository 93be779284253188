"""Zero-concentrated differential privacy: rho adds up, and sampling does not amplify it.

Under a partition of the data a record takes part once in each pass, so its rho grows with its *participations*,
not with the steps of the run (parallel composition inside a pass).

References:
    Bun, Steinke 2016, "Concentrated differential privacy", proposition 1.3 (classic conversion).
    Canonne, Kamath, Steinke 2020, "The discrete Gaussian for differential privacy", corollary 13 (tight).
"""
from __future__ import annotations

import math

import numpy as np

from mindarmour.privacy.accounting.curves.rdp import CONVERSIONS, check_delta
from mindarmour.utils import _validate

# order - 1, wide enough for rho from 1e-12 to 1e12
_EXCESS = np.logspace(-8, 9, 2001)


def rho_of_gaussian(noise_multiplier: float, participations: float = 1) -> float:
    """Rho of Gaussian mechanisms in which one record takes part `participations` times.

    Args:
        noise_multiplier (float): Standard deviation divided by sensitivity; 0 gives an infinite rho.
        participations (float): How many of the steps use the record.
    """
    multiplier = _validate.real("noise_multiplier", noise_multiplier, low=0, closed="low")
    participations = _validate.real("participations", participations, low=0, closed="low")
    if participations == 0:
        return 0.0
    return participations / (2 * multiplier ** 2) if multiplier ** 2 > 0 else math.inf


def epsilon_from_zcdp(rho: float, delta: float, conversion: str = "improved") -> float:
    """Epsilon of a rho-zCDP mechanism at `delta`.

    Args:
        rho (float): At least 0, possibly infinite.
        delta (float): In (0, 1).
        conversion (str): 'improved', the minimum over orders of the RDP conversion, or 'classic',
            rho + 2 sqrt(rho ln(1 / delta)).

    Examples:
        >>> from mindarmour.privacy.accounting.curves.zcdp import epsilon_from_zcdp
        >>> round(epsilon_from_zcdp(0.5, 1e-5, conversion="classic"), 6)
        5.298526
    """
    rho = _rho(rho)
    delta = check_delta(delta)
    _validate.choice("conversion", conversion, CONVERSIONS)
    if rho == 0 or math.isinf(rho):
        return rho
    classic = rho + 2 * math.sqrt(-rho * math.log(delta))
    if conversion == "classic":
        return classic
    # refine around the order of the classic conversion, where the minimum is close by
    excess = np.concatenate([_EXCESS, math.sqrt(-math.log(delta) / rho) * np.linspace(0.5, 2.0, 2001)])
    order = 1 + excess
    with np.errstate(over="ignore"):
        values = rho * order + np.log(excess / order) - (math.log(delta) + np.log(order)) / excess
    return max(0.0, min(classic, float(values.min())))


def delta_from_zcdp(rho: float, epsilon: float, conversion: str = "improved") -> float:
    """Delta of a rho-zCDP mechanism at `epsilon`; arguments as in `epsilon_from_zcdp`."""
    rho = _rho(rho)
    epsilon = _validate.real("epsilon", epsilon, low=0, closed="low")
    _validate.choice("conversion", conversion, CONVERSIONS)
    if rho == 0 or math.isinf(rho):
        return 0.0 if rho == 0 else 1.0
    if conversion == "classic":
        return math.exp(-max(0.0, epsilon - rho) ** 2 / (4 * rho))
    excess = np.concatenate([_EXCESS, max(1e-8, (epsilon - rho) / (2 * rho)) * np.linspace(0.5, 2.0, 2001)])
    order = 1 + excess
    with np.errstate(over="ignore"):
        exponents = excess * (rho * order - epsilon + np.log(excess / order)) - np.log(order)
    return float(np.exp(min(0.0, exponents.min())))


def _rho(rho):
    if isinstance(rho, float) and math.isinf(rho) and rho > 0:
        return rho
    return _validate.real("rho", rho, low=0, closed="low")
