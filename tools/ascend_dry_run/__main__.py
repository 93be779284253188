"""Compile everything for Ascend without an Ascend; see `make ascend-check`.

    python -m tools.ascend_dry_run [--sample] [--chip ascend910b] [--json FILE]

Prints one line per chip, mode and subject; the exit code is 1 if the plugin refuses what it should take, or takes one
of the controls that it must refuse.
"""
from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from mindarmour.utils.files import replacing
from tools.ascend_dry_run import stubs

ROOT = Path(__file__).resolve().parents[2]
STUBS = ROOT / "outputs" / "cann" / "lib64"  # the plugin looks for CANN by the names of these folders
# chip, as MindSpore calls it, and a product of that family
CHIPS = {"ascend910b": "Ascend910B1", "ascend910_93": "Ascend910_9391", "ascend910": "Ascend910A"}
MODERN = ("ascend910b", "ascend910_93")
RUNS = (*((chip, group, "O0") for chip in MODERN for group in ("steps", "training", "attacks", "controls")),
        ("ascend910b", "training", "O1"), ("ascend910b", "training", "pynative"), ("ascend910b", "ranks", "O0"),
        ("ascend910", "steps", "O0"), ("ascend910", "controls", "O0"))
SAMPLE = (("ascend910b", "training", "O0"), ("ascend910b", "controls", "O0"))
_SECONDS = 300


@dataclass(frozen=True)
class Verdict:
    """What came of one subject; `reason` is empty where it compiled. Not `judged`: its process did not live to tell."""

    chip: str
    group: str
    mode: str
    subject: str
    reason: str
    seconds: float
    judged: bool = True

    @property
    def expected(self) -> bool:
        """Whether the plugin did what it should: take a subject, refuse a control."""
        if self.group == "controls":
            return self.judged and bool(self.reason)
        return not self.reason

    def line(self) -> str:
        """One line of the table."""
        word = "refused" if self.reason else "compiled"
        mark = "ok " if self.expected else "BAD"
        tail = f": {self.reason[:300]}" if self.reason else ""
        return f"{mark} {self.chip:12} {self.mode:8} {self.seconds:6.1f} s  {self.subject}: {word}{tail}"


def environment(chip: str, folder: Path) -> dict[str, str]:
    """Environment of a process that finds the stubs and simulates `chip`."""
    return {**os.environ, "LD_PRELOAD": str(STUBS / "libchip.so"), "LD_LIBRARY_PATH": str(STUBS),
            "DRY_RUN_CHIP": chip, "DRY_RUN_SOC_NAME": CHIPS[chip], "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}",
            "MS_SIMULATION_LEVEL": "1", "GLOG_v": "3", "OMP_NUM_THREADS": "1",
            "RANK_SIZE": "8", "RANK_ID": "0"}


def judged(chip: str, group: str, mode: str, folder: Path) -> Iterator[Verdict]:
    """Verdicts of one group; a subject that ends its process is a refusal, and the next one goes on."""
    first = 0
    while True:
        command = [sys.executable, "-m", "tools.ascend_dry_run.job", group, mode, str(first)]
        variables = environment(chip, folder)
        if group != "ranks":
            variables.update(RANK_SIZE="1")
        try:
            done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, timeout=_SECONDS,
                                  check=False)
            printed, errors, end = done.stdout, done.stderr, f"the process ended with {done.returncode}"
        except subprocess.TimeoutExpired as error:
            printed, errors, end = _text(error.stdout), _text(error.stderr), f"no end within {_SECONDS} s"
        facts = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
        for fact in facts:
            if "subject" in fact:
                yield Verdict(chip, group, mode, fact["subject"], fact["reason"], fact["seconds"])
        if not facts or "starts" not in facts[-1]:
            if not facts:
                yield Verdict(chip, group, mode, f"all of '{group}'", f"{end}: {errors[-500:]}", 0.0, False)
            return
        yield Verdict(chip, group, mode, facts[-1]["starts"], end, 0.0, False)
        first += sum("starts" in fact for fact in facts)


def _text(output: bytes | str | None) -> str:
    return output.decode(errors="replace") if isinstance(output, bytes) else output or ""


def prepared(folder: Path) -> None:
    """The module of CANN's Python packages that MindSpore's communication asks for a version."""
    package = folder / "hccl"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "sys_version.py").write_text('__sys_version__ = "9.0"\n')


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sample", action="store_true", help="one training and the controls on one chip")
    parser.add_argument("--chip", choices=CHIPS, help="this chip only")
    parser.add_argument("--json", type=Path, help="also write the verdicts there")
    args = parser.parse_args(arguments)
    missing = stubs.missing_tools()
    if missing:
        print(f"The dry run builds stub libraries with {', '.join(missing)}, which this machine lacks. On Debian: "
              f"apt-get install g++ binutils", file=sys.stderr)
        return 2
    begin = time.monotonic()
    stubs.build(STUBS)
    verdicts = []
    with tempfile.TemporaryDirectory() as folder:
        prepared(Path(folder))
        for chip, group, mode in SAMPLE if args.sample else RUNS:
            if args.chip in (None, chip):
                for verdict in judged(chip, group, mode, Path(folder)):
                    print(verdict.line(), flush=True)
                    verdicts.append(verdict)
    bad = [verdict for verdict in verdicts if not verdict.expected]
    print(f"{len(verdicts)} verdicts, {len(bad)} not as they should be, {time.monotonic() - begin:.0f} s")
    if args.json:
        with replacing(args.json) as temporary:
            temporary.write_text(json.dumps([asdict(verdict) for verdict in verdicts], indent=1) + "\n")
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
