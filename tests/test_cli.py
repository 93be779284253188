"""The command line: what it prints, how it refuses, and that it starts without MindSpore."""
import io
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

import mindarmour
from mindarmour import cli
from mindarmour.cli import progress
from mindarmour.privacy.accounting import Ledger, StepEvent, ledger_file, privacy_spent
from mindarmour.privacy.accounting.planning import plan_sampling

RUN = ["--num-samples", "60000", "--batch-size", "256"]
EPSILON = ["epsilon", *RUN, "--delta", "1e-5", "--accountant", "rdp"]


def call(capsys, *arguments):
    """(exit status, output, errors) of the command in this process."""
    try:
        status = cli.main([str(argument) for argument in arguments])
    except SystemExit as stop:
        status = stop.code
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def answer(capsys, *arguments):
    status, out, err = call(capsys, *arguments, "--json")
    assert status == 0 and not err
    return json.loads(out)


def test_epsilon_of_the_published_example(capsys):
    spent = answer(capsys, *EPSILON, "--noise-multiplier", 1.1, "--steps", 14062)
    assert spent["epsilon"] == pytest.approx(2.59656, rel=1e-4)
    assert {key: spent[key] for key in ("delta", "accountant", "sampling", "relation", "kind")} == {
        "delta": 1e-5, "accountant": "rdp", "sampling": "poisson", "relation": "add-or-remove", "kind": "guarantee"}


@pytest.mark.parametrize("sampling, relation, epsilon", [
    ("poisson", "add-or-remove", 1.3516163), ("balls-in-bins", "add-or-remove", 1.3185624),
    ("shuffle", "zero-out", 17.856587), ("fixed", "replace-one", 12.069), ("full", "add-or-remove", 1375.3497)])
def test_every_sampler(capsys, sampling, relation, epsilon):
    spent = answer(capsys, *EPSILON, "--noise-multiplier", 1, "--epochs", 10, "--sampling", sampling)
    assert spent["epsilon"] == pytest.approx(epsilon, rel=1e-4)
    assert spent["relation"] == relation and spent["sampling"] == sampling and spent["kind"] == "guarantee"


def test_all_accountants_are_a_list(capsys):
    pytest.importorskip("dp_accounting")
    spent = answer(capsys, *EPSILON, "--noise-multiplier", 1, "--steps", 100, "--accountant", "all")
    assert [item["accountant"] for item in spent] == ["rdp", "pld", "zcdp"]
    assert spent[1]["epsilon"] < spent[0]["epsilon"] < spent[2]["epsilon"]


def test_all_shows_what_shuffled_data_would_cost_and_what_they_leak(capsys):
    spent = answer(capsys, *EPSILON, "--noise-multiplier", 1, "--epochs", 10, "--accountant", "all",
                   "--sampling", "shuffle")
    assert [item["kind"] for item in spent] == ["guarantee"] * 3 + ["assumption", "lower-bound"]
    assert spent[3]["epsilon"] == pytest.approx(1.3516163, rel=1e-4)
    assert spent[3]["epsilon"] < spent[4]["epsilon"] < spent[0]["epsilon"]


def test_micro_batches_count_with_half_the_noise(capsys):
    pytest.importorskip("dp_accounting")
    whole = answer(capsys, *EPSILON, "--noise-multiplier", 1.0, "--epochs", 10, "--unit", "micro-batch",
                   "--accountant", "pld")
    assert whole["epsilon"] == pytest.approx(9.4358891, rel=0.01)
    assert whole["relation"] == "zero-out"


def test_groups_of_records(capsys):
    spent = answer(capsys, *EPSILON, "--noise-multiplier", 10, "--epochs", 1, "--sampling", "shuffle",
                   "--group-size", 10)
    assert spent["epsilon"] == pytest.approx(4.377178, rel=1e-6) and "groups of 10" in spent["note"]


