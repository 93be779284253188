"""The report as files: HTML for people, Markdown for a registry, JSON for machines."""
from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Optional, Union

from mindarmour.privacy.accounting import Ledger, ledger_file
from mindarmour.privacy.reporting.card import card
from mindarmour.privacy.reporting.page import page
from mindarmour.privacy.reporting.statement import Disclosure, statement_of
from mindarmour.utils import _validate
from mindarmour.utils.files import replacing


class Report:
    """Theory beside measurement, made from a ledger and from any attacks and audits.

    Args:
        ledger (Ledger, str, PathLike): What ran; or the path of a checkpoint or ledger file.
        delta (float): In (0, 1).
        attacks (sequence): `AttackResult`s, their `to_dict`, or paths of their JSON.
        audits (sequence): `AuditResult`s, their `to_dict`, or paths of their JSON.
        disclosure (Disclosure, optional): What the ledger does not know: unit, tuning runs, who sees what.
        relation (str, optional): Neighbouring relation of the claim; None takes the one that everything supports.

    Guarantee: everything stated follows from the ledger and from the audits handed in. A low measurement is never
        shown as a proof of privacy.

    Examples:
        >>> import tempfile
        >>> from mindarmour.privacy.accounting import Ledger, Sampling, StepEvent
        >>> from mindarmour.privacy.reporting import Report
        >>> ledger = Ledger()
        >>> ledger.record(StepEvent(Sampling("poisson", 4000, 512, "add-or-remove"), noise_multiplier=2.8), steps=40)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     paths = Report(ledger).save(f"{folder}/report.html")
        ...     print(sorted(path.name for path in paths))
        ['report.html', 'report.json', 'report.md']
    """

    def __init__(self, ledger: Union[Ledger, str, os.PathLike], delta: float = 1e-5,
                 attacks: Union[list, tuple] = (), audits: Union[list, tuple] = (),
                 disclosure: Optional[Disclosure] = None, relation: Optional[str] = None) -> None:
        ledger = ledger_file.load(ledger) if isinstance(ledger, (str, os.PathLike)) else ledger
        _validate.instance("ledger", ledger, Ledger)
        self.statement: dict[str, Any] = statement_of(ledger, delta, attacks, audits, disclosure or Disclosure(),
                                                      relation)

    def html(self, language: str = "en") -> str:
        """One self-contained page."""
        return page(self.statement, language)

    def markdown(self, language: str = "en") -> str:
        """The privacy card."""
        return card(self.statement, language)

    def json(self) -> str:
        """The machine-readable statement, see docs/report_schema.md."""
        return json.dumps(self.statement, indent=2, ensure_ascii=False, allow_nan=False)

    def save(self, path: Union[str, os.PathLike], language: str = "en") -> tuple[Path, ...]:
        """Write `path` (.html) and beside it the same name with .json and .md, each in one piece.

        Args:
            path (str, PathLike): Ends with '.html'.
            language (str): 'en' or 'zh'.

        Returns:
            tuple of the three paths.
        """
        path = Path(path)
        if path.suffix.lower() not in (".html", ".htm"):
            raise ValueError(f"path must end with '.html', but got '{path}'.")
        texts = {path: self.html(language), path.with_suffix(".json"): self.json() + "\n",
                 path.with_suffix(".md"): self.markdown(language)}
        for target, text in texts.items():
            with replacing(target) as temporary:
                temporary.write_text(text, encoding="utf-8")
        return tuple(texts)
