"""The dry run for Ascend: what it calls expected, how its stubs answer, and a sample of the run itself."""
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tools.ascend_dry_run import stubs
from tools.ascend_dry_run.__main__ import Verdict, judged, main

ROOT = Path(__file__).resolve().parents[2]


def verdict(group, reason, is_judged=True):
    return Verdict("ascend910b", group, "O0", "something", reason, 1.0, is_judged)


def test_a_control_that_compiles_and_a_step_that_is_refused_are_bad():
    assert verdict("steps", "").expected and verdict("controls", "no kernel").expected
    assert not verdict("steps", "no kernel").expected and not verdict("controls", "").expected
    assert not verdict("controls", "the process ended with -6", is_judged=False).expected, "a crash is no refusal"
    assert verdict("steps", "").line().startswith("ok ") and verdict("steps", "no").line().startswith("BAD")


def test_stubs_answer_by_what_their_caller_expects():
    text = stubs._assembly(["aclrtMalloc", "_ZN2ge8OperatorC1Ev", "_ZNK2ge8Operator7GetNameEv"])
    bodies = {name: text.split(f"{name}:")[1].split("ret")[0] for name in ("aclrtMalloc", "_ZN2ge8OperatorC1Ev",
                                                                          "_ZNK2ge8Operator7GetNameEv")}
    assert bodies["aclrtMalloc"].split() == ["xor", "%eax,%eax"]
    assert bodies["_ZN2ge8OperatorC1Ev"].count("movq $0") == 3
    assert "call empty_string" in bodies["_ZNK2ge8Operator7GetNameEv"]


def test_missing_compilers_are_named(monkeypatch, capsys):
    monkeypatch.setattr(stubs, "missing_tools", lambda: ["g++", "nm"])
    assert main(["--sample"]) == 2
    assert "g++, nm" in capsys.readouterr().err


def test_a_process_that_dies_is_a_refusal_and_the_next_subject_goes_on(monkeypatch, tmp_path):
    outputs = iter(['{"starts": "a"}\n{"subject": "a", "reason": "", "seconds": 1}\n{"starts": "b"}\n',
                    '{"starts": "c"}\n{"subject": "c", "reason": "", "seconds": 1}\n'])
    firsts = []

    def run(command, **_):
        firsts.append(command[-1])
        return subprocess.CompletedProcess(command, -11, next(outputs), "")

    monkeypatch.setattr(subprocess, "run", run)
    found = list(judged("ascend910b", "steps", "O0", tmp_path))
    assert [(v.subject, v.judged, bool(v.reason)) for v in found] == [
        ("a", True, False), ("b", False, True), ("c", True, False)]
    assert firsts == ["0", "2"]


@pytest.mark.slow
@pytest.mark.skipif(bool(stubs.missing_tools()), reason="no compiler for the stubs")
def test_sample_of_the_dry_run(tmp_path):
    done = subprocess.run([sys.executable, "-m", "tools.ascend_dry_run", "--sample", "--json", tmp_path / "found.json"],
                          cwd=ROOT, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    assert {row["group"] for row in found} == {"training", "controls"} and len(found) >= 4
