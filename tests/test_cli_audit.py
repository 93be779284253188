"""The commands `audit` and `report`, as a user of any framework runs them."""
import json

import numpy as np
import pytest

from mindarmour import cli
from mindarmour.privacy.accounting import Ledger, Sampling, StepEvent, ledger_file


@pytest.fixture
def run(tmp_path):
    ledger = Ledger()
    ledger.record(StepEvent(Sampling("poisson", 3000, 250, "add-or-remove"), 1.0), steps=72)
    ledger_file.save(ledger, tmp_path / "run.ledger")
    return tmp_path


def scores(folder, shift, **changes):
    rng = np.random.default_rng(1)
    coins = rng.random(1000) < 0.5
    arrays = {"scores": shift * coins + rng.normal(size=1000), "is_in": coins, **changes}
    np.savez(folder / "s.npz", **{name: array for name, array in arrays.items() if array is not None})
    return ["--scores", str(folder / "s.npz"), "--ledger", str(folder / "run.ledger")]


@pytest.mark.parametrize("shift,status,verdict", [(0.5, 0, "not contradicted"), (5.0, 1, "contradicted")])
def test_audit_prints_its_verdict_and_feeds_the_report(run, capsys, shift, status, verdict):
    given = scores(run, shift)
    assert cli.main(["audit", *given, "--output", str(run / "a.json"), "--report", str(run / "b.html")]) == status
    assert f"verdict: {verdict}" in capsys.readouterr().out
    assert (run / "b.html").exists() and json.loads((run / "a.json").read_text())["verdict"] == verdict
    assert cli.main(["report", str(run / "run.ledger"), "--audit", str(run / "a.json"), "--output",
                     str(run / "r.html"), "--language", "zh", "--tuning-runs", "2"]) == 0
    assert capsys.readouterr().out.split() == [str(run / f"r.{kind}") for kind in ("html", "json", "md")]
    stored = json.loads((run / "r.json").read_text())
    assert (stored["verdict"]["verdict"], stored["disclosure"]["tuning_runs"]) == (verdict, 2)


def test_audit_as_json_with_a_fixed_number_of_guesses(run, capsys):
    assert cli.main(["audit", *scores(run, 0.5), "--guesses", "100", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)["plan"]
    assert plan["bound_guesses"] == plan["test_guesses"] == 100


@pytest.mark.parametrize("changes", [{"is_in": None}, {"scores": np.full(1000, np.nan)}, {"is_in": np.ones(1000)},
                                     {"scores": np.array(["a"] * 1000)},
                                     {"scores": np.array([None] * 1000, dtype=object)}],
                         ids=["no coins", "NaN", "all in", "texts", "pickled"])
def test_bad_scores_end_with_one_line_and_status_2(run, capsys, changes):
    with pytest.raises(SystemExit) as stop:
        cli.main(["audit", *scores(run, 0.5, **changes)])
    assert stop.value.code == 2 and capsys.readouterr().err.count("\n") == 1


def test_files_that_are_no_archive_or_ledger_are_refused(run, capsys):
    (run / "bad").write_bytes(b"not an archive")
    for arguments in (["audit", "--scores", str(run / "bad"), "--ledger", str(run / "run.ledger")],
                      ["report", str(run / "bad"), "--output", str(run / "r.html")],
                      ["report", str(run / "run.ledger"), "--audit", str(run / "bad"), "--output", str(run / "r.html")],
                      ["report", str(run / "run.ledger"), "--output", str(run / "r.pdf")]):
        with pytest.raises(SystemExit) as stop:
            cli.main(arguments)
        assert stop.value.code == 2


def test_a_report_is_never_written_over_another_file_of_the_command(run, capsys):
    given = scores(run, 0.5)
    (run / "x.json").write_text("mine")
    for arguments in (["audit", *given, "--output", str(run / "x.json"), "--report", str(run / "x.html")],
                      ["report", str(run / "run.ledger"), "--audit", str(run / "x.json"), "--output",
                       str(run / "x.html")]):
        with pytest.raises(SystemExit) as stop:
            cli.main(arguments)
        assert stop.value.code == 2 and "x.json" in capsys.readouterr().err
    assert (run / "x.json").read_text() == "mine"
