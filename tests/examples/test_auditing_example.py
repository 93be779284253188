"""The auditing example at smoke size: the true run stands, a planted bug is contradicted in the report."""
import json

import mindspore as ms
import pytest

from examples.privacy.auditing import lenet5_audit


@pytest.mark.slow
@pytest.mark.parametrize("arguments,verdict", [(["--language", "zh"], "not contradicted"),
                                               (["--plant", "noise"], "contradicted")])
def test_example_audits_and_reports(arguments, verdict, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MINDARMOUR_HOME", str(tmp_path / "home"))
    try:
        result = lenet5_audit.main(["--smoke", "--output", str(tmp_path / "audit.html"), *arguments])
    finally:
        ms.set_context(mode=ms.PYNATIVE_MODE)
    assert json.loads((tmp_path / "audit.json").read_text())["verdict"]["verdict"] == verdict
    assert result.verdict == verdict and f"verdict: {verdict}" in capsys.readouterr().out
