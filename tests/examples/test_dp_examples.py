"""The differential-privacy examples run at smoke size, from any working folder."""
import importlib
import math
import subprocess
import sys
from pathlib import Path

import mindspore as ms
import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def in_a_scratch_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINDARMOUR_HOME", str(tmp_path / "home"))
    yield
    ms.set_context(mode=ms.PYNATIVE_MODE)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The privacy spent")
@pytest.mark.parametrize("name", ["lenet5_dp", "lenet5_dp_ada_gaussian", "lenet5_dp_ada_sgd_graph",
                                  "lenet5_dp_optimizer"])
def test_documented_example(name, tmp_path, capsys):
    module = importlib.import_module(f"examples.privacy.diff_privacy.{name}")
    epsilon, accuracy = module.main(["--smoke"])
    assert epsilon > 0 and 0.05 < accuracy <= 1
    out = capsys.readouterr().out
    assert "epoch: 1 step: 15, delta is 1e-05, eps is" in out and "zero-out, shuffle sampling" in out
    assert list((tmp_path / "trained_ckpt_file").glob("checkpoint_lenet-*1_15.ckpt"))


@pytest.mark.slow
def test_demo_prints_a_guarantee(capsys):
    epsilon, accuracy = importlib.import_module("examples.privacy.diff_privacy.demo").main(["--smoke"])
    assert math.isfinite(epsilon) and 0.05 < accuracy <= 1
    out = capsys.readouterr().out
    assert "guarantee: add-or-remove, poisson sampling, one unit = one example" in out and "Test accuracy" in out


@pytest.mark.slow
def test_custom_loop_example():
    module = importlib.import_module("examples.privacy.diff_privacy.custom_loop")
    epsilon, losses = module.main(["--smoke"])
    assert math.isfinite(epsilon) and losses[-1] < losses[0]


def test_examples_run_as_scripts_from_anywhere(tmp_path):
    script = ROOT / "examples" / "privacy" / "diff_privacy" / "lenet5_dp.py"
    done = subprocess.run([sys.executable, str(script), "--help"], cwd=tmp_path, capture_output=True, text=True,
                          check=False)
    assert done.returncode == 0 and "--data_path" in done.stdout


def test_missing_data_path_is_one_clear_error():
    with pytest.raises(FileNotFoundError, match="--data_path must be a folder"):
        importlib.import_module("examples.privacy.diff_privacy.lenet5_dp").main(["--data_path", "nowhere"])
