"""Every operator of the compiled steps is documented for Ascend, or reviewed with a fallback."""
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tools import ascend_report

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """(rows, page, exit code) of the report, compiled now in a process of its own."""
    folder = tmp_path_factory.mktemp("ascend")
    (folder / "verdicts.json").write_text("[]")
    command = [sys.executable, "-m", "tools.ascend_report", "--output", str(folder / "ascend.md"),
               "--json", str(folder / "rows.json"), "--verdicts", str(folder / "verdicts.json")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500, check=False,
                          env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert (folder / "rows.json").exists(), done.stderr[-3000:]
    return json.loads((folder / "rows.json").read_text()), (folder / "ascend.md").read_text(), done.returncode


@pytest.fixture(scope="module")
def reader():
    """The report's functions."""
    return ascend_report


@pytest.mark.slow
def test_no_operator_is_unexplained(report):
    rows, page, code = report
    assert code == 0 and "## Unexplained\n\nNone." in page
    assert not [row for row in rows if row["status"] == "unexplained"]
    names = {row["name"] for row in rows}
    # the graphs were really read: what each subject must contain
    assert {"MatMul", "Conv2D", "SparseSoftmaxCrossEntropyWithLogits", "ApplyMomentum", "Adam", "SGD",
            "LayerNormGrad", "GroupNormGrad", "AllReduce", "Assign", "IsFinite"} <= names


@pytest.mark.slow
def test_no_float64_no_dynamic_shape_and_groups_only_where_a_fallback_is_stated(report):
    rows, _, _ = report
    for row in rows:
        assert not set(row["dtypes"]) & {"Float64", "Complex64", "Complex128"}, row
        assert not row["dynamic"], row
        assert all(subject == "DPModel, vmap engine: convolution" for subject in row["grouped"]), row


@pytest.mark.slow
def test_page_in_the_repository_lists_what_the_steps_run(report):
    rows, _, _ = report
    page = (ROOT / "docs" / "ascend.md").read_text()
    missing = [row["name"] for row in rows if row["status"] != "structure" and f"`{row['name']}`" not in page]
    assert not missing, "run `make ascend-check`"
    assert "## Unexplained\n\nNone." in page


NODE = ("  %0(a) = {name}(%1, %2) {{instance name: op}} primitive_attrs: {{group: I64({group})}}\n"
        "      : (<Tensor[{dtype}], ({first})>, <Tensor[{dtype}], ({second})>) -> (<Tensor[{dtype}], (1)>)\n")


def operator_of(reader, **settings):
    defaults = {"name": "Conv2D", "group": 1, "dtype": "Float32", "first": "8, 4, 5, 5", "second": "6, 4, 3, 3"}
    operators = {}
    reader.read_graph(NODE.format(**{**defaults, **settings}), "subject", operators)
    (operator,) = operators.values()
    return operator


@pytest.mark.parametrize("settings, status", [
    ({}, "documented"),
    ({"dtype": "Float64"}, "unexplained"),
    ({"first": "-1, 4, 5, 5"}, "unexplained"),
    ({"name": "NoSuchOperator"}, "unexplained"),
    ({"group": 2, "second": "6, 2, 3, 3"}, "unexplained"),
    ({"group": 4, "second": "8, 1, 3, 3"}, "unexplained"),
    ({"group": 4, "second": "4, 1, 3, 3"}, "documented"),
    ({"name": "PrimFunc_TanhGrad"}, "reviewed"),
    ({"name": "Load"}, "structure")])
def test_report_finds_what_ascend_refuses(reader, settings, status):
    assert reader.verdict(operator_of(reader, **settings), reader.documentation())[0] == status


def test_a_reviewed_operator_needs_a_documented_source(reader, monkeypatch):
    monkeypatch.setitem(reader.REVIEWED, "TanhGrad", ("nn.NoSuchLayer", "its gradient"))
    assert reader.verdict(operator_of(reader, name="TanhGrad"), reader.documentation())[0] == "unexplained"


def test_examples_choose_the_device_by_their_flag_alone():
    for path in (ROOT / "examples").rglob("*.py"):
        text = path.read_text()
        assert not re.search(r"set_device\(\s*[\"']|device_target\s*=\s*[\"'](Ascend|GPU)[\"']\s*\)", text), path
