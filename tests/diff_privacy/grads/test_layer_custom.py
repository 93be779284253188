"""The worked example of docs/custom_layers.md runs as it is printed there."""
import importlib.util
import re
from pathlib import Path

import mindspore as ms
import pytest

PAGE = Path(__file__).resolve().parents[3] / "docs" / "custom_layers.md"


@pytest.mark.parametrize("mode", [ms.GRAPH_MODE, ms.PYNATIVE_MODE])
def test_the_worked_example(tmp_path, mode):
    code = re.search(r"<!-- example -->\n```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL).group(1)
    script = tmp_path / "custom_layer_example.py"
    script.write_text(code, encoding="utf-8")  # graph mode reads the source of cells from a file
    spec = importlib.util.spec_from_file_location("custom_layer_example", script)
    ms.set_context(mode=mode)
    try:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
    finally:
        ms.set_context(mode=ms.PYNATIVE_MODE)
