"""Every Python and shell block of the README and the documentation runs as its page says, from the page's text alone.

The Python blocks of a page run one after the other, in one process and an empty folder. A block runs unless the line
above it says `<!-- not run: why -->`.
"""
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
BLOCK = re.compile(r"(?:^<!-- not run: (?P<why>.+?) -->\n+)?^```(?P<language>python|bash|console)\n(?P<code>.*?)^```$",
                   re.M | re.S)
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


def named(pages):
    return [pytest.param(page, id=page.relative_to(ROOT).as_posix(),
                         marks=[pytest.mark.slow] if page.name in SLOW else []) for page in pages]


def python_of(page):
    return [block for block in blocks(page) if block.language == "python" and not block.why]


@pytest.mark.parametrize("page", named([page for page in PAGES if python_of(page)]))
def test_python_blocks_run_in_their_order(page, tmp_path):
    # lines keep their numbers, so that an error points to the page
    lines = [""] * page.read_text(encoding="utf-8").count("\n")
    for block in python_of(page):
        lines[block.line:block.line + block.code.count("\n")] = block.code.splitlines()
    script = tmp_path / f"{page.stem}_page.py"
    script.write_text("\n".join(lines), encoding="utf-8")
    folder = tmp_path / "empty"
    folder.mkdir()
    code = f"import sys, runpy; sys.path[:0] = [{str(ROOT)!r}]; runpy.run_path({str(script)!r}, run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=500,
                          check=False)
    assert done.returncode == 0, f"{page.name}:\n{done.stderr[-3000:]}"


def shell_commands():
    found = []
    for page in PAGES:
        for block in blocks(page):
            if block.language == "bash" and not block.why:
                found.append(pytest.param(block.code, id=f"{page.name}:{block.line}"))
    return found


@pytest.mark.parametrize("code", shell_commands())
def test_shell_blocks_run(code, tmp_path):
    environment = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": str(tmp_path),
                   "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", code], cwd=tmp_path, env=environment, capture_output=True,
                          text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-2000:]


def test_no_block_escapes():
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        assert len(re.findall(r"^```(?:python|bash|console)", text, re.M)) == len(blocks(page)), page.name
        assert not re.findall(r"^```(?:py|sh|shell|pycon)$", text, re.M), f"{page.name}: write python, bash or console"
