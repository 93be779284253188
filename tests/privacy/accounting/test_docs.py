"""docs/accounting.md: its code runs, its commands print what it shows, its plot can be drawn."""
import re
import runpy
import shlex
from pathlib import Path

import pytest

from mindarmour import cli

DOCS = Path(__file__).resolve().parents[3] / "docs"
TEXT = (DOCS / "accounting.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```console\n(.*?)```", TEXT, re.S)
CONSOLE = [part for block in BLOCKS for part in re.split(r"^\$ ", block, flags=re.M) if part]


def words(text):
    return [_number(word) for word in re.split(r"[\s,:{}\"]+", text) if word]


def _number(word):
    try:
        return pytest.approx(float(word), rel=1e-5)
    except ValueError:
        return word


def test_there_are_commands():
    assert len(CONSOLE) >= 5


@pytest.mark.parametrize("shown", CONSOLE, ids=range(len(CONSOLE)))
def test_command_prints_what_is_shown(shown, capsys):
    command, _, expected = shown.partition("\n")
    name, *arguments = shlex.split(command)
    assert name == "mindarmour"
    if "pld" in expected:
        pytest.importorskip("dp_accounting")  # without the extra, RDP answers and says so
    try:
        cli.main(arguments)
    except SystemExit as stop:
        assert stop.code == 2
    captured = capsys.readouterr()
    printed = (captured.out + captured.err).split()
    assert words(" ".join(printed)) == words(expected)


@pytest.mark.parametrize("code", re.findall(r"```python\n(.*?)```", TEXT, re.S))
def test_code_runs(code):
    exec(compile(code, "accounting.md", "exec"), {})


def test_every_test_file_named_exists():
    for name in re.findall(r"`(tests/[\w/]+\.py)`", TEXT):
        assert (DOCS.parent / name).exists()


def test_plot_script_computes_the_drawn_curves():
    pytest.importorskip("matplotlib")
    script = runpy.run_path(str(DOCS.parent / "tools" / "epsilon_against_steps.py"), run_name="script")
    for kind in script["SAMPLERS"]:
        few, many = script["curve"](kind, [1, 1000], None)
        assert 0 < few < many
    assert (DOCS / "plots" / "epsilon_against_steps.png").stat().st_size > 10_000
