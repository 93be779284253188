"""Chinese pages say what their English pages say: the same blocks in the same order, and the same figures."""
import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CONCEPTS = [f"docs/concepts/{name}.md" for name in
            ("epsilon", "neighbours", "sampling", "clipping", "composition", "attacks")]
PAGES = {"README.zh-CN.md": ["README.md"], "docs/zh/quick_start.md": ["docs/tutorials/first_model.md"],
         "docs/zh/concepts.md": CONCEPTS, "docs/zh/command_line.md": ["docs/reference/command_line.md"],
         "docs/zh/report.md": ["docs/tutorials/audit_and_report.md"],
         "docs/zh/migration.md": ["docs/migration/from_mindarmour.md"]}
BLOCK = re.compile(r"^```.*?^```$", re.M | re.S)
# what stands between backticks and where links lead is looked at by itself; numbers are those that a reader sees
CODE, TARGET, NUMBER = re.compile(r"`[^`]+`"), re.compile(r"\]\([^)]*\)"), re.compile(r"\d+(?:[.,]\d+)*(?:e-?\d+)?")


def text_of(files):
    return "\n".join((ROOT / file).read_text(encoding="utf-8") for file in files)


def prose(text):
    return TARGET.sub("]", CODE.sub("", BLOCK.sub("", text)))


@pytest.mark.parametrize("chinese, english", PAGES.items())
def test_blocks_are_those_of_the_english_page(chinese, english):
    assert BLOCK.findall(text_of([chinese])) == BLOCK.findall(text_of(english))


@pytest.mark.parametrize("chinese, english", PAGES.items())
def test_figures_are_those_of_the_english_page(chinese, english):
    ours, theirs = (Counter(NUMBER.findall(prose(text_of(files)))) for files in ([chinese], english))
    assert ours - theirs == Counter() and theirs - ours == Counter()


@pytest.mark.parametrize("chinese, english", PAGES.items())
def test_names_in_code_are_those_of_the_english_page(chinese, english):
    ours, theirs = ({" ".join(code.split()) for code in CODE.findall(BLOCK.sub("", text_of(files)))}
                    for files in ([chinese], english))
    assert ours == theirs


def test_every_chinese_page_is_compared():
    known = {"docs/zh/index.md", "docs/zh/overview.md", *PAGES}  # a list of pages, and where the site shows the README
    assert {path.relative_to(ROOT).as_posix() for path in (ROOT / "docs" / "zh").glob("*.md")} <= known