def test_table_for_people(capsys):
    status, out, _ = call(capsys, *EPSILON, "--noise-multiplier", 1.1, "--steps", 14062)
    header, row = out.splitlines()
    assert status == 0 and header.split() == ["epsilon", "delta", "accountant", "sampling", "relation", "kind", "note"]
    assert row.split()[0] == "2.59656"


def test_a_large_delta_is_remarked(capsys):
    assert "1/60000" in answer(capsys, "epsilon", *RUN, "--delta", 1e-3, "--noise-multiplier", 1, "--steps", 9)["note"]


def test_calibration_keeps_the_budget(capsys):
    found = answer(capsys, "calibrate", *RUN, "--delta", 1e-5, "--epsilon", 3, "--steps", 14062, "--accountant", "rdp")
    assert found["noise_multiplier"] == pytest.approx(1.0141, abs=2e-4)
    assert found["epsilon"] <= 3 and found["kind"] == "guarantee"
    spent = answer(capsys, *EPSILON, "--noise-multiplier", found["noise_multiplier"], "--steps", 14062)
    assert spent["epsilon"] == found["epsilon"]


@pytest.mark.parametrize("find, key, expected, options", [
    ("steps", "steps", 18338, ()),
    ("epochs", "epochs", 78, ()),
    ("batch-size", "batch_size", 329, ("--epochs", 60)),
    ("delta", "delta", 4.65e-7, ("--steps", 14062))])
def test_calibration_of_the_rest(capsys, find, key, expected, options):
    data, delta = RUN[:2] if find == "batch-size" else RUN, () if find == "delta" else ("--delta", 1e-5)
    found = answer(capsys, "calibrate", *data, *delta, "--epsilon", 3, "--noise-multiplier", 1.1,
                   "--find", find, "--accountant", "rdp", *options)
    assert found[key] == pytest.approx(expected, rel=1e-3)
    assert found["epsilon"] <= 3


def test_calibration_against_attacks(capsys):
    # one Gaussian an epoch: mu with advantage 2 Phi(mu / 2) - 1 = 0.1 is 0.25132, over ten epochs sqrt(10) / mu
    shuffled = ("calibrate", *RUN, "--epochs", 10, "--sampling", "shuffle")
    advantage = answer(capsys, *shuffled, "--max-advantage", 0.1)
    assert advantage["noise_multiplier"] == pytest.approx(10 ** 0.5 / 0.2513227, rel=2e-3)
    risk = answer(capsys, *shuffled, "--min-bayes-risk", 0.45, "--prior", 0.5)
    assert risk["noise_multiplier"] == pytest.approx(advantage["noise_multiplier"], rel=2e-3)
    assert (risk["min_bayes_risk"], risk["prior"]) == (0.45, 0.5)
    rates = answer(capsys, *shuffled, "--max-tpr", 0.05, "--fpr", 0.01)
    assert rates["noise_multiplier"] == pytest.approx(10 ** 0.5 / 0.6814942, rel=2e-3)


