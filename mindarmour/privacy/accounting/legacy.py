"""The accountants of the first DP-SGD system: the amortized bound and the moments accountant.

They are kept to read old results beside sound ones. For a statement of your own use `privacy_spent`.

References:
    Abadi et al. 2016, "Deep learning with differential privacy", section 2.2 and the accompanying code.
    Mironov, Talwar, Zhang 2019, "Renyi differential privacy of the sampled Gaussian mechanism" (why the moment that
    the code computes is the larger of the two).
"""
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, Optional

import numpy as np

from mindarmour.privacy.accounting.accountant import ESTIMATE, GUARANTEE, PrivacySpent
from mindarmour.privacy.accounting.curves.rdp import delta_from_rdp, epsilon_from_rdp, rdp_sampled_gaussian
from mindarmour.privacy.accounting.events import ADD_OR_REMOVE, POISSON
from mindarmour.utils import _validate

_HEURISTIC = ("squares of the steps' epsilons add up, which no theorem states; the per-step epsilon of the classic "
              "Gaussian formula needs epsilon <= 1")


class EpsDelta(NamedTuple):
    """Budget of one step.

    Args:
        eps (float): Epsilon, above 0.
        delta (float): Delta in (0, 1).
    """

    eps: float
    delta: float


class AmortizedAccountant:
    """Adds up (eps, delta) steps that each saw a random part of the data.

    A step with (eps, delta) on a part q of the data counts as eps' = ln(1 + q (e^eps - 1)) and delta' = q delta;
    together they cost sqrt(sum of eps'^2) and the sum of delta'.

    Args:
        total_examples (int): Records in the data set, at least 1.

    Guarantee:
        None: the square root is a rule of thumb. At eps well below 1 the result is far above what was spent, at
        eps above 1 it can be below: four steps on all data at eps = 9.69 count as 19.4, and cost 23.1.

    Raises:
        TypeError: An argument of the wrong type.
        ValueError: A number outside its range.

    References:
        Abadi et al. 2016, the "amortized" accountant of their code.

    Examples:
        >>> from mindarmour.privacy.accounting.legacy import AmortizedAccountant, EpsDelta
        >>> accountant = AmortizedAccountant(total_examples=60000)
        >>> for _ in range(10000):
        ...     accountant.accumulate_privacy_spending(EpsDelta(1.0, 1e-7), None, num_examples=600)
        >>> spent = accountant.get_privacy_spent()
        >>> round(spent.epsilon, 3), round(spent.delta, 7)
        (1.704, 1e-05)
    """

    def __init__(self, total_examples: int) -> None:
        self.total_examples = _validate.integer("total_examples", total_examples, low=1)
        self._squares = self._delta = 0.0

    def accumulate_privacy_spending(self, eps_delta: Optional[Sequence[float]], sigma: float,
                                    num_examples: int) -> None:
        """Count one step.

        Args:
            eps_delta (EpsDelta): Budget of the step, or any pair.
            sigma (float): Noise multiplier; not used here.
            num_examples (int): Expected examples of the step, at most total_examples.
        """
        eps, delta = _pair(eps_delta)
        rate = _rate(num_examples, self.total_examples)
        # ln(1 + q (e^eps - 1)), where e^eps may overflow
        small = eps < 1
        amplified = math.log1p(rate * math.expm1(eps)) if small else eps + math.log(rate + (1 - rate) * math.exp(-eps))
        self._squares += amplified ** 2
        self._delta += rate * delta

    def get_privacy_spent(self, target_eps: Optional[float] = None,
                          target_delta: Optional[float] = None) -> PrivacySpent:
        """What the rule of thumb says, marked as an estimate.

        Args:
            target_eps (float, optional): State the delta that belongs to this epsilon.
            target_delta (float, optional): State the epsilon that belongs to this delta. With neither, the one pair
                that the rule gives; it trades nothing, so below that pair the other number is infinity or 1.

        Returns:
            PrivacySpent.
        """
        epsilon, delta = math.sqrt(self._squares), min(1.0, self._delta)
        target = _target(target_eps, target_delta)
        if target is not None and target_delta is None:
            epsilon, delta = target, delta if target >= epsilon else 1.0
        elif target is not None:
            epsilon, delta = epsilon if target >= delta else math.inf, target
        return PrivacySpent(epsilon, delta, "amortized", POISSON, ADD_OR_REMOVE, ESTIMATE, _HEURISTIC)


