"""The commands `audit` and `report`. Import no MindSpore."""
from __future__ import annotations

import argparse
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

import numpy as np

from mindarmour.privacy.accounting import Ledger, ledger_file

if TYPE_CHECKING:  # the rest loads SciPy's statistics, which the other commands need not wait for
    from mindarmour.privacy.auditing.claim import Claim
    from mindarmour.privacy.auditing.plan import AuditPlan
    from mindarmour.privacy.auditing.result import AuditResult
    from mindarmour.privacy.auditing.scoring import CanaryScores

_NAMES = ("scores", "is_in", "keys")


def add_audit(commands: Any) -> None:
    """Register `audit`."""
    parser = commands.add_parser(
        "audit", help="test a ledger's claim by scores of canaries",
        description="Test a ledger's claim by scores of canaries, from any framework. The claim fixes the numbers of "
                    "guesses before a score is read. Exit status 1: the claim is contradicted.")
    parser.add_argument("--scores", required=True, metavar="FILE",
                        help="NumPy .npz with scores [m], is_in [m] (independent fair coins) and, to break ties, "
                             "keys [m]")
    parser.add_argument("--ledger", required=True, metavar="FILE", help="checkpoint or ledger file")
    parser.add_argument("--delta", type=float, default=1e-5, help="default: 1e-5")
    parser.add_argument("--confidence", type=float, default=0.95, help="default: 0.95")
    parser.add_argument("--guesses", type=int, help="number of guesses, chosen without looking at the scores "
                                                    "(default: the numbers that serve the claim best)")
    parser.add_argument("--output", metavar="FILE", help="write the result as JSON, for the command report")
    _add_page(parser, "--report")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=_run_audit, parser=parser)


def add_report(commands: Any) -> None:
    """Register `report`."""
    parser = commands.add_parser(
        "report", help="theory beside measurement on one page",
        description="Write one page (HTML, and beside it JSON and a privacy card in Markdown) from a checkpoint or "
                    "ledger file and from any attacks and audits.")
    parser.add_argument("ledger", metavar="CHECKPOINT", help="checkpoint or ledger file")
    parser.add_argument("--delta", type=float, default=1e-5, help="default: 1e-5")
    parser.add_argument("--attack", action="append", default=[], metavar="FILE",
                        help="JSON of an AttackResult; may be repeated")
    parser.add_argument("--audit", action="append", default=[], metavar="FILE",
                        help="JSON of an audit; may be repeated")
    _add_page(parser, "--output", required=True)
    parser.set_defaults(run=_run_report, parser=parser)


def _add_page(parser: argparse.ArgumentParser, flag: str, required: bool = False) -> None:
    parser.add_argument(flag, metavar="FILE.html", dest="page", required=required, help="where to write the report")
    parser.add_argument("--language", default="en", help="of the report: en or zh (default: en)")
    parser.add_argument("--title", default="", help="what was trained, in words")
    parser.add_argument("--unit", default="", help="what one record stands for, in words")
    parser.add_argument("--tuning-runs", type=int, help="runs on the same data that chose settings")
    parser.add_argument("--access", default="", help="who sees the model, and what of it")


def _run_audit(arguments: argparse.Namespace) -> int:
    _keep_apart(arguments.page, arguments.output, arguments.scores, arguments.ledger)
    ledger = ledger_file.load(arguments.ledger)
    result = _audit(ledger, arguments)
    if arguments.output:
        result.to_json(arguments.output)
    if arguments.page:
        _write(ledger, arguments, audits=[result])
    print(result.to_json() if arguments.json else result.summary())
    return 1 if result.contradictions else 0


def _audit(ledger: Ledger, arguments: argparse.Namespace) -> AuditResult:
    from mindarmour.privacy.auditing.claim import claim_of_ledger
    from mindarmour.privacy.auditing.scoring import audited
    claim = claim_of_ledger(ledger, arguments.delta)
    scores = _scores(arguments.scores)
    return audited(scores, claim, _plan(len(scores.scores), claim, arguments))


def _plan(canaries: int, claim: Claim, arguments: argparse.Namespace) -> AuditPlan:
    from mindarmour.privacy.auditing.plan import AuditPlan
    if arguments.guesses is not None:
        return AuditPlan.fixed(canaries, arguments.guesses, arguments.delta, arguments.confidence)
    return AuditPlan.for_claim(canaries, claim.statement.epsilon, arguments.delta, arguments.confidence)


def _scores(path: str) -> CanaryScores:
    from mindarmour.privacy.auditing.scoring import CanaryScores
    try:
        with np.load(path, allow_pickle=False) as file:
            stored = {name: file[name] for name in _NAMES if name in file.files}
    except (zipfile.BadZipFile, AttributeError, ValueError, EOFError) as error:
        raise ValueError(f"scores must be a NumPy .npz of plain numbers, but '{path}' is not: {error}") from None
    missing = [name for name in _NAMES[:2] if name not in stored]
    if missing:
        raise ValueError(f"scores must hold the arrays scores and is_in, but '{path}' lacks {', '.join(missing)}.")
    return CanaryScores(**stored)


def _run_report(arguments: argparse.Namespace) -> int:
    _keep_apart(arguments.page, arguments.ledger, *arguments.attack, *arguments.audit)
    for path in _write(ledger_file.load(arguments.ledger), arguments, arguments.attack, arguments.audit):
        print(path)
    return 0


def _keep_apart(page: Optional[str], *others: Optional[str]) -> None:
    """Refuse a report that would be written over another file of the same command."""
    written = {Path(page).with_suffix(kind).resolve() for kind in (".html", ".json", ".md")} if page else set()
    for other in others:
        if other and Path(other).resolve() in written:
            raise ValueError(f"The report is written to '{page}' and, beside it, to .json and .md of the same name, "
                             f"but '{other}' is one of these files. Choose another name for one of them.")


def _write(ledger: Ledger, arguments: argparse.Namespace, attacks: Any = (), audits: Any = ()) -> tuple:
    from mindarmour.privacy.reporting import Disclosure, Report
    disclosure = Disclosure(arguments.title, arguments.unit, arguments.tuning_runs, arguments.access)
    return Report(ledger, arguments.delta, attacks, audits, disclosure).save(arguments.page, arguments.language)
