"""The report's machine-readable statement: plain data, documented in docs/report_schema.md.

HTML, Markdown and JSON are made from this one dict, so no number is written twice.
"""
from __future__ import annotations

import datetime
import math
import platform
from dataclasses import asdict, dataclass
from typing import Any, Optional, Union

import numpy as np
import scipy

import mindarmour
from mindarmour.privacy.accounting import Ledger, pld, privacy_spent
from mindarmour.privacy.accounting.accountant import ACCOUNTANTS
from mindarmour.privacy.auditing.bounds import accuracy_ceiling, area_ceiling, reconstruction_ceiling
from mindarmour.privacy.auditing.claim import Claim, claim_of_ledger
from mindarmour.privacy.auditing.result import CONTRADICTED, NOT_CONTRADICTED, TOO_WEAK
from mindarmour.privacy.reporting.inputs import attack_data, audit_data
from mindarmour.utils import _validate

SCHEMA = "mindarmour-privacy-report"
SCHEMA_VERSION = "1.0"
NO_AUDIT = "no audit"
RATES = (0.1, 0.01, 0.001)
PRIORS = (0.1, 0.01, 0.0001)
_CURVE = np.concatenate([np.geomspace(1e-6, 0.5, 60), 1 - np.geomspace(0.5, 1e-3, 20)[1:], [1.0]])


@dataclass(frozen=True)
class Disclosure:
    """What no ledger knows and guidance (NIST SP 800-226) wants disclosed.

    Args:
        title (str): What was trained, in words.
        unit (str): What one record stands for, for example 'one photograph; a person may have several'.
        tuning_runs (int, optional): Runs on the same data that chose settings; None if that is not stated.
        access (str): Who sees the model, and what of it: weights, predictions, intermediate checkpoints.
    """

    title: str = ""
    unit: str = ""
    tuning_runs: Optional[int] = None
    access: str = ""

    def __post_init__(self) -> None:
        for name in ("title", "unit", "access"):
            _validate.instance(name, getattr(self, name), str)
        if self.tuning_runs is not None:
            _validate.integer("tuning_runs", self.tuning_runs, low=0)


def statement_of(ledger: Ledger, delta: float = 1e-5, attacks: Union[list, tuple] = (),
                 audits: Union[list, tuple] = (), disclosure: Disclosure = Disclosure(),
                 relation: Optional[str] = None) -> dict[str, Any]:
    """Everything that a report says, as plain data.

    Args:
        ledger (Ledger): What ran.
        delta (float): In (0, 1).
        attacks (sequence): `AttackResult`s, what their `to_dict` returned, or paths of their JSON.
        audits (sequence): `AuditResult`s, what their `to_dict` returned, or paths of their JSON.
        disclosure (Disclosure): What the ledger does not know.
        relation (str, optional): Neighbouring relation of the claim; None takes the one that everything supports.

    Returns:
        dict that JSON can hold as it is; infinite numbers are the string 'inf'.
    """
    claim = claim_of_ledger(ledger, delta, relation=relation)
    audits = [audit_data(audit, f"audit {i + 1}") for i, audit in enumerate(audits)]
    data = {
        "schema": SCHEMA, "version": SCHEMA_VERSION, "created": _now(), "tool": versions(),
        "title": disclosure.title, "claim": _claim(ledger, claim, relation), "training": _training(ledger),
        "disclosure": _disclosure(ledger, disclosure), "ceilings": ceilings(claim),
        "attacks": [attack_data(attack, f"attack {i + 1}") for i, attack in enumerate(attacks)],
        "audits": audits, "verdict": _verdict(audits), "blind_spots": _blind_spots(audits, disclosure),
    }
    return plain(data)


