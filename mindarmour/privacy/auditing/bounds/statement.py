"""An epsilon read off an audit: a number that says what it is."""
from __future__ import annotations

from typing import Optional

from mindarmour.privacy.accounting.accountant import ESTIMATE, LOWER_BOUND, PrivacySpent
from mindarmour.utils import _validate

AUDIT = "audit"


class AuditedEpsilon(float):
    """An epsilon with its kind: 'lower-bound' (certified) or 'estimate' (may exceed the truth).

    Args:
        value (float): Epsilon.
        kind (str): 'lower-bound' or 'estimate'.
        delta (float): In [0, 1).
        confidence (float): Probability with which a lower bound holds.
        assumes (str): What must hold for that, in words.

    Examples:
        >>> AuditedEpsilon(1.5, "lower-bound", 1e-5, 0.95, "fair coins")
        AuditedEpsilon(1.5, lower-bound at confidence 0.95, delta 1e-05)
    """

    kind: str
    delta: float
    confidence: float
    assumes: str

    def __new__(cls, value: float, kind: str, delta: float, confidence: float, assumes: str) -> AuditedEpsilon:
        number = super().__new__(cls, value)
        number.kind = _validate.choice("kind", kind, (LOWER_BOUND, ESTIMATE))
        number.delta, number.confidence, number.assumes = delta, confidence, assumes
        return number

    def __getnewargs__(self) -> tuple:
        return float(self), self.kind, self.delta, self.confidence, self.assumes

    def __repr__(self) -> str:
        return (f"AuditedEpsilon({float(self):.6g}, {self.kind} at confidence {self.confidence:g}, "
                f"delta {self.delta:g})")

    def spent(self, claimed: Optional[PrivacySpent] = None) -> PrivacySpent:
        """The statement, with the sampling and relation of what was claimed."""
        sampling, relation = ("none", "none") if claimed is None else (claimed.sampling, claimed.relation)
        return PrivacySpent(float(self), self.delta, AUDIT, sampling, relation, self.kind,
                            f"confidence {self.confidence:g}; {self.assumes}")


def certified(value: float, delta: float, confidence: float, assumes: str) -> AuditedEpsilon:
    """A lower bound that holds with probability `confidence`."""
    return AuditedEpsilon(value, LOWER_BOUND, delta, confidence, assumes)


def estimated(value: float, delta: float, confidence: float, assumes: str) -> AuditedEpsilon:
    """An estimate: it may exceed the truth, by much where its assumption fails."""
    return AuditedEpsilon(value, ESTIMATE, delta, confidence, assumes)
