"""The worked example of docs/custom_layers.md runs as it is printed there."""
import importlib
import re
import sys
from pathlib import Path

import mindspore as ms
import pytest

PAGE = Path(__file__).resolve().parents[5] / "docs" / "custom_layers.md"


@pytest.mark.parametrize("mode", [ms.GRAPH_MODE, ms.PYNATIVE_MODE])
def test_the_worked_example(tmp_path, monkeypatch, mode):
    code = re.search(r"<!-- example -->\n```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL).group(1)
    script = tmp_path / "custom_layer_example.py"
    script.write_text(code, encoding="utf-8")  # graph mode reads the source of cells from a file
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "custom_layer_example", raising=False)
    ms.set_context(mode=mode)
    try:
        importlib.import_module("custom_layer_example")
    finally:
        ms.set_context(mode=ms.PYNATIVE_MODE)
