"""The benchmark of the repository runs, and its figures are what its tables say they are."""
import json

import mindspore as ms
import numpy as np
import pytest

from benchmarks import step_time, timing


def test_ratios_are_those_of_the_rounds():
    times = {"plain": np.array([1.0, 2.0, 4.0]), "ghost": np.array([2.0, 2.0, 6.0])}
    found = timing.summary(times, "plain")
    assert found["plain"]["ratio"] == found["plain"]["min_ratio"] == 1
    assert (found["ghost"]["ratio"], found["ghost"]["min_ratio"]) == (1.5, 2.0)
    assert (found["ghost"]["median_ms"], found["ghost"]["min_ms"]) == (2000, 2000)


def test_variants_take_turns():
    calls = []
    found = timing.interleaved({name: lambda name=name: calls.append(name) for name in "ab"}, rounds=3, warmup=1)
    assert calls == list("abababab") and [len(found[name]) for name in "ab"] == [3, 3]


@pytest.mark.slow
def test_step_time_runs(tmp_path, capsys):
    target = tmp_path / "result.json"
    try:
        results = step_time.main(["--networks", "mlp-64", "--batches", "8", "--engines", "plain", "ghost",
                                  "--rounds", "2", "--starts", "1", "--json", str(target)])
    finally:
        ms.set_context(mode=ms.PYNATIVE_MODE)
    assert json.loads(target.read_text())["results"] == results
    assert [r["engine"] for r in results] == ["plain", "ghost"]
    assert all(r["first_call_s"] > 0 and r["peak_mb"] > r["added_mb"] > 0 and r["median_ms"] > 0 for r in results)
    assert "| mlp-64 | 8 | ghost |" in capsys.readouterr().out