class GaussianMomentsAccountant:
    """The moments accountant for Gaussian noise on randomly drawn batches.

    The log-moment of order k is k times the Renyi divergence of order k + 1; it adds up over the steps, and
    epsilon = min over k of (moment - ln delta) / k.

    Args:
        total_examples (int): Records in the data set, at least 1.
        moment_orders (int): Highest order k, at least 1.

    Guarantee:
        An upper bound if batches are Poisson samples and `sigma` is the noise's standard deviation over the bound
        of one record's contribution; neighbours differ by one record added or removed. `privacy_spent` states at
        most as much, by more orders and a tighter conversion.

    Raises:
        TypeError: An argument of the wrong type.
        ValueError: A number outside its range, or both or none of the targets.

    References:
        Abadi et al. 2016, theorem 2 and section 3.2.

    Examples:
        >>> from mindarmour.privacy.accounting.legacy import GaussianMomentsAccountant
        >>> accountant = GaussianMomentsAccountant(total_examples=60000)
        >>> for _ in range(10000):
        ...     accountant.accumulate_privacy_spending(None, 4.0, num_examples=600)
        >>> round(accountant.get_privacy_spent(target_delta=1e-5).epsilon, 2)
        1.26
    """

    def __init__(self, total_examples: int, moment_orders: int = 32) -> None:
        self.total_examples = _validate.integer("total_examples", total_examples, low=1)
        self._orders = np.arange(1, _validate.integer("moment_orders", moment_orders, low=1) + 1) + 1.0
        self._rdp = np.zeros(len(self._orders))
        self._curves = {}

    def accumulate_privacy_spending(self, eps_delta: Optional[Sequence[float]], sigma: float,
                                    num_examples: int) -> None:
        """Count one step.

        Args:
            eps_delta (EpsDelta): Not used here; may be None.
            sigma (float): Noise multiplier of the step, above 0.
            num_examples (int): Expected examples of the step, at most total_examples.
        """
        step = _rate(num_examples, self.total_examples), _validate.real("sigma", sigma, low=0)
        if step not in self._curves:
            self._curves[step] = rdp_sampled_gaussian(*step, self._orders)
        self._rdp += self._curves[step]

    def get_privacy_spent(self, target_eps: Optional[float] = None,
                          target_delta: Optional[float] = None) -> PrivacySpent:
        """Epsilon at `target_delta`, or delta at `target_eps`; give exactly one.

        Returns:
            PrivacySpent.
        """
        target = _target(target_eps, target_delta)
        if target is None:
            raise ValueError("Give target_eps or target_delta: moments bound a curve of pairs, not one pair.")
        if target_eps is None:
            epsilon, delta = epsilon_from_rdp(self._rdp, self._orders, target, "classic"), target
        else:
            epsilon, delta = target, delta_from_rdp(self._rdp, self._orders, target, "classic")
        return PrivacySpent(epsilon, delta, "moments", POISSON, ADD_OR_REMOVE, GUARANTEE)


def _pair(eps_delta):
    try:
        eps, delta = eps_delta
    except (TypeError, ValueError):
        raise TypeError(f"eps_delta must be a pair (eps, delta), but got {eps_delta!r}.") from None
    return _validate.real("eps", eps, low=0), _validate.real("delta", delta, low=0, high=1)


def _rate(num_examples, total):
    return _validate.real("num_examples", num_examples, low=0, high=total, closed="high") / total


def _target(target_eps, target_delta):
    """The one target that was given, checked; None if none was."""
    if target_eps is not None and target_delta is not None:
        raise ValueError(f"Give target_eps or target_delta, not both, but got {target_eps!r} and {target_delta!r}.")
    if target_eps is not None:
        return _validate.real("target_eps", target_eps, low=0, closed="low")
    return None if target_delta is None else _validate.real("target_delta", target_delta, low=0, high=1)
