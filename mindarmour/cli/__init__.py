"""Command line: arguments in, text out. One module a subject. Imports no MindSpore."""
from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Optional

from mindarmour import __version__
from mindarmour.cli import audit, calibrate, completion, convert, epsilon, ledger, plan, progress
from mindarmour.cli.options import EXIT_CODES, Parser, in_flags, parser_options


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run one command.

    Args:
        argv (sequence of str, optional): Arguments; None takes those of the process.

    Returns:
        int, the exit status: 0, or 1 where `ledger diff` finds a difference or `audit` a contradiction. Bad input,
        also a ledger that is missing, cut short or edited, exits with 2.
    """
    arguments = build_parser().parse_args(argv)
    try:
        with progress.shown():
            return arguments.run(arguments)
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except (ValueError, TypeError, OSError, OverflowError, ImportError) as error:
        return arguments.parser.error(in_flags(str(error)))


def build_parser() -> argparse.ArgumentParser:
    """The parser, for documentation, completion and tests."""
    parser = Parser(prog="mindarmour", **parser_options("Differential privacy: account, calibrate, inspect ledgers.", (
        "mindarmour epsilon --num-samples 60000 --batch-size 256 --noise-multiplier 1.1 --epochs 10 --delta 1e-5",
        "mindarmour ledger show model.ckpt")))
    parser.epilog = f"{parser.epilog}\n\n{EXIT_CODES}"
    parser.add_argument("--version", action="version", version=f"mindarmour {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=Parser)
    for subject in (epsilon, calibrate, plan, ledger, convert):
        subject.add(commands)
    audit.add_audit(commands)
    audit.add_report(commands)
    completion.add(commands, build_parser)
    return parser
