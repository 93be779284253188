"""The plan of an audit: everything that must be fixed before a score is seen. No MindSpore.

Two numbers of guesses serve two purposes. The certified bound wants few sure guesses, the test of the claimed curve
more of them. Choosing either by looking at the scores would turn a confidence of 95 % into as little as 54 %.
"""
from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Optional

import numpy as np
from scipy.optimize import brentq

from mindarmour.privacy.accounting.curves.gaussian import mu_of_gaussian
from mindarmour.privacy.auditing import bounds
from mindarmour.utils import _validate

FEWEST_GUESSES = 10
POWER = 0.8  # probability with which an error of the stated size is found
_SURE = 0.8416212335729143  # its quantile of the normal distribution
_LARGEST_FACTOR = 100.0
_CANDIDATES = 28


@dataclass(frozen=True)
class AuditPlan:
    """What was fixed before scoring.

    Args:
        canaries (int): Records with a fair coin, m.
        delta (float): Of the bound, in [0, 1).
        confidence (float): Of the bound and of the verdict, in (0, 1).
        bound_guesses (int): Guesses of the certified bound.
        test_guesses (int): Guesses of the test of the claimed curve.
        planned_epsilon (float, optional): The claim that the plan was made for; None if nothing was claimed.
        expected (float, optional): Certified bound to expect of the best attack if the claim is tight.
        power (float, optional): Factor of too little noise that the curve test finds four times in five, under the
            best attack; None if it finds none below 100.

    Examples:
        >>> plan = AuditPlan.for_claim(canaries=1000, epsilon=4.0, delta=1e-5)
        >>> plan.bound_guesses, round(plan.ceiling, 2), round(plan.expected, 1)
        (108, 3.57, 1.5)
    """

    canaries: int
    delta: float
    confidence: float
    bound_guesses: int
    test_guesses: int
    planned_epsilon: Optional[float] = None
    expected: Optional[float] = None
    power: Optional[float] = None

    def __post_init__(self) -> None:
        _validate.integer("canaries", self.canaries, low=1)
        _validate.real("delta", self.delta, low=0, high=1, closed="low")
        _validate.real("confidence", self.confidence, low=0, high=1)
        _validate.integer("bound_guesses", self.bound_guesses, low=1, high=self.canaries)
        _validate.integer("test_guesses", self.test_guesses, low=1, high=self.canaries)

    @classmethod
    def for_claim(cls, canaries: int, epsilon: float, delta: float, confidence: float = 0.95) -> AuditPlan:
        """The plan that serves a claim best, chosen from the claim alone.

        Args:
            canaries (int): Records with a fair coin, at least 2.
            epsilon (float): Claimed, possibly infinite: then the plan is the one for epsilon 10.
            delta (float): In (0, 1).
            confidence (float): In (0, 1).
        """
        canaries = _validate.integer("canaries", canaries, low=2)
        finite = math.isfinite(epsilon)
        mu = mu_of_gaussian(epsilon if finite else 10.0, delta)
        bound_guesses, expected = _best_for_bound(canaries, mu, delta, confidence)
        test_guesses, power = _best_for_test(canaries, mu, 1 - confidence)
        return cls(canaries, delta, confidence, bound_guesses, test_guesses, float(epsilon) if finite else None,
                   expected if finite else None, power if finite else None)

    @classmethod
    def fixed(cls, canaries: int, guesses: int, delta: float, confidence: float = 0.95) -> AuditPlan:
        """A plan with one number of guesses, chosen by the caller without looking at the scores."""
        return cls(canaries, delta, confidence, guesses, guesses)

    @property
    def alpha(self) -> float:
        """Probability of a wrong 'contradicted'."""
        return 1 - self.confidence

    @property
    def ceiling(self) -> float:
        """Largest bound that `bound_guesses` can prove."""
        return bounds.one_run_ceiling(self.bound_guesses, self.confidence)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the plan cannot do, in words."""
        found = []
        if self.bound_guesses < FEWEST_GUESSES or self.test_guesses < FEWEST_GUESSES:
            found.append(f"fewer than {FEWEST_GUESSES} guesses say next to nothing")
        if self.planned_epsilon is not None and self.ceiling < self.planned_epsilon:
            found.append(f"{self.bound_guesses} guesses can prove at most epsilon {self.ceiling:.3g}, less than the "
                         f"{self.planned_epsilon:.3g} claimed: only the test of the curve can contradict the claim")
        if self.planned_epsilon is not None and self.power is None:
            found.append("no lack of noise would be found four times in five: take more canaries")
        return tuple(found)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, the ceiling included."""
        return {**asdict(self), "ceiling": self.ceiling}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> AuditPlan:
        """The plan that `to_dict` wrote."""
        return cls(**{name: value for name, value in data.items() if name != "ceiling"})


def _candidates(canaries: int) -> list[int]:
    """Even numbers of guesses, equally many 'in' and 'out', on a logarithmic grid."""
    first = min(FEWEST_GUESSES, canaries)
    grid = np.geomspace(first, canaries, _CANDIDATES)
    return sorted({max(2, 2 * round(float(r) / 2)) for r in grid if 2 * round(float(r) / 2) <= canaries} or {canaries})


def _best_for_bound(canaries: int, mu: float, delta: float, confidence: float) -> tuple[int, float]:
    """(guesses, bound) that the best attack on a tight claim achieves with its expected number of right guesses."""
    values = {}
    for guesses in _candidates(canaries):
        right = math.floor(guesses * bounds.accuracy_of_top(mu, guesses / canaries))
        values[guesses] = float(bounds.one_run_epsilon(canaries, guesses, right, delta, confidence))
    best = max(values, key=lambda guesses: (values[guesses], -guesses))
    return best, values[best]


def _best_for_test(canaries: int, mu: float, alpha: float) -> tuple[int, Optional[float]]:
    """(guesses, factor): the test that finds the smallest lack of noise, and how small it is."""
    curve, best, smallest = bounds.GaussianCurve(mu), min(FEWEST_GUESSES, canaries), math.inf
    for guesses in _candidates(canaries):
        critical = bounds.fewest_right(canaries, guesses, curve, alpha)
        if critical is None:
            continue
        factor = _factor_for(canaries, guesses, critical, mu)
        if factor < smallest:
            best, smallest = guesses, factor
    return best, smallest if math.isfinite(smallest) else None


def _factor_for(canaries: int, guesses: int, critical: int, mu: float) -> float:
    """Factor on mu at which `critical` right guesses are reached with probability `POWER`, infinity if above 100."""
    def margin(factor):
        accuracy = bounds.accuracy_of_top(factor * mu, guesses / canaries)
        return guesses * accuracy - _SURE * math.sqrt(guesses * accuracy * (1 - accuracy)) - critical + 0.5
    if margin(_LARGEST_FACTOR) < 0:
        return math.inf
    return brentq(margin, 1.0, _LARGEST_FACTOR, xtol=1e-4) if margin(1.0) < 0 else 1.0
