"""What a ledger claims: its statement, and the curve that an audit tests and attacks stay below. No MindSpore."""
from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Optional

import numpy as np

from mindarmour.privacy.accounting import Ledger, LedgerEntry, PrivacySpent, pld, privacy_spent
from mindarmour.privacy.accounting.accountant import Accountant
from mindarmour.privacy.accounting.curves.gaussian import mu_of_gaussian
from mindarmour.privacy.auditing.bounds import TabulatedCurve

_EPSILONS = np.concatenate([[0.0], np.geomspace(1e-4, 200.0, 320)])


@dataclass(frozen=True)
class Claim:
    """A privacy claim as an audit needs it.

    Args:
        statement (PrivacySpent): Epsilon at delta.
        curve (TabulatedCurve): What the same ledger allows every attack.
    """

    statement: PrivacySpent
    curve: TabulatedCurve

    @property
    def mu(self) -> Optional[float]:
        """Gaussian mechanism with the same epsilon at the same delta, for planning only; None for an infinite one."""
        epsilon = self.statement.epsilon
        return mu_of_gaussian(epsilon, self.statement.delta) if math.isfinite(epsilon) else None


def best_accountant() -> str:
    """'pld' where it is installed, the tightest; otherwise 'rdp'. A looser curve is a weaker test, and sound."""
    return "pld" if pld.available() else "rdp"


def claim_of_entries(entries: tuple[LedgerEntry, ...], delta: float, accountant: Optional[str] = None,
                     relation: Optional[str] = None) -> Claim:
    """The claim of ledger entries.

    Args:
        entries (tuple[LedgerEntry]): As `Ledger.entries`.
        delta (float): In (0, 1).
        accountant (str, optional): 'rdp', 'zcdp' or 'pld'; None takes the tightest that is installed.
        relation (str, optional): Neighbouring relation; None takes the one that everything recorded supports.

    Examples:
        >>> from mindarmour.privacy.accounting import Ledger, Sampling, StepEvent
        >>> ledger = Ledger()
        >>> ledger.record(StepEvent(Sampling("poisson", 4000, 400, "add-or-remove"), 1.0), steps=10)
        >>> claim = claim_of_ledger(ledger, 1e-5, "rdp")
        >>> round(claim.statement.epsilon, 2), claim.curve.tpr_at(0.01) < 0.1
        (3.44, True)
    """
    accountant = best_accountant() if accountant is None else accountant
    statement = privacy_spent(entries, delta, accountant, relation=relation)
    deltas = Accountant(delta, accountant, relation=relation).delta_curve(entries)(_EPSILONS)
    return Claim(statement, TabulatedCurve(_EPSILONS, np.clip(deltas, 0.0, 1.0)))


def claim_of_ledger(ledger: Ledger, delta: float, accountant: Optional[str] = None,
                    relation: Optional[str] = None) -> Claim:
    """The claim of everything that a ledger records. Arguments as for `claim_of_entries`."""
    return claim_of_entries(ledger.entries, delta, accountant, relation)
