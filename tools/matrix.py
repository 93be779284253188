"""Run the quick tests and the demo with each supported MindSpore, every one in an environment of its own.

    python -m tools.matrix [VERSION ...] [--tests PATH ...]

Prints one line per version: tests passed and failed, what the demo printed last. Environments stay in `outputs/matrix`
and are used again. The exit code is 1 if anything failed.
"""
from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VERSIONS = ("2.7.2", "2.8.0", "2.9.0", "2.10.0")


def environment(version: str) -> Path:
    """The interpreter of an environment with this MindSpore and everything the tests need."""
    folder = ROOT / "outputs" / "matrix" / version
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--editable", f"{ROOT}[test]",
                        f"mindspore=={version}"], check=True)
        (folder / "complete").touch()
    return python


def tested(python: Path, tests: list[str]) -> tuple[str, bool]:
    """(pytest's closing line, whether all passed)."""
    variables = {**os.environ, "OMP_NUM_THREADS": "1", "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run([python, "-m", "pytest", "-q", "-n", "2", "--dist", "loadfile", "-m", "not slow", *tests],
                          cwd=ROOT, env=variables, capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    print("\n".join(failed), flush=True)
    closing = re.sub(r"[=!]", "", lines[-1]).strip() if lines else done.stderr[-300:]
    return closing, done.returncode == 0


def demonstrated(python: Path) -> tuple[str, bool]:
    """(last line of the demo at smoke size, whether it ended well)."""
    done = subprocess.run([python, "-m", "examples.privacy.diff_privacy.demo", "--smoke"], cwd=ROOT,
                          capture_output=True, text=True, check=False)
    lines = (done.stdout.strip() or done.stderr.strip() or "no output").splitlines()
    return lines[-1], done.returncode == 0


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("versions", nargs="*", default=list(VERSIONS), help=f"default: {' '.join(VERSIONS)}")
    parser.add_argument("--tests", nargs="+", default=[], help="these tests instead of all quick ones")
    args = parser.parse_args(arguments)
    good = True
    for version in args.versions or VERSIONS:
        python = environment(version)
        closing, passed = tested(python, args.tests)
        shown, ran = demonstrated(python)
        good &= passed and ran
        print(f"MindSpore {version}: {closing}; demo: {shown}", flush=True)
    return not good


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
