"""Run the tests against planted bugs: `python -m tools.mutants`, or `make mutants`.

Each worker has a copy of the tree in a temporary folder, plants one bug after the other in it and runs the tests that
should notice. Verdicts go into a file as they come; a second call goes on where the first one ended.
"""
from __future__ import annotations

import argparse
import hashlib
import json
import os
import queue
import shutil
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Optional

from tools.mutants.planted import Mutant, planted

ROOT = Path(__file__).resolve().parents[2]
COPIED = ("mindarmour", "tests", "examples", "tools", "docs", "pyproject.toml", "README.md", "CHANGELOG.md")
KILLED, SURVIVED, TIMEOUT, BROKEN = "killed", "survived", "killed by time", "broken"
_VERDICTS = {0: SURVIVED, 1: KILLED}


def copy_tree(target: Path, root: Path = ROOT) -> None:
    """What the tests need, without compiled files: Python would not notice a change within one second."""
    for name in COPIED:
        source = root / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=shutil.ignore_patterns("__pycache__", "outputs"))
        elif source.exists():
            shutil.copy(source, target / name)


def verdict(mutant: Mutant, tree: Path, timeout: float) -> str:
    """What the tests in the copied tree say to the bug; the tree is as before afterwards."""
    path = tree / mutant.file
    original = path.read_text(encoding="utf-8")
    path.write_text(mutant.applied(original), encoding="utf-8")
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(tree)}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *mutant.tests]
    try:
        done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired:
        return TIMEOUT
    finally:
        path.write_text(original, encoding="utf-8")
    return _VERDICTS.get(done.returncode, BROKEN)


def key_of(mutant: Mutant, root: Path = ROOT) -> str:
    """Changes with the bug, with its file and with its tests, so that an old verdict is not taken for theirs."""
    digest = hashlib.sha256(repr(mutant).encode())
    for name in (mutant.file, *(test.split("::")[0] for test in mutant.tests)):
        path = root / name
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            digest.update(file.read_bytes())
    return f"{mutant.name} {digest.hexdigest()[:16]}"


def known(results: Path) -> dict[str, str]:
    """Verdicts of former calls by key; a line that was cut off by an interruption is left out."""
    found = {}
    if results.exists():
        for line in results.read_text(encoding="utf-8").splitlines():
            try:
                found.update([json.loads(line)])
            except ValueError:
                continue
    return found


def run(mutants: Iterable[Mutant], results: Path, workers: int, timeout: float) -> dict[str, str]:
    """Verdicts by name, of this call and of former ones."""
    keys = {mutant.name: key_of(mutant) for mutant in mutants}
    done = known(results)
    results.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, results.open("a", encoding="utf-8") as out:
        trees: queue.Queue[Path] = queue.Queue()
        for worker in range(workers):
            copy_tree(Path(folder) / str(worker))
            trees.put(Path(folder) / str(worker))

        def judge(mutant: Mutant) -> None:
            tree = trees.get()
            try:
                done[keys[mutant.name]] = found = verdict(mutant, tree, timeout)
            finally:
                trees.put(tree)
            out.write(json.dumps([keys[mutant.name], found]) + "\n")
            out.flush()
            print(f"{found:15} {mutant.name}", flush=True)

        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(judge, [mutant for mutant in mutants if keys[mutant.name] not in done]))
    return {name: done[key] for name, key in keys.items()}


def table(mutants: Iterable[Mutant], verdicts: dict[str, str]) -> str:
    """Markdown: killed and all by room, then the survivors."""
    rooms: dict[str, Counter] = defaultdict(Counter)
    lines = ["| room | killed | equal | of |", "|---|---|---|---|"]
    for mutant in mutants:
        rooms[mutant.room].update(["all", "killed" if was_noticed(verdicts[mutant.name]) else
                                   "equal" if mutant.equal else "left"])
    for name, count in [*sorted(rooms.items()), ("all", sum(rooms.values(), Counter()))]:
        lines.append(f"| {name} | {count['killed']} | {count['equal']} | {count['all']} |")
    for mutant in mutants:
        if not was_noticed(verdicts[mutant.name]):
            reason = f"; equal: {mutant.equal}" if mutant.equal else ""
            lines.append(f"- {verdicts[mutant.name]}: {mutant.name} ({mutant.file}: `{mutant.replacement}`){reason}")
    return "\n".join(lines)


def was_noticed(found: str) -> bool:
    """Whether a test failed, or never ended; a tree that cannot be imported proves nothing about the tests."""
    return found in (KILLED, TIMEOUT)


def main(arguments: Optional[list[str]] = None) -> int:
    """The exit status is the number of survivors that the list does not explain, at most 99."""
    parser = argparse.ArgumentParser(prog="python -m tools.mutants", description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="part of the name or of the file")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--timeout", type=float, default=600.0, help="seconds for the tests of one bug")
    parser.add_argument("--results", type=Path, default=ROOT / "outputs" / "mutants.jsonl")
    options = parser.parse_args(arguments)
    mutants = [mutant for mutant in planted() if options.only in mutant.name or options.only in mutant.file]
    verdicts = run(mutants, options.results, options.workers, options.timeout)
    print(table(mutants, verdicts))
    left = [mutant for mutant in mutants if not mutant.equal and not was_noticed(verdicts[mutant.name])]
    return min(len(left), 99)


if __name__ == "__main__":
    sys.exit(main())