@pytest.mark.parametrize("arguments, told", [
    ([], "COMMAND"),
    (["noise"], "noise"),
    ([*EPSILON, "--noise-multiplier", "1"], "--steps"),
    ([*EPSILON, "--noise-multiplier", "one", "--steps", "5"], "--noise-multiplier"),
    ([*EPSILON, "--noise-multiplier", "nan", "--steps", "5"], "--noise-multiplier"),
    ([*EPSILON, "--noise-multiplier", "0", "--steps", "5"], "--noise-multiplier"),
    ([*EPSILON, "--noise-multiplier", "inf", "--steps", "5"], "--noise-multiplier"),
    ([*EPSILON, "--noise-multiplier", "1", "--steps", "0"], "--steps"),
    ([*EPSILON, "--noise-multiplier", "1", "--steps", "2.5"], "--steps"),
    ([*EPSILON, "--noise-multiplier", "1", "--epochs", "-3"], "--epochs"),
    ([*EPSILON, "--noise-multiplier", "1", "--steps", "5", "--epochs", "3"], "--epochs"),
    ([*EPSILON, "--noise-multiplier", "1", "--steps", "5", "--delta", "1"], "--delta"),
    ([*EPSILON, "--noise-multiplier", "1", "--steps", "5", "--batch-size", "60001"], "--batch-size"),
    ([*EPSILON, "--noise-multiplier", "1", "--steps", "5", "--num-samples", "0"], "--num-samples"),
    ([*EPSILON, "--noise-multiplier", "1", "--steps", "5", "--sampling", "systematic"], "--sampling"),
    ([*EPSILON, "--noise-multiplier", "1", "--steps", "5", "--group-size", "0"], "--group-size"),
    ([*EPSILON, "--noise-multiplier", "1", "--steps", "5", "--accountant", "gdp"], "--accountant"),
    ([*EPSILON, "--noise-multiplier", "1", "--steps", "5", "--sampling", "shuffle", "--relation", "add-or-remove"],
     "--relation"),
    (["calibrate", *RUN, "--epsilon", "3", "--steps", "5"], "--delta"),
    (["calibrate", *RUN, "--epsilon", "3", "--delta", "1e-5"], "--steps"),
    (["calibrate", *RUN, "--epsilon", "-3", "--delta", "1e-5", "--steps", "5"], "--epsilon"),
    (["calibrate", *RUN, "--epsilon", "3", "--delta", "1e-5", "--find", "epochs"], "--noise-multiplier"),
    (["calibrate", *RUN, "--max-tpr", "0.1", "--steps", "5"], "--fpr"),
    (["calibrate", *RUN, "--max-tpr", "0.1", "--fpr", "0.2", "--steps", "5"], "--max-tpr"),
    (["calibrate", *RUN, "--max-advantage", "1.5", "--steps", "5"], "--max-advantage"),
    (["calibrate", *RUN, "--max-advantage", "0.5", "--steps", "5", "--find", "epochs"], "--find"),
    (["calibrate", *RUN, "--steps", "5"], "--epsilon"),
    (["ledger"], "ACTION"),
    (["ledger", "show"], "CHECKPOINT"),
    (["ledger", "show", "no/such/file.ckpt"], "no/such/file.ckpt")])
def test_bad_input_is_refused_in_one_line(capsys, arguments, told):
    status, out, err = call(capsys, *arguments)
    assert status == 2 and not out
    assert err.count("\n") == 1 and err.startswith("mindarmour") and told in err and "Traceback" not in err


@pytest.fixture
def forks(tmp_path):
    """Ledger files of a run and of two runs that continue it."""
    base = Ledger()
    base.record(StepEvent(plan_sampling("poisson", 60000, 256), 1.1), 1000)
    paths = []
    for name, steps in (("base", 0), ("left", 200), ("right", 300)):
        ledger = Ledger(base.segments)
        if steps:
            ledger.record(StepEvent(plan_sampling("poisson", 60000, 256), 1.1), steps)
        paths.append(tmp_path / f"{name}.ckpt")
        ledger_file.save(ledger, str(paths[-1]))
    return paths


def test_ledger_show(capsys, forks):
    report, = answer(capsys, "ledger", "show", forks[1], "--accountant", "rdp")
    assert report["steps"] == 1200 and len(report["segments"]) == 2
    entry, = report["segments"][0]["entries"]
    assert (entry["steps"], entry["sampling"], entry["noise"], entry["samples"]) == (1000, "poisson", 1.1, 60000)
    expected = answer(capsys, *EPSILON, "--noise-multiplier", 1.1, "--steps", 1200)
    assert report["spent"] == [expected]
    status, out, _ = call(capsys, "ledger", "show", forks[1])
    assert status == 0 and "1200 steps" in out and "guarantee" in out


def test_ledger_add_counts_shared_history_once(capsys, forks, tmp_path):
    combined = tmp_path / "all.ledger"
    total = answer(capsys, "ledger", "add", *forks, "--output", combined)
    assert total["steps"] == 1500 and len(total["runs"]) == 3
    assert total["spent"] == answer(capsys, "ledger", "show", combined)[0]["spent"]
    status, out, _ = call(capsys, "ledger", "add", *forks)
    assert status == 0 and "1500 steps in 3 run(s)" in out


