"""The list of planted bugs fits the code, and the runner tells the noticed ones from the others."""
import ast
from pathlib import Path

import pytest

from tools.mutants.__main__ import KILLED, SURVIVED, known, run, table
from tools.mutants.planted import Mutant, planted

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("accounting", "diff_privacy/clipping", "diff_privacy/noise", "diff_privacy/sampling", "diff_privacy/grads",
         "diff_privacy/train", "release", "evaluation")


def test_every_planted_line_is_there_exactly_once_and_still_parses():
    for mutant in planted():
        text = (ROOT / mutant.file).read_text(encoding="utf-8")
        assert mutant.applied(text) != text, mutant.name
        ast.parse(mutant.applied(text))


def test_the_list_covers_the_rooms_and_names_tests_that_exist():
    mutants = planted()
    assert len(mutants) >= 150 and len({mutant.name for mutant in mutants}) == len(mutants)
    for room in ROOMS:
        assert sum(mutant.room.startswith(room) for mutant in mutants) >= 5, room
    assert any(mutant.file.endswith("checkpoint.py") for mutant in mutants)
    for mutant in mutants:
        assert mutant.tests and all((ROOT / test.split("::")[0]).exists() for test in mutant.tests), mutant.name


def test_a_line_that_is_not_there_once_is_refused():
    mutant = Mutant("two", "a.py", "x = 1", "x = 2", ("t.py",))
    assert mutant.applied("  x = 1\n") == "  x = 2\n"
    for text in ("", "x = 1\nx = 1\n"):
        with pytest.raises(ValueError, match="exactly once"):
            mutant.applied(text)


def test_a_sample_is_judged_and_not_judged_again(tmp_path, capsys):
    one, = (mutant for mutant in planted() if mutant.name == "bernoulli-parity")
    test = "tests/privacy/release/test_discrete.py::test_bernoulli_exp_has_the_exact_probability"
    noticed = Mutant("noticed", one.file, one.line, one.replacement, (test,))
    harmless = Mutant("harmless", one.file, one.line, one.line + "  # the same", (test,), equal="a comment")
    results = tmp_path / "results.jsonl"
    verdicts = run([noticed, harmless], results, workers=1, timeout=100)
    assert verdicts == {"noticed": KILLED, "harmless": SURVIVED}
    results.write_text(results.read_text() + '["cut', encoding="utf-8")  # as an interruption leaves it
    capsys.readouterr()
    assert run([noticed, harmless], results, workers=1, timeout=100) == verdicts
    assert capsys.readouterr().out == "" and len(known(results)) == 2
    assert "| release | 1 | 1 | 2 |" in table([noticed, harmless], verdicts)
