"""From scores and coins to a result: order, guesses, bound, test of the claimed curve. No MindSpore."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

import numpy as np
from scipy.stats import binom, mannwhitneyu

from mindarmour.privacy.auditing import bounds
from mindarmour.privacy.auditing.claim import Claim
from mindarmour.privacy.auditing.plan import AuditPlan
from mindarmour.privacy.auditing.result import AuditResult, Check

_UNFAIR = 1e-9
_ODD_AUC = 1e-4


@dataclass(frozen=True)
class CanaryScores:
    """Scores of canaries, beside their coins.

    Args:
        scores (numpy.ndarray): One number per canary [m], larger means "more likely in"; computed without the coins.
        is_in (numpy.ndarray): The coins [m], bool.
        keys (numpy.ndarray, optional): Random numbers [m], stored before training, that break ties; None takes a
            fixed shuffle of the positions.

    Raises:
        ValueError: Scores that are NaN, lengths that differ, coins that are no fair ones.
    """

    scores: np.ndarray
    is_in: np.ndarray
    keys: Optional[np.ndarray] = None

    def __post_init__(self) -> None:
        scores = np.asarray(self.scores)
        if scores.dtype.kind not in "biuf" or scores.ndim != 1 or len(scores) < 2:
            raise ValueError(f"scores must be a vector of at least two numbers, but got shape {scores.shape} and "
                             f"dtype {scores.dtype}.")
        scores = scores.astype(np.float64)
        if np.isnan(scores).any():
            raise ValueError(f"scores must not be NaN, but {int(np.isnan(scores).sum())} of {len(scores)} are. Look at "
                             f"the model's outputs for overflow.")
        object.__setattr__(self, "scores", scores)
        object.__setattr__(self, "is_in", _coins(self.is_in, len(scores)))
        keys = np.random.default_rng(0).permutation(len(scores)) if self.keys is None else np.asarray(self.keys)
        if keys.shape != scores.shape:
            raise ValueError(f"keys must have one entry per canary, shape {scores.shape}, but got {keys.shape}.")
        object.__setattr__(self, "keys", keys)

    def right(self, guesses: int) -> int:
        """Right guesses if the largest half of so many scores is called in and the smallest half out."""
        order = np.lexsort((self.keys, self.scores))
        called_in, called_out = order[len(order) - (guesses + 1) // 2:], order[:guesses // 2]
        return int(self.is_in[called_in].sum() + (~self.is_in[called_out]).sum())


def _coins(is_in: np.ndarray, count: int) -> np.ndarray:
    coins = np.asarray(is_in)
    if coins.shape != (count,):
        raise ValueError(f"is_in must have one entry per score, shape ({count},), but got {coins.shape}.")
    if coins.dtype != bool and not np.isin(coins, (0, 1)).all():
        raise ValueError(f"is_in must hold only True and False or 1 and 0, but got {np.unique(coins)[:5].tolist()}.")
    coins = coins.astype(bool)
    inside = int(coins.sum())
    if 2 * min(binom.cdf(inside, count, 0.5), binom.sf(inside - 1, count, 0.5)) < _UNFAIR:
        raise ValueError(f"is_in must come from independent fair coins, but {inside} of {count} canaries are in.")
    return coins


def audited(scores: CanaryScores, claim: Claim, plan: AuditPlan, checks: tuple[Check, ...] = (),
            last_iterate: Optional[float] = None, kind: str = "scores", notes: tuple[str, ...] = ()) -> AuditResult:
    """The result of scored canaries under a plan that was fixed beforehand.

    Args:
        scores (CanaryScores): Scores and coins.
        claim (Claim): What is tested.
        plan (AuditPlan): Made before scoring.
        checks (tuple[Check]): White-box checks; they take half of alpha.
        last_iterate (float, optional): See `AuditResult`.
        kind (str): What was audited, in words.
        notes (tuple[str]): What the reader must know.

    Guarantee: a true claim is 'contradicted' with probability at most 1 - plan.confidence.
    """
    count = len(scores.scores)
    if count != plan.canaries:
        raise ValueError(f"scores must be of the plan's {plan.canaries} canaries, but got {count}.")
    alpha = plan.alpha / 2 if checks else plan.alpha
    bound_right, test_right = scores.right(plan.bound_guesses), scores.right(plan.test_guesses)
    area, notes = _area(scores, notes)
    return AuditResult(
        plan, claim.statement,
        bounds.one_run_epsilon(count, plan.bound_guesses, bound_right, plan.delta, plan.confidence),
        bound_right, test_right,
        bounds.curve_p_value(count, plan.test_guesses, test_right, curve=claim.curve), alpha,
        bounds.curve_rejected(count, plan.test_guesses, plan.test_guesses, claim.curve, alpha), area,
        bounds.one_run_mu_epsilon(count, plan.test_guesses, test_right, plan.confidence, plan.delta)
        if plan.delta > 0 else None,
        checks, last_iterate, notes, kind, scores.scores, scores.is_in)


def _area(scores: CanaryScores, notes: tuple[str, ...]) -> tuple[float, tuple[str, ...]]:
    """Area under the curve, and what looks odd about scores and coins."""
    inside, out = scores.scores[scores.is_in], scores.scores[~scores.is_in]
    if not len(inside) or not len(out):
        return 0.5, (*notes, "all canaries fell on one side")
    test = mannwhitneyu(inside, out, alternative="less", method="asymptotic")
    area = float(test.statistic) / (len(inside) * len(out))
    if area < 0.5 and test.pvalue < _ODD_AUC:
        notes = (*notes, f"AUC {area:.3f} lies far below one half: the scores may be reversed; they were not flipped")
    if len(inside) == len(out):
        notes = (*notes, "exactly half of the canaries are in: if that was arranged, the coins were not independent "
                         "and the bound does not hold")
    return area, notes
