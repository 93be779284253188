"""The script for the first run on a device, on a CPU."""
from examples.privacy.ascend import first_run


def test_first_run_finds_everything_right(capsys):
    rows = dict(first_run.main(["--smoke"]))
    assert not [value for value in rows.values() if "WRONG" in value]
    assert rows["precision in force"] == "float32"
    assert "Everything is as it must be" in capsys.readouterr().out


def test_first_run_sees_noise_of_another_scale(monkeypatch):
    class Quiet(first_run.DPModel):
        def __init__(self, **settings):
            settings["noise_mech"] = first_run.NoiseMechanismsFactory.create("Gaussian", first_run.BOUND, 1.4)
            super().__init__(**settings)

    monkeypatch.setattr(first_run, "DPModel", Quiet)
    assert "WRONG" in dict(first_run.noise(4))["noise of a private step over the stated scale"]


def test_versions_of_cann_are_compared(monkeypatch, tmp_path):
    monkeypatch.setattr(first_run.ms, "__version__", "2.9.0")
    monkeypatch.setenv("ASCEND_HOME_PATH", str(tmp_path))
    row = "CANN for MindSpore 2.9"
    assert dict(first_run.software())[row].startswith("no CANN found")
    for version, expected in (("8.5.0", "listed"), ("9.1.0", "not listed"), ("18.5.0", "not listed")):
        (tmp_path / "version.cfg").write_text(f"# version: 1.0\nruntime_running_version=[{version}]\n")
        assert dict(first_run.software())[row].startswith(expected), version
