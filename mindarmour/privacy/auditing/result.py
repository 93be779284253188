"""What an audit found: a certified bound, a test of the claim, and a verdict. No MindSpore."""
from __future__ import annotations

import json
import math
import os
from dataclasses import asdict, dataclass, field
from typing import Any, Optional, Union

import numpy as np

from mindarmour.privacy.accounting import PrivacySpent
from mindarmour.privacy.auditing.bounds import AuditedEpsilon
from mindarmour.privacy.auditing.plan import FEWEST_GUESSES, AuditPlan
from mindarmour.utils.files import replacing

CONTRADICTED = "contradicted"
NOT_CONTRADICTED = "not contradicted"
TOO_WEAK = "too weak to tell"
VERDICTS = (CONTRADICTED, NOT_CONTRADICTED, TOO_WEAK)
RESULT_VERSION = 1


@dataclass(frozen=True)
class Check:
    """One test of the mechanism on white-box readings.

    Args:
        name (str): 'noise multiplier', 'excluded canaries', 'noise of each step', 'correlation of steps', 'repeated
            readings', 'sampling rate' or 'noise of each parameter'.
        measured (float): What the readings show.
        expected (float): What the claim says.
        p_value (float): Probability of a reading as odd as this under the claim.
        alpha (float): Its share of the probability of a wrong 'contradicted'.
        note (str): What else the reader must know.
        power (float, optional): Factor of too little noise that the check finds four times in five.
    """

    name: str
    measured: float
    expected: float
    p_value: float
    alpha: float
    note: str = ""
    power: Optional[float] = None

    @property
    def passed(self) -> bool:
        """Whether the readings agree with the claim."""
        return not self.p_value < self.alpha


