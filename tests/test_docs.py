"""Documentation that runs: examples in docstrings, and links between pages."""
import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import mindarmour

ROOT = Path(__file__).resolve().parents[1]
MODULES = sorted(m.name for m in pkgutil.walk_packages(mindarmour.__path__, "mindarmour.")
                 if not m.name.endswith("__main__"))
WITH_EXAMPLES = [name for name in MODULES
                 if re.search(r"^ *>>> (?!.*doctest: \+SKIP)", Path(importlib.util.find_spec(name).origin).read_text(
                     encoding="utf-8"), re.M)]


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_in_docstrings(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    result = doctest.testmod(importlib.import_module(name), optionflags=flags)
    assert result.attempted > 0 and result.failed == 0


@pytest.mark.parametrize("page", sorted(path.relative_to(ROOT).as_posix()
                                        for pattern in ("*.md", "*/*.md", "docs/*/*.md") for path in ROOT.glob(pattern)
                                        if ".venv" not in path.parts))
def test_links_lead_somewhere(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        if "://" not in target:
            assert ((ROOT / page).parent / target).exists(), f"{page} links to {target}"