def test_ledger_verify_tells_broken_from_whole(capsys, forks):
    assert call(capsys, "ledger", "verify", *forks)[0] == 0
    data = forks[1].read_bytes()
    forks[1].write_bytes(data[:-5])
    forks[2].write_bytes(data.replace(b"1000", b"1001"))
    status, out, err = call(capsys, "ledger", "verify", *forks)
    assert status == 2 and "complete" in out
    cut, edited = err.splitlines()
    assert "left.ckpt" in cut and "cut short" in cut and "right.ckpt" in edited and "edited" in edited
    status, out, _ = call(capsys, "ledger", "verify", *forks, "--json")
    assert status == 2 and [item["valid"] for item in json.loads(out)] == [True, False, False]
    for action in ("show", "add"):
        status, out, err = call(capsys, "ledger", action, *forks)
        assert status == 2 and not out and err.count("\n") == 1


def test_infinite_epsilon_is_valid_json(capsys, tmp_path):
    ledger = Ledger()
    ledger.record(StepEvent(plan_sampling("poisson", 100, 10), 0.0))
    ledger_file.save(ledger, str(tmp_path / "a.ledger"))
    report, = answer(capsys, "ledger", "show", tmp_path / "a.ledger")
    assert report["spent"][0]["epsilon"] == "inf"


def test_help_names_every_command(capsys):
    for arguments in (["--help"], ["epsilon", "--help"], ["calibrate", "--help"], ["ledger", "add", "--help"]):
        status, out, _ = call(capsys, *arguments)
        assert status == 0 and "mindarmour" in out


def test_compare_shows_correlated_noise_beside_independent(capsys):
    run = ["calibrate", "--compare", "--num-samples", 640, "--batch-size", 20, "--epochs", 2, "--delta", 1e-5]
    rows = answer(capsys, *run, "--epsilon", 2, "--sampling", "fixed-order")
    errors = [row["error"] for row in rows]
    assert errors == sorted(errors) and rows[-1]["noise"] == "independent" and rows[-1]["of_independent"] == 1
    assert rows[0]["of_independent"] < 0.5
    status, out, _ = call(capsys, *run, "--epsilon", 2, "--sampling", "fixed-order")
    assert status == 0 and len(out.splitlines()) == len(rows) + 2
    status, _, err = call(capsys, *run, "--max-advantage", 0.1)
    assert status == 2 and "epsilon" in err


@pytest.mark.parametrize("flag, value", [("--unit", "micro-batch"), ("--noise-multiplier", 1.0), ("--group-size", 2),
                                         ("--prefix", "run.json"), ("--find", "steps"), ("--examples-per-user", 2)])
def test_compare_ignores_no_flag(capsys, flag, value):
    status, _, err = call(capsys, "calibrate", "--compare", "--num-samples", 640, "--batch-size", 20, "--epochs", 2,
                          "--delta", 1e-5, "--epsilon", 2, flag, value)
    assert status == 2 and flag in err


def run(*arguments):
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=60, check=False)


def test_module_and_exit_status_of_the_process():
    result = run("-m", "mindarmour", *EPSILON, "--noise-multiplier", "1.1", "--steps", "14062", "--json")
    assert result.returncode == 0 and json.loads(result.stdout)["epsilon"] == pytest.approx(2.59656, rel=1e-4)
    result = run("-m", "mindarmour", "epsilon")
    assert result.returncode == 2 and result.stderr.count("\n") == 1


def test_starts_without_mindspore_or_the_extra():
    code = ("import sys, time; start = time.process_time(); import mindarmour.cli; "
            "print(time.process_time() - start, [m for m in ('mindspore', 'dp_accounting', 'matplotlib', 'sklearn', "
            "'scipy.stats', 'scipy.optimize') if m in sys.modules])")
    result = run("-c", code)
    seconds, _, loaded = result.stdout.strip().partition(" ")
    assert loaded == "[]" and float(seconds) < 1.0


