"""The course of a training: rows by epoch, pictures, and what trackers are told."""
import sys
from types import SimpleNamespace

import pytest
from small_models import dataset_of, model_of
from small_networks import batch_for, dense

from mindarmour.privacy.diff_privacy import PoissonSampler, RDPMonitor, TrainingCurve
from mindarmour.privacy.diff_privacy.monitor.curve import draw


def test_a_row_an_epoch_with_what_was_spent(tmp_path):
    columns = tuple(column.asnumpy() for column in batch_for("dense", 64))
    monitor, told = RDPMonitor(64, 8, target_delta=1e-5, max_eps=None), []
    picture = tmp_path / "folder" / "curve.png"
    curve = TrainingCurve(str(picture), monitor, tracker=lambda numbers, epoch: told.append((epoch, numbers)))
    model = model_of(dense(), 2.0)
    model.train(3, PoissonSampler(8).dataset(columns), callbacks=[monitor, curve])
    assert [row["epoch"] for row in curve.rows] == [1, 2, 3]
    epsilons = [row["epsilon"] for row in curve.rows]
    assert epsilons == sorted(set(epsilons)) and epsilons[-1] == monitor.spent().epsilon
    assert [(row["epoch"], row["loss"]) for row in curve.rows] == [(epoch, row["loss"]) for epoch, row in told]
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_metrics_of_fit_are_rows_too():
    model, curve = model_of(dense(), 2.0, metrics={"loss"}), TrainingCurve()
    data = dataset_of(batch_for("dense", 64))
    model.fit(2, data, data, callbacks=[curve])
    assert len(curve.rows) == 2 and set(curve.rows[-1]) > {"epoch", "loss"}


@pytest.mark.parametrize("name, start", [("a.png", b"\x89PNG"), ("a.svg", b"<?xml"), ("a.html", b"<!doctype html>")])
def test_pictures(name, start, tmp_path):
    draw([{"epoch": 1, "loss": 2.0, "epsilon": 0.5, "delta": 1e-5}, {"epoch": 2, "loss": 1.0, "Accuracy": 0.5}],
         tmp_path / name)
    content = (tmp_path / name).read_bytes()
    assert content.startswith(start) and [file.name for file in tmp_path.iterdir()] == [name]


def test_trackers_by_name(monkeypatch):
    calls = []
    for name, function in (("mlflow", "log_metrics"), ("swanlab", "log")):
        module = SimpleNamespace(**{function: lambda row, step: calls.append((row, step))}, __spec__=SimpleNamespace())
        monkeypatch.setitem(sys.modules, name, module)
        TrainingCurve(tracker=name)._log({"loss": 1.0}, 4)
    assert calls == [({"loss": 1.0}, 4)] * 2
    monkeypatch.setitem(sys.modules, "swanlab", None)
    monkeypatch.delitem(sys.modules, "mlflow")


def test_what_cannot_work_is_refused_at_once(monkeypatch):
    with pytest.raises(ValueError, match="path must end in"):
        TrainingCurve("curve.jpeg")
    with pytest.raises(ValueError, match="tracker must be"):
        TrainingCurve(tracker="notebook")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for arguments in ({"path": "curve.png"}, {"tracker": "mlflow"}):
        with pytest.raises(ImportError, match="not installed"):
            TrainingCurve(**arguments)
