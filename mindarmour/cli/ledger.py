"""`mindarmour ledger`: what checkpoints say that ran."""
from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby
from typing import Any

from mindarmour.cli import options, output
from mindarmour.cli.epsilon import add_statement, who
from mindarmour.privacy.accounting import ledger_file
from mindarmour.privacy.accounting.accountant import privacy_spent
from mindarmour.privacy.accounting.ledger import Ledger, LedgerEntry, Segment, combine
from mindarmour.privacy.errors import LedgerMismatchError

_ENTRY = ("steps", "epoch", "sampling", "samples", "batch", "noise", "unit", "relation", "source")
_VARYING = ("steps", "epoch", "noise")


def add(commands: Any) -> None:
    """Declare the commands."""
    ledger = commands.add_parser("ledger", help="ledgers in checkpoints", **options.parser_options(
        "Ledgers in checkpoints.", ("mindarmour ledger show model.ckpt", "mindarmour ledger diff old.ckpt new.ckpt",
                                    "mindarmour ledger merge a.ckpt b.ckpt --output both.ledger")))
    actions = ledger.add_subparsers(dest="action", required=True, metavar="ACTION", parser_class=options.Parser)
    for name, run, text in (
            ("show", _show, "what ran, and what it spent"),
            ("verify", _verify, "whether ledgers are complete and unedited"),
            ("diff", _diff, "which runs one ledger holds and the other does not"),
            ("add", _add, "what several checkpoints spent together, shared history counted once"),
            ("merge", _merge, "what ledgers that share no run spent together")):
        example = f"mindarmour ledger {name} a.ckpt" + ("" if name in ("show", "verify") else " b.ckpt")
        parser = actions.add_parser(name, help=text, **options.parser_options(f"Print {text}.", (example,)))
        parser.add_argument("checkpoints", nargs=2 if name == "diff" else "+", metavar="CHECKPOINT",
                            help="checkpoint or ledger file")
        parser.add_argument("--json", action="store_true", help="print JSON")
        if name not in ("verify", "diff"):
            parser.add_argument("--delta", type=float, default=1e-5, help="default: 1e-5")
            options.add_accountant(parser)
            options.add_neighbours(parser)
        if name == "show":
            add_statement(parser)
        if name in ("add", "merge"):
            parser.add_argument("--output", metavar="FILE", help="write the combined ledger to a file")
        parser.set_defaults(run=run, parser=parser)


def _show(arguments: argparse.Namespace) -> int:
    reports, entries = [], []
    for path in arguments.checkpoints:
        ledger = ledger_file.load(path)
        entries += ledger.entries
        reports.append({"file": path, "steps": ledger.steps, "segments": [_segment(s) for s in ledger.segments],
                        "spent": _spent(ledger, arguments)})
    if arguments.statement:
        output.print_claim([statement for report in reports for statement in report["spent"]], arguments.statement,
                           who(arguments, entries))
    elif arguments.json:
        output.print_json(reports)
    else:
        for report in reports:
            _print_report(report)
    return 0


def _print_report(report: dict[str, Any]) -> None:
    print(f"{report['file']}: {report['steps']} steps in {len(report['segments'])} run(s)")
    output.print_table(("run", *_ENTRY), [[segment["run"], *row] for segment in report["segments"]
                                          for row in _ranges(segment["entries"])])
    notes = [f"run {segment['run']}: {segment['note']}" for segment in report["segments"] if segment["note"]]
    print("\n".join([*notes, ""]))
    output.print_statements(report["spent"])


def _ranges(entries: Sequence[dict[str, Any]]) -> list[list[str]]:
    """One row for entries in a row that differ in steps, epoch and noise alone."""
    rows = []
    for _, group in groupby(entries, key=lambda entry: [entry[key] for key in _ENTRY if key not in _VARYING]):
        members = list(group)
        known = {**members[0], "steps": sum(entry["steps"] for entry in members),
                 "epoch": _range([entry["epoch"] for entry in members]),
                 "noise": _range([entry["noise"] for entry in members])}
        rows.append([output.short(known[key]) for key in _ENTRY])
    return rows


def _range(values: Sequence[Any]) -> Any:
    """The value, or both ends and how many lie there."""
    distinct = sorted(set(values))
    if len(distinct) == 1:
        return distinct[0]
    return f"{output.short(distinct[0])}..{output.short(distinct[-1])} ({len(distinct)} values)"