def test_the_tightest_accountant_at_hand_is_the_default_and_named(capsys):
    pytest.importorskip("dp_accounting")
    run = ("epsilon", *RUN, "--delta", 1e-5, "--noise-multiplier", 1.1, "--steps", 14062)
    spent, by_rdp = answer(capsys, *run), answer(capsys, *run, "--accountant", "rdp")
    assert spent["accountant"] == "pld" and spent["epsilon"] < 0.95 * by_rdp["epsilon"]
    found = answer(capsys, "calibrate", *RUN, "--delta", 1e-5, "--epsilon", 3, "--steps", 14062)
    assert found["accountant"] == "pld" and found["noise_multiplier"] < 1.0 and found["epsilon"] <= 3


def test_without_the_extra_rdp_is_the_default(capsys, monkeypatch):
    monkeypatch.setattr(cli.options.pld, "available", lambda: False)
    spent = answer(capsys, "epsilon", *RUN, "--delta", 1e-5, "--noise-multiplier", 1.1, "--steps", 14062)
    assert spent["accountant"] == "rdp" and spent["epsilon"] == pytest.approx(2.59656, rel=1e-4)


def test_version_is_the_package_s(capsys):
    status, out, _ = call(capsys, "--version")
    assert status == 0 and out == f"mindarmour {mindarmour.__version__}\n"


def test_the_full_claim_in_words_and_as_json(capsys):
    run = (*EPSILON, "--noise-multiplier", 1.1, "--steps", 2344, "--examples-per-user", 4)
    spent = answer(capsys, *run)
    status, out, _ = call(capsys, *run, "--statement", "text")
    assert status == 0 and f"({spent['epsilon']:.6g}, 1e-05)-differential privacy" in out
    for part in ("one user with up to 4 examples is there or is missing", "poisson", "rdp", "guarantee"):
        assert part in out
    claim, = json.loads(call(capsys, *run, "--statement", "json")[1])
    assert claim.pop("protects") == "one user with up to 4 examples" and claim == spent


def test_users_cost_more_than_examples_in_every_command(capsys, forks):
    single = answer(capsys, *EPSILON, "--noise-multiplier", 1.1, "--steps", 1200)
    users = answer(capsys, *EPSILON, "--noise-multiplier", 1.1, "--steps", 1200, "--examples-per-user", 3)
    assert users["epsilon"] > single["epsilon"]
    shown, = answer(capsys, "ledger", "show", forks[1], "--accountant", "rdp", "--examples-per-user", 3)
    assert shown["spent"] == [users]
    found = answer(capsys, "calibrate", *RUN, "--delta", 1e-5, "--steps", 1200, "--epsilon", users["epsilon"],
                   "--examples-per-user", 3, "--accountant", "rdp")
    assert found["noise_multiplier"] == pytest.approx(1.1, rel=1e-3) and found["epsilon"] <= users["epsilon"]


def test_calibration_with_what_an_earlier_run_spent(capsys, forks):
    run = ("calibrate", *RUN, "--delta", 1e-5, "--steps", 500, "--accountant", "rdp")
    fresh = answer(capsys, *run, "--epsilon", 1)["noise_multiplier"]
    found = answer(capsys, *run, "--epsilon", 1, "--prefix", forks[0])
    assert found["noise_multiplier"] > fresh and found["epsilon"] <= 1
    ledger = ledger_file.load(forks[0])
    ledger.record(StepEvent(plan_sampling("poisson", 60000, 256), found["noise_multiplier"]), 500)
    assert privacy_spent(ledger.entries, 1e-5).epsilon == pytest.approx(found["epsilon"], rel=1e-9)
    status, out, err = call(capsys, *run, "--epsilon", 0.2, "--prefix", forks[0])
    assert status == 2 and not out and "--prefix" in err and "already spent" in err
    attack = ("calibrate", *RUN, "--steps", 500, "--max-advantage", 0.2, "--accountant", "rdp")
    more = answer(capsys, *attack, "--prefix", forks[0])["noise_multiplier"]
    assert more > answer(capsys, *attack)["noise_multiplier"]


