"""Sphinx reads this: `make docs` builds the site from the pages beside it and from the docstrings."""
from __future__ import annotations

import inspect
import os
import re
import sys
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS.parent))

from pygments.lexers.special import TextLexer
from sphinx.util.inspect import stringify_signature

import mindarmour

project = "MindArmour"
author = "The MindArmour developers"
copyright = "The MindArmour developers, Apache-2.0"
version = release = mindarmour.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
exclude_patterns = ["_build"]
myst_heading_anchors = 4
suppress_warnings = ["myst.header"]

default_role = "code"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
autodoc_member_order = "groupwise"
napoleon_numpy_docstring = False
napoleon_custom_sections = ["Guarantee", "Supported Platforms"]

html_theme = "furo"
html_title = f"MindArmour {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
copybutton_prompt_text = "$ "
copybutton_only_copy_prompt_lines = True

# files of the repository that pages link to, and the pages that show them
ELSEWHERE = {"CHANGELOG.md": "changelog", "CONTRIBUTING.md": "contributing", "README.md": "readme",
             "SECURITY.md": "security", "README.zh-CN.md": "zh/overview", "benchmarks/README.md": "reference/benchmarks",
             "examples/README.md": "examples"}
LINK = re.compile(r"\]\((?!\w+:|#|/)([^)#\s]+)(#[^)\s]*)?\)")


def resolve_links(app: Any, docname: str, source: list[str]) -> None:
    """Links to files outside of `docs` lead to the pages that show them, else to the files as downloads."""
    shown = {page: DOCS.parent / file for file, page in ELSEWHERE.items()}
    file = shown.get(docname, DOCS / f"{docname}.md")
    targets = {path: f"/{page}.md" for page, path in shown.items()}

    def resolved(match: re.Match[str]) -> str:
        target, anchor = (file.parent / match[1]).resolve(), match[2] or ""
        if target in targets:
            return f"]({targets[target]}{anchor})"
        if docname in shown and target.is_relative_to(DOCS):
            return f"](/{target.relative_to(DOCS).as_posix()}{anchor})"
        if docname in shown:
            return f"]({os.path.relpath(target, (DOCS / docname).parent)}{anchor})"
        return match[0]

    text = file.read_text(encoding="utf-8") if docname in shown else source[0]
    source[0] = LINK.sub(resolved, text.replace("%unlisted%", "\n".join(unlisted())))


def unlisted() -> list[str]:
    """Pages at the top that no table of contents names yet, so that a new page needs no entry."""
    contents = "".join(path.read_text(encoding="utf-8") for path in DOCS.rglob("index.md"))
    return [f"/{path.stem}" for path in sorted(DOCS.glob("*.md"))
            if path.stem != "index" and not re.search(rf"^/{path.stem}$", contents, re.M)]


def escape_markup(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Docstrings are plain text with code between backticks: stars and bars are characters, not markup."""
    lines[:] = [line if line.lstrip().startswith((">>>", "...")) else
                "".join(part if part.startswith("`") else re.sub(r"([*|])", r"\\\1", part)
                        for part in re.split(r"(`+[^`]+`+)", line)) for line in lines]


def signature_of_init(app: Any, what: str, name: str, obj: Any, *_: Any) -> Any:
    """MindSpore's cells hide the arguments of their constructor behind a `__new__` that takes any."""
    if what != "class" or not any(base.__name__ == "Cell" for base in obj.__mro__):
        return None
    init = inspect.signature(obj.__init__)
    arguments = [parameter for parameter in init.parameters.values() if parameter.name != "self"]
    return stringify_signature(init.replace(parameters=arguments, return_annotation=inspect.Signature.empty)), None


def setup(app: Any) -> None:
    """What Sphinx calls."""
    app.add_lexer("mermaid", TextLexer)
    app.connect("autodoc-process-signature", signature_of_init)
    app.connect("source-read", resolve_links)
    app.connect("autodoc-process-docstring", escape_markup, priority=100)
