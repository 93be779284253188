"""Every Python and shell block of the README and the documentation runs as its page says, from the page's text alone.

The blocks of a page run one after the other, in an empty folder and with names of their own. A block runs unless the
line above it says `<!-- not run: why -->`. Pages of `SHARED` folders take turns in one process, which imports MindSpore
once; two pages of one name would share a folder, so there are none. Chinese pages hold the blocks of their English
page, so they need not run again.
"""
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
CHINESE = ROOT / "docs" / "zh"
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
BLOCK = re.compile(r"(?:^<!-- not run: (?P<why>.+?) -->\n+)?^```(?P<language>python|bash|console)\n(?P<code>.*?)^```$",
                   re.M | re.S)
SHARED = ("concepts", "howto", "migration", "tutorials")
SLOW = {"inversion.md", "membership_inference.md", "suppress_privacy.md"}  # trainings of more than ten seconds


class Block(NamedTuple):
    line: int
    language: str
    code: str
    why: str


def blocks(page):
    text = page.read_text(encoding="utf-8")
    return [Block(text[:match.start("code")].count("\n") + 1, match["language"], match["code"], match["why"] or "")
            for match in BLOCK.finditer(text)]


def run_of(page):
    return [block for block in blocks(page) if block.language != "console" and not block.why]


def script_of(page):
    """The page as one script: every block on the lines where it stands, shell blocks as calls of bash."""
    lines = [""] * (page.read_text(encoding="utf-8").count("\n") + 1)
    for block in run_of(page):
        if block.language == "python":
            lines[block.line:block.line + block.code.count("\n")] = block.code.splitlines()
        else:
            command = ["bash", "-euo", "pipefail", "-c", block.code]
            lines[block.line] = f"__import__('subprocess').run({command!r}, check=True)"
    return "\n".join(lines)


def jobs():
    """Pages that run in one process: each by itself, those of a shared folder together."""
    pages = [page for page in PAGES if page.parent != CHINESE and run_of(page)]
    alone = [page for page in pages if page.parent.name not in SHARED]
    together = [page for page in pages if page.parent.name in SHARED]
    return [*(pytest.param([page], id=page.relative_to(ROOT).as_posix(),
                           marks=[pytest.mark.slow] if page.name in SLOW else []) for page in alone),
            pytest.param(together, id="+".join(SHARED), marks=pytest.mark.slow)]


@pytest.mark.parametrize("pages", jobs())
def test_blocks_run_in_their_order(pages, tmp_path):
    lines = ["import os, runpy, sys", f"sys.path[:0] = [{str(ROOT)!r}]"]
    for page in pages:
        folder = tmp_path / page.stem
        folder.mkdir()  # fails for two pages of one name
        script = tmp_path / f"{page.stem}_page.py"
        script.write_text(script_of(page), encoding="utf-8")
        lines += [f"os.chdir({str(folder)!r})", f"print('page', {page.name!r}, file=sys.stderr)",
                  f"runpy.run_path({str(script)!r}, run_name='__main__')"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT),
                   "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], cwd=tmp_path, env=environment,
                          capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, f"{pages[-1].name} or before it:\n{done.stderr[-3000:]}"


def test_no_block_escapes():
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        assert len(re.findall(r"^```(?:python|bash|console)", text, re.M)) == len(blocks(page)), page.name
        assert not re.findall(r"^```(?:py|sh|shell|pycon)$", text, re.M), f"{page.name}: write python, bash or console"