@pytest.mark.parametrize("extra, told", [
    (("--epsilon", 3, "--delta", 1e-5, "--noise-multiplier", 1), "--noise-multiplier"),
    (("--epsilon", 3, "--delta", 1e-5, "--fpr", 0.1), "--fpr"),
    (("--max-advantage", 0.1, "--delta", 1e-5), "--delta"),
    (("--max-advantage", 0.1, "--prior", 0.5), "--prior"),
    (("--min-bayes-risk", 0.1), "--prior"),
    (("--min-bayes-risk", 0.1, "--prior", 1.0), "--prior"),
    (("--min-bayes-risk", 0.05, "--prior", 0.05), "--min-bayes-risk"),
    (("--max-advantage", 0.1, "--group-size", 2), "--group-size"),
    (("--epsilon", 3, "--delta", 1e-5, "--find", "delta", "--noise-multiplier", 1), "--delta"),
    (("--epsilon", 3, "--find", "delta", "--noise-multiplier", 1, "--group-size", 2), "--group-size"),
    (("--epsilon", 3, "--find", "delta", "--noise-multiplier", 1, "--prefix", "x"), "x")])
def test_calibration_ignores_no_flag(capsys, extra, told):
    status, out, err = call(capsys, "calibrate", *RUN, "--steps", 10, *extra)
    assert status == 2 and not out and told in err


def test_many_entries_are_shown_as_ranges(capsys, tmp_path):
    ledger = Ledger()
    for step in range(300):
        ledger.record(StepEvent(plan_sampling("poisson", 60000, 256), 1.5 / (1 + step * 1e-3)))
    ledger_file.save(ledger, str(tmp_path / "decay.ledger"))
    status, out, _ = call(capsys, "ledger", "show", tmp_path / "decay.ledger", "--accountant", "rdp")
    assert status == 0 and len(out.splitlines()) == 6 and "1.15473..1.5 (300 values)" in out
    report, = answer(capsys, "ledger", "show", tmp_path / "decay.ledger", "--accountant", "rdp")
    assert len(report["segments"][0]["entries"]) == 300


def test_ledger_diff(capsys, forks):
    assert answer(capsys, "ledger", "diff", forks[1], forks[1])["differ"] is False
    status, out, _ = call(capsys, "ledger", "diff", forks[1], forks[2], "--json")
    assert status == 1
    assert [row["verdict"] for row in json.loads(out)["runs"]] == ["equal", "only in the first", "only in the second"]
    ledger, path = ledger_file.load(forks[0]), str(forks[0]) + ".more"
    ledger = ledger.segments[0].copy()
    ledger.entries[0] = replace(ledger.entries[0], steps=1500)
    ledger_file.save(Ledger([ledger]), path)
    status, out, _ = call(capsys, "ledger", "diff", forks[0], path)
    assert status == 1 and "one goes on" in out and "1500" in out


def test_ledgers_that_share_a_run_are_not_merged(capsys, forks, tmp_path):
    status, out, err = call(capsys, "ledger", "merge", forks[1], forks[2], "--output", tmp_path / "both")
    assert status == 2 and not out and "ledger add" in err and not (tmp_path / "both").exists()
    assert call(capsys, "ledger", "merge", forks[1], forks[1])[0] == 2
    other = Ledger()
    other.record(StepEvent(plan_sampling("poisson", 60000, 256), 1.1), 300)
    ledger_file.save(other, str(tmp_path / "other"))
    total = answer(capsys, "ledger", "merge", forks[1], tmp_path / "other", "--output", tmp_path / "both")
    assert total["steps"] == 1500 and ledger_file.load(str(tmp_path / "both")).steps == 1500


