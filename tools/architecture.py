"""Draw the rooms of the package from its own imports into docs/architecture.md.

    python -m tools.architecture            write the page's generated parts
    python -m tools.architecture --check    exit 1 if they are not those of the code

A room is a module or folder directly below one of `HOUSES`; an arrow means that code in one imports the other.
"""
from __future__ import annotations

import argparse
import sys
from pathlib import Path

import grimp

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "architecture.md"
HOUSES = {
    "package": "mindarmour.privacy",
    "training": "mindarmour.privacy.diff_privacy",
    "engines": "mindarmour.privacy.diff_privacy.grads",
    "accounting": "mindarmour.privacy.accounting",
    "evaluation": "mindarmour.privacy.evaluation",
}


def arrows(graph: grimp.ImportGraph, house: str) -> dict[str, set[str]]:
    """{room: rooms it imports} of a package."""
    rooms = {room: set() for room in (child.rpartition(".")[2] for child in graph.find_children(house))}
    for module in graph.find_descendants(house):
        room = module[len(house) + 1:].partition(".")[0]
        for imported in graph.find_modules_directly_imported_by(module):
            if imported.startswith(f"{house}."):
                rooms[room] |= {imported[len(house) + 1:].partition(".")[0]} - {room}
    return rooms


def floors(rooms: dict[str, set[str]]) -> list[list[str]]:
    """Rooms by floor, the lowest first: each room stands above all that it imports.

    Raises:
        ValueError: The arrows run in a circle.
    """
    level: dict[str, int] = {}
    while len(level) < len(rooms):
        ready = [room for room in rooms if room not in level and rooms[room] <= set(level)]
        if not ready:
            raise ValueError(f"The imports of {sorted(set(rooms) - set(level))} run in a circle.")
        level.update({room: max((level[below] + 1 for below in rooms[room]), default=0) for room in ready})
    return [sorted(room for room in rooms if level[room] == floor) for floor in range(max(level.values()) + 1)]


def drawing(rooms: dict[str, set[str]]) -> str:
    """A Mermaid diagram, and what it counts."""
    stacked = floors(rooms)
    lines = ["```mermaid", "flowchart TD"]
    for number, floor in reversed(list(enumerate(stacked))):
        lines += [f"  subgraph floor{number}[floor {number}]", *(f"    {room}" for room in floor), "  end"]
    lines += [f"  {room} --> {below}" for room in sorted(rooms) for below in sorted(rooms[room])]
    count = sum(map(len, rooms.values()))
    return "\n".join([*lines, "```", "", f"{len(rooms)} rooms, {count} arrows, {len(stacked)} floors."])


def page(text: str) -> str:
    """The page with its generated parts made anew."""
    graph = grimp.build_graph("mindarmour")
    for name, house in HOUSES.items():
        start, end = f"<!-- {name}: made by tools/architecture.py -->\n", f"\n<!-- end of {name} -->"
        before, _, rest = text.partition(start)
        _, found, after = rest.partition(end)
        if not found:
            raise ValueError(f"{PAGE.name} must hold the line {start.strip()!r} and, after it, {end.strip()!r}.")
        text = before + start + drawing(arrows(graph, house)) + end + after
    return text


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the page is not current")
    check = parser.parse_args(arguments).check
    old = PAGE.read_text(encoding="utf-8")
    new = page(old)
    if check and new != old:
        print(f"{PAGE.relative_to(ROOT)} does not show the code's imports; run: python -m tools.architecture")
        return 1
    if not check:
        PAGE.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
