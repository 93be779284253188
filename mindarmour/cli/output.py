"""Tables, JSON and statements in words."""
from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any

_COLUMNS = ("epsilon", "delta", "accountant", "sampling", "relation", "kind", "note")
_RELATIONS = {"add-or-remove": "is there or is missing", "zero-out": "contributes or contributes zero",
              "replace-one": "is exchanged for any other"}
_KINDS = {"guarantee": "This is a guarantee.", "assumption": "This holds only under the assumption in the note.",
          "estimate": "This is an estimate and may be too small.",
          "lower-bound": "This is a lower bound: the true epsilon is at least this."}


def print_json(data: Any) -> None:
    """As JSON that every reader takes."""
    print(json.dumps(finite(data)))


def print_statements(statements: Iterable[dict[str, Any]]) -> None:
    """One row for each statement."""
    print_table(_COLUMNS, [[short(statement[column]) for column in _COLUMNS] for statement in statements])


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns aligned to the left."""
    widths = [max(len(row[i]) for row in [list(header), *rows]) for i in range(len(header))]
    for number, row in enumerate([list(header), *rows]):
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip()
        print(line if number else styled(line, "1"))


def styled(text: str, style: str) -> str:
    """Text in a style of ANSI terminals; as it is in files, pipes and where NO_COLOR is set."""
    plain = not sys.stdout.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return text if plain else f"\x1b[{style}m{text}\x1b[0m"


def in_words(statement: dict[str, Any], who: str) -> str:
    """The full claim as text that can stand alone."""
    lines = [f"({short(statement['epsilon'])}, {short(statement['delta'])})-differential privacy for {who}.",
             f"Neighbouring data sets ({statement['relation']}): {who} {_RELATIONS[statement['relation']]}.",
             f"Sampling: {statement['sampling']}. Accountant: {statement['accountant']}. "
             f"{styled(_KINDS[statement['kind']], '32' if statement['kind'] == 'guarantee' else '33')}"]
    return "\n".join(lines + ([f"Note: {statement['note']}."] if statement["note"] else []))


def print_claim(statements: Iterable[dict[str, Any]], form: str, who: str) -> None:
    """The full claim as text or JSON."""
    statements = list(statements)
    if form == "json":
        print_json([{**statement, "protects": who} for statement in statements])
    else:
        print("\n\n".join(in_words(statement, who) for statement in statements))


def short(value: Any) -> str:
    """Six digits."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def finite(data: Any) -> Any:
    """The same data with infinite numbers as strings, so that every JSON reader takes it."""
    if isinstance(data, dict):
        return {key: finite(item) for key, item in data.items()}
    if isinstance(data, list):
        return [finite(item) for item in data]
    return "inf" if isinstance(data, float) and math.isinf(data) else data