def ceilings(claim: Claim) -> dict[str, Any]:
    """What the claim allows every attack, from its whole curve."""
    curve = claim.curve
    return {"accountant": claim.statement.accountant, "accuracy": accuracy_ceiling(curve), "auc": area_ceiling(curve),
            "advantage": 2 * accuracy_ceiling(curve) - 1,
            "tpr": {f"{rate:g}": curve.tpr_at(rate) for rate in RATES},
            "reconstruction": {f"{prior:g}": reconstruction_ceiling(curve, prior) for prior in PRIORS},
            "curve": [[float(rate), curve.tpr_at(float(rate))] for rate in _CURVE]}


def versions() -> dict[str, str]:
    """Versions of what wrote the report."""
    return {"mindarmour": mindarmour.__version__, "numpy": np.__version__, "scipy": scipy.__version__,
            "python": platform.python_version()}


def plain(data: Any) -> Any:
    """The same data with numbers that every JSON reader takes."""
    if isinstance(data, dict):
        return {str(key): plain(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [plain(value) for value in data]
    if isinstance(data, (np.floating, float)):
        return "inf" if math.isinf(data) else float(data)
    return int(data) if isinstance(data, np.integer) else str(data) if isinstance(data, str) else data


def _now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")


def _claim(ledger: Ledger, claim: Claim, relation: Optional[str]) -> dict[str, Any]:
    names = [name for name in ACCOUNTANTS if name != claim.statement.accountant and (name != "pld" or pld.available())]
    others = [privacy_spent(ledger.entries, claim.statement.delta, name, relation=relation) for name in names]
    records = [entry.event.sampling.num_examples for entry in ledger.entries]
    return {**asdict(claim.statement), "statements": [asdict(claim.statement), *map(asdict, others)],
            "units": sorted({str(entry.event.unit) for entry in ledger.entries}),
            "records": max(records, default=None),
            "large_delta": bool(records) and max(records) > 1 and claim.statement.delta >= 1 / max(records)}


def _training(ledger: Ledger) -> dict[str, Any]:
    return {"steps": ledger.steps, "runs": [
        {"run": segment.run, "data": segment.data, "acknowledged": segment.note, "epochs": segment.epochs,
         "entries": [_entry(entry) for entry in segment.entries]} for segment in ledger.segments]}


def _entry(entry: Any) -> dict[str, Any]:
    event, sampling = entry.event, entry.event.sampling
    noise = {name: getattr(event, name) for name in ("noise_multiplier", "effective_multiplier", "sensitivity",
                                                     "epsilon", "delta", "mechanism") if hasattr(event, name)}
    return {"steps": entry.steps, "epoch": entry.epoch, "sampling": sampling.kind, "relation": sampling.relation,
            "num_examples": sampling.num_examples, "batch_size": sampling.batch_size, "unit": event.unit,
            "noise_source": event.noise_source, **noise}


def _disclosure(ledger: Ledger, disclosure: Disclosure) -> dict[str, Any]:
    sources = sorted({str(entry.event.noise_source) for entry in ledger.entries})
    return {"unit": disclosure.unit, "tuning_runs": disclosure.tuning_runs, "access": disclosure.access,
            "noise_sources": sources, "fixed_seed": "seeded" in sources}


def _verdict(audits: list) -> dict[str, Any]:
    """Contradicted by one, not contradicted by one that could have, otherwise too weak."""
    verdicts = [audit["verdict"] for audit in audits]
    for verdict in (CONTRADICTED, NOT_CONTRADICTED, TOO_WEAK):
        if verdict in verdicts:
            tests = sorted({name for audit in audits for name in audit["contradictions"]})
            # several audits may err several times: their shares of error add up
            wrong = sum(1 - audit["confidence"] for audit in audits)
            return {"verdict": verdict, "tests": tests, "confidence": max(0.0, 1 - wrong)}
    return {"verdict": NO_AUDIT, "tests": [], "confidence": None}


def _blind_spots(audits: list, disclosure: Disclosure) -> list[str]:
    everywhere = any("every parameter" in audit["kind"] for audit in audits)
    return [name for name, holds in (
        ("tuning", disclosure.tuning_runs != 0), ("group", True), ("preprocessing", True),
        ("layers", not everywhere), ("attacks", True), ("outside", True)) if holds]
