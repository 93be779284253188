"""The list of planted bugs: one line of one file each, its replacement, and the tests that should notice."""
from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

LIST = Path(__file__).parent / "planted.json"


@dataclass(frozen=True)
class Mutant:
    """One planted bug.

    Args:
        name (str): Unique.
        file (str): Path from the root of the tree.
        line (str): The original line, without the white space around it; the file holds it exactly once.
        replacement (str): What stands there instead.
        tests (tuple[str, ...]): What pytest is asked to run.
        equal (str, optional): Why it changes no behaviour that a test could see; such a one may survive.
    """

    name: str
    file: str
    line: str
    replacement: str
    tests: tuple[str, ...]
    equal: Optional[str] = None

    @property
    def room(self) -> str:
        """The package that it lies in."""
        parts = self.file.split("/")[1:-1]
        return "/".join(parts[1:3] if parts and parts[0] == "privacy" else parts)

    def applied(self, text: str) -> str:
        """The file's text with the bug.

        Raises:
            ValueError: The line is not there exactly once.
        """
        lines = text.splitlines(keepends=True)
        places = [i for i, line in enumerate(lines) if line.strip() == self.line]
        if len(places) != 1:
            raise ValueError(f"line of mutant {self.name!r} must be in {self.file} exactly once, but is there "
                             f"{len(places)} times: {self.line!r}. Update tools/mutants/planted.json.")
        old = lines[places[0]]
        lines[places[0]] = old.replace(self.line, self.replacement)
        return "".join(lines)


def planted(path: Path = LIST) -> list[Mutant]:
    """All planted bugs of the list, by file: {file: {"tests": [...], "bugs": {name: [line, replacement, ...]}}}."""
    found = []
    for file, entry in json.loads(path.read_text(encoding="utf-8")).items():
        for name, bug in entry["bugs"].items():
            tests = tuple(bug.get("tests", entry["tests"]))
            found.append(Mutant(name, file, bug["line"], bug["replacement"], tests, bug.get("equal")))
    return found