def test_plan_is_a_table_and_a_plot(capsys, tmp_path):
    pytest.importorskip("matplotlib")
    plan = ("plan", *RUN, "512", "--noise-multiplier", 0.8, 1.1, "--epochs", 1, 2, "--delta", 1e-5,
            "--accountant", "rdp")
    table = answer(capsys, *plan, "--plot", tmp_path / "plan.png")
    assert len(table["rows"]) == 8 and (tmp_path / "plan.png").stat().st_size > 5000
    for row in table["rows"]:
        spent = answer(capsys, "epsilon", "--num-samples", 60000, "--batch-size", row["batch_size"], "--delta", 1e-5,
                       "--noise-multiplier", row["noise_multiplier"], "--epochs", row["epochs"], "--accountant", "rdp")
        assert spent["epsilon"] == row["epsilon"]
    status, out, _ = call(capsys, *plan)
    assert status == 0 and len(out.splitlines()) == 10


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize("typed, expected", [
    ("mindarmour led", "ledger"), ("mindarmour ledger me", "merge"), ("mindarmour epsilon --num", "--num-samples"),
    ("mindarmour ledger show a.ckpt --stat", "--statement")])
def test_bash_completes_commands_and_flags(capsys, typed, expected):
    script = call(capsys, "completion", "bash")[1]
    words = typed.split()
    asked = f'{script}\nCOMP_WORDS=({typed}); COMP_CWORD={len(words) - 1}; _mindarmour; echo "${{COMPREPLY[@]}}"'
    result = subprocess.run(["bash", "-c", asked], capture_output=True, text=True, timeout=60, check=True)
    assert result.stdout.split() == [expected]


def test_help_shows_examples_that_are_valid(capsys):
    for command in ("epsilon", "calibrate", "plan"):
        _, out, _ = call(capsys, command, "--help")
        lines = [line.strip() for line in out.partition("examples:")[2].splitlines() if line.strip()]
        assert lines
        for line in lines:
            arguments = cli.build_parser().parse_args(shlex.split(line)[1:])
            assert arguments.command == command


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_colours_are_for_terminals_only(capsys, monkeypatch):
    run = [str(argument) for argument in (*EPSILON, "--noise-multiplier", 1.1, "--steps", 10)]
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    for form in ([], ["--statement", "text"]):
        assert "\x1b" not in call(capsys, *run, *form)[1]
        for variable, coloured in ((None, True), ("NO_COLOR", False)):
            if variable:
                monkeypatch.setenv(variable, "1")
            terminal = Terminal()
            monkeypatch.setattr(sys, "stdout", terminal)
            assert cli.main([*run, *form]) == 0
            assert ("\x1b" in terminal.getvalue()) == coloured
            monkeypatch.undo()
            monkeypatch.setenv("TERM", "xterm")


def test_long_commands_show_a_line_that_ends_before_the_answer(monkeypatch):
    both = Terminal()
    monkeypatch.setattr(sys, "stdout", both)
    monkeypatch.setattr(sys, "stderr", both)
    with progress.shown(patience=0.01):
        progress.stage("3 of 8 runs")
        time.sleep(0.2)
        print("answer")
    assert both.getvalue().startswith("\r\x1b[2K0 s 3 of 8 runs") and both.getvalue().endswith("\r\x1b[2Kanswer\n")
    assert sys.stdout is both


def test_quick_commands_and_pipes_show_no_line(monkeypatch, capsys):
    with progress.shown(patience=0.01):
        time.sleep(0.1)
    assert capsys.readouterr() == ("", "")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert cli.main([str(argument) for argument in (*EPSILON, "--noise-multiplier", 1.1, "--steps", 10)]) == 0
    assert terminal.getvalue() == ""


def test_answers_on_a_system_that_can_write_nowhere(tmp_path, forks):
    environment = {"PATH": os.environ["PATH"], "HOME": "/proc/none", "MINDARMOUR_HOME": "/proc/none",
                   "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(Path(mindarmour.__file__).parents[1])}
    for arguments in (("--version",), ("ledger", "show", str(forks[0]))):
        done = subprocess.run([sys.executable, "-m", "mindarmour", *arguments], cwd="/proc", env=environment,
                              capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0 and not done.stderr
