"""The language-model examples in their smallest size."""
import math

import pytest

from examples.privacy.language_model import fine_tune, texts, training, users


@pytest.mark.slow
def test_fine_tuning_keeps_its_budget_and_says_what_it_found(tmp_path):
    rows = fine_tune.main(["--smoke", "--epsilons", "inf", "8", "--cache", str(tmp_path), "--output",
                           str(tmp_path / "rows.json"), "--plot", str(tmp_path / "plot.png")])
    assert [row["epsilon"] for row in rows] == [math.inf, 8.0]
    assert rows[1]["spent"] <= 8.0 and rows[1]["noise"] > 0.3
    assert all(0 < row["bits"] < 8 and row["longest run"] >= 1 for row in rows)
    assert (tmp_path / "plot.png").stat().st_size > 1000


@pytest.mark.slow
def test_speakers_pay_what_is_stated_in_each_way(tmp_path):
    rows = {row["way"]: row for row in users.main(["--smoke", "--epsilons", "8", "--cache", str(tmp_path)])}
    drawn, stated, unstated = (rows[way] for way in users.WAYS)
    assert drawn["of a speaker"] <= 8.0 and stated["of a speaker"] <= 8.0 < unstated["of a speaker"]
    assert stated["noise"] > unstated["noise"]


def test_records_are_padded_behind_their_end_and_read_back():
    inputs, following = texts.encoded(["ab", "a" * 100], 8)
    assert inputs.shape == following.shape == (2, 8)
    assert texts.decoded(following[0]) == "ab" and texts.decoded(inputs[0]) == " ab"
    assert (following[1] != 0).all() and following[0, 2:].sum() == 0


def test_the_longest_run_is_found():
    assert training.longest_runs(["xxthe king of xx", "qq", ""], ["long live the king of france", "zz"]) == [12, 0, 0]
