"""`mindarmour epsilon`: what a planned run costs."""
from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import asdict, replace
from typing import Any

from mindarmour.cli import options, output
from mindarmour.privacy.accounting.accountant import PrivacySpent, privacy_spent
from mindarmour.privacy.accounting.events import SHUFFLE, Sampling
from mindarmour.privacy.accounting.ledger import LedgerEntry
from mindarmour.privacy.accounting.lower_bound import shuffle_lower_bound
from mindarmour.privacy.accounting.planning import planned_entries
from mindarmour.utils import _validate

_EXAMPLES = (
    "mindarmour epsilon --num-samples 60000 --batch-size 256 --noise-multiplier 1.1 --epochs 10 --delta 1e-5",
    "mindarmour epsilon --num-samples 60000 --batch-size 256 --noise-multiplier 1.1 --steps 2344 --delta 1e-5 "
    "--examples-per-user 4 --statement text")


def add(commands: Any) -> None:
    """Declare the command."""
    parser = commands.add_parser("epsilon", help="epsilon of a run",
                                 **options.parser_options("Epsilon of a training run.", _EXAMPLES))
    options.add_data(parser)
    parser.add_argument("--batch-size", type=int, required=True, help="expected batch size")
    parser.add_argument("--noise-multiplier", type=float, required=True,
                        help="standard deviation of the noise divided by the clipping bound")
    options.add_length(parser)
    parser.add_argument("--delta", type=float, required=True, help="probability with which epsilon may fail")
    options.add_accountant(parser)
    add_statement(parser)
    parser.set_defaults(run=_run, parser=parser)


def add_statement(parser: argparse.ArgumentParser) -> None:
    """Declare the flag for the full claim."""
    parser.add_argument("--statement", choices=("text", "json"), help="print the full claim")


def who(arguments: argparse.Namespace, entries: Iterable[LedgerEntry] = ()) -> str:
    """Whom a statement about these entries protects."""
    users = {entry.event.sampling.examples_per_user is not None for entry in entries} == {True}
    if arguments.examples_per_user is not None and not users:
        return f"one user with up to {arguments.examples_per_user} examples"
    what = "user" if users else "record"
    return f"one {what}" if arguments.group_size == 1 else f"a group of {arguments.group_size} {what}s"


def _run(arguments: argparse.Namespace) -> int:
    sampling = options.sampling_of(arguments)
    _validate.real("noise_multiplier", arguments.noise_multiplier, low=0)
    entries = planned_entries(sampling, arguments.noise_multiplier, options.steps_of(arguments, sampling),
                              arguments.unit)
    statements = [privacy_spent(entries, arguments.delta, name, **options.unit_of(arguments))
                  for name in options.accountants(arguments.accountant)]
    single = arguments.group_size == 1 and arguments.examples_per_user is None
    if arguments.accountant == "all" and sampling.kind == SHUFFLE and single:
        statements.append(privacy_spent(entries, arguments.delta, assume="poisson"))
        statements.append(shuffle_lower_bound(entries, arguments.delta))
    rows = [asdict(with_remarks(statement, sampling)) for statement in statements]
    if arguments.statement:
        output.print_claim(rows, arguments.statement, who(arguments))
    elif arguments.json:
        output.print_json(rows if arguments.accountant == "all" else rows[0])
    else:
        output.print_statements(rows)
    return 0


def with_remarks(statement: PrivacySpent, sampling: Sampling) -> PrivacySpent:
    """The statement, marked where delta protects nobody."""
    if statement.delta < 1 / sampling.num_examples:
        return statement
    remark = f"delta is not below 1/{sampling.num_examples}: it allows to publish a record"
    return replace(statement, note="; ".join(filter(None, (statement.note, remark))))