@dataclass(frozen=True)
class AuditResult:
    """Result of one audit.

    Args:
        plan (AuditPlan): What was fixed beforehand.
        claimed (PrivacySpent): What the ledger claims.
        epsilon_lower (AuditedEpsilon): Certified lower bound.
        bound_right (int): Right guesses among `plan.bound_guesses`.
        test_right (int): Right guesses among `plan.test_guesses`.
        curve_p_value (float): Smallest level at which the claimed curve is rejected.
        curve_alpha (float): Level of that test: all of alpha, or half of it beside white-box checks.
        can_reject (bool): Whether right guesses throughout would have rejected the curve.
        auc (float): Of canaries that were in against those that were out.
        estimate (AuditedEpsilon, optional): Reading through a Gaussian curve; may exceed the truth.
        checks (tuple[Check]): White-box checks of the mechanism.
        last_iterate (float, optional): Epsilon that the sum over steps can show at most, a heuristic.
        notes (tuple[str]): What the reader must know.
        kind (str): What was audited, in words.
        scores, is_in (numpy.ndarray): Scores and coins of the canaries, for the figure; not part of the summary.
    """

    plan: AuditPlan
    claimed: PrivacySpent
    epsilon_lower: AuditedEpsilon
    bound_right: int
    test_right: int
    curve_p_value: float
    curve_alpha: float
    can_reject: bool
    auc: float
    estimate: Optional[AuditedEpsilon] = None
    checks: tuple[Check, ...] = ()
    last_iterate: Optional[float] = None
    notes: tuple[str, ...] = ()
    kind: str = "scores"
    scores: Optional[np.ndarray] = field(default=None, repr=False, compare=False)
    is_in: Optional[np.ndarray] = field(default=None, repr=False, compare=False)

    @property
    def verdict(self) -> str:
        """'contradicted', 'not contradicted' or 'too weak to tell'; two epsilons are never compared."""
        if self.contradictions:
            return CONTRADICTED
        if math.isinf(self.claimed.epsilon) or self._curve_is_idle and not self.checks:
            return TOO_WEAK
        return NOT_CONTRADICTED

    @property
    def contradictions(self) -> tuple[str, ...]:
        """Names of the tests that contradict the claim; 'trade-off curve' is the test of scores."""
        curve = ("trade-off curve",) if self.curve_p_value < self.curve_alpha else ()
        return (*curve, *(check.name for check in self.checks if not check.passed))

    @property
    def _curve_is_idle(self) -> bool:
        return not self.can_reject or self.plan.test_guesses < FEWEST_GUESSES

    @property
    def ceiling(self) -> float:
        """Largest certified bound that the plan could have given."""
        return self.plan.ceiling

    @property
    def expected(self) -> Optional[float]:
        """Certified bound to expect of the best attack if the claim is tight."""
        return self.plan.expected

    @property
    def power(self) -> Optional[float]:
        """Factor of too little noise that the test of scores finds four times in five, under the best attack."""
        return self.plan.power

    def spent(self) -> PrivacySpent:
        """The certified bound as a statement of kind 'lower-bound'."""
        return self.epsilon_lower.spent(self.claimed)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON and for the report; no record ids, no coins, no scores."""
        return {
            "version": RESULT_VERSION, "kind": self.kind, "verdict": self.verdict,
            "contradictions": list(self.contradictions), "claimed": _finite(asdict(self.claimed)),
            "epsilon_lower": float(self.epsilon_lower), "delta": self.plan.delta, "confidence": self.plan.confidence,
            "assumes": self.epsilon_lower.assumes, "plan": self.plan.to_dict(),
            "right": {"bound": self.bound_right, "test": self.test_right}, "curve_p_value": self.curve_p_value,
            "curve_alpha": self.curve_alpha, "can_reject": self.can_reject, "auc": self.auc,
            "estimate": None if self.estimate is None else {"epsilon": _number(self.estimate),
                                                            "assumes": self.estimate.assumes},
            "checks": [{**asdict(check), "passed": check.passed} for check in self.checks],
            "last_iterate": self.last_iterate, "notes": list(self.notes), "roc": self._roc(),
        }

    def to_json(self, path: Optional[Union[str, os.PathLike]] = None) -> str:
        """JSON text of `to_dict`, also written to `path` in one piece if given."""
        text = json.dumps(self.to_dict(), indent=2, allow_nan=False)
        if path is not None:
            with replacing(path) as temporary:
                temporary.write_text(text + "\n", encoding="utf-8")
        return text

    def summary(self) -> str:
        """A few lines of text."""
        plan = self.plan
        rows = [
            f"verdict: {self.verdict}" + (f" by {', '.join(self.contradictions)}" if self.contradictions else ""),
            f"claimed: epsilon {self.claimed.epsilon:.4g} at delta {self.claimed.delta:g} ({self.claimed.accountant})",
            f"certified: epsilon >= {float(self.epsilon_lower):.3g} at confidence {plan.confidence:g} "
            f"({self.bound_right} of {plan.bound_guesses} right; at most {plan.ceiling:.3g} could have been shown)",
            f"curve test: p = {self.curve_p_value:.3g} ({self.test_right} of {plan.test_guesses} right)",
        ]
        if self.estimate is not None:
            rows.append(f"estimate: epsilon {float(self.estimate):.3g}, assuming a Gaussian curve; no bound")
        rows += [f"check {check.name}: {check.measured:.4g}, claimed {check.expected:.4g}, p = {check.p_value:.3g}"
                 for check in self.checks]
        return "\n".join([*rows, *(f"note: {note}" for note in (*self.notes, *plan.warnings))])

    def as_attack(self):
        """The same scores as an `AttackResult`, members being the canaries that were in."""
        from mindarmour.privacy.evaluation.membership.attack_result import AttackResult
        if self.scores is None or self.is_in is None:
            raise ValueError("This result holds no scores: it was made without them.")
        return AttackResult(self.scores, self.is_in, attack=f"audit by {self.kind}",
                            threat_model="knows every record but the coins", settings=self.plan.to_dict())

    def _roc(self) -> Optional[list]:
        """Points (fpr, tpr) of the curve, thinned to at most 200; None without scores."""
        if self.scores is None or self.is_in is None:
            return None
        order = np.argsort(-self.scores, kind="stable")
        last = np.append(np.flatnonzero(np.diff(self.scores[order])), len(order) - 1)
        inside = np.append(0.0, np.cumsum(self.is_in[order])[last] / max(1, self.is_in.sum()))
        out = np.append(0.0, np.cumsum(~self.is_in[order])[last] / max(1, (~self.is_in).sum()))
        return thinned(out, inside)


def thinned(fpr: np.ndarray, tpr: np.ndarray, points: int = 200) -> list:
    """At most so many points of a curve, the low rates kept dense; both ends stay."""
    if len(fpr) > points:
        ranks = np.unique(np.round(np.geomspace(1, len(fpr), points)).astype(int)) - 1
        fpr, tpr = fpr[ranks], tpr[ranks]
    return [[round(float(x), 6), round(float(y), 6)] for x, y in zip(fpr, tpr)]


def _finite(data: dict[str, Any]) -> dict[str, Any]:
    return {key: _number(value) if isinstance(value, float) else value for key, value in data.items()}


def _number(value: float) -> Union[float, str]:
    """Every JSON reader takes it: an infinite number is the string 'inf'."""
    return "inf" if math.isinf(value) else float(value)