def _verify(arguments: argparse.Namespace) -> int:
    verdicts = []
    for path in arguments.checkpoints:
        try:
            verdicts.append({"file": path, "valid": True, "steps": ledger_file.load(path).steps, "reason": ""})
        except (ValueError, OSError) as error:
            verdicts.append({"file": path, "valid": False, "steps": None, "reason": str(error)})
    if arguments.json:
        output.print_json(verdicts)
    for verdict in verdicts:
        if not verdict["valid"]:
            print(f"{arguments.parser.prog}: error: {verdict['reason']}", file=sys.stderr)
        elif not arguments.json:
            print(f"{verdict['file']}: complete and unedited, {verdict['steps']} steps")
    return 0 if all(verdict["valid"] for verdict in verdicts) else 2


def _diff(arguments: argparse.Namespace) -> int:
    first, second = ({segment.run: segment for segment in ledger_file.load(path).segments}
                     for path in arguments.checkpoints)
    rows = [_compared(run, first.get(run), second.get(run)) for run in dict.fromkeys((*first, *second))]
    differ = any(row["verdict"] != "equal" for row in rows)
    if arguments.json:
        output.print_json({"files": arguments.checkpoints, "differ": differ, "runs": rows})
    else:
        output.print_table(("run", *arguments.checkpoints, "verdict"),
                           [[row["run"], *map(str, row["steps"]), row["verdict"]] for row in rows])
    return int(differ)


def _compared(run: str, first: Any, second: Any) -> dict[str, Any]:
    steps = [0 if segment is None else segment.steps for segment in (first, second)]
    if first == second:
        verdict = "equal"
    elif first is None or second is None:
        verdict = f"only in {'the second' if first is None else 'the first'}"
    else:
        try:
            combine([Ledger([first]), Ledger([second])])
            verdict = "one goes on" if steps[0] != steps[1] else "same steps, other facts"
        except LedgerMismatchError:
            verdict = "different histories: one was edited"
    return {"run": run, "steps": steps, "verdict": verdict}


def _add(arguments: argparse.Namespace) -> int:
    return _print_total(combine([ledger_file.load(path) for path in arguments.checkpoints]), arguments)


def _merge(arguments: argparse.Namespace) -> int:
    ledgers = [ledger_file.load(path) for path in arguments.checkpoints]
    holders: dict[str, str] = {}
    for path, ledger in zip(arguments.checkpoints, ledgers):
        for segment in ledger.segments:
            if segment.run in holders:
                raise ValueError(f"ledgers must share no run to be merged, but {holders[segment.run]} and {path} both "
                                 f"hold the run {segment.run}. Use 'ledger add', which counts shared history once.")
        holders.update({segment.run: path for segment in ledger.segments})
    return _print_total(combine(ledgers), arguments)


def _print_total(total: Ledger, arguments: argparse.Namespace) -> int:
    spent = _spent(total, arguments)
    if arguments.output:
        ledger_file.save(total, arguments.output)
    if arguments.json:
        output.print_json({"files": arguments.checkpoints, "steps": total.steps,
                           "runs": [segment.run for segment in total.segments], "spent": spent})
    else:
        print(f"{len(arguments.checkpoints)} file(s): {total.steps} steps in {len(total.segments)} run(s)\n")
        output.print_statements(spent)
    return 0


def _segment(segment: Segment) -> dict[str, Any]:
    """A segment as plain data, each entry flat."""
    return {"run": segment.run, "data": segment.data, "note": segment.note, "epochs": segment.epochs,
            "entries": [_entry(entry) for entry in segment.entries]}


def _entry(entry: LedgerEntry) -> dict[str, Any]:
    event, sampling = entry.event, entry.event.sampling
    return {"steps": entry.steps, "epoch": entry.epoch, "sampling": sampling.kind, "samples": sampling.num_examples,
            "batch": sampling.batch_size, "noise": event.noise, "unit": event.unit, "relation": sampling.relation,
            "source": event.noise_source}


def _spent(ledger: Ledger, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    return [asdict(privacy_spent(ledger.entries, arguments.delta, name, **options.unit_of(arguments)))
            for name in options.accountants(arguments.accountant)]
