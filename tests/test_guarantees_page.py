"""Every test that docs/guarantees.md names exists, and every claim names one."""
import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)))


@pytest.mark.parametrize("file, name", NAMED)
def test_named_tests_exist(file, name):
    nodes = ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8")))
    assert name in {node.name for node in nodes if isinstance(node, ast.FunctionDef)}


def test_every_claim_names_a_test():
    claims = [line for line in PAGE.splitlines() if line.startswith("| ") and "guarded by |" not in line]
    assert len(claims) > 40
    assert not [claim for claim in claims if "::" not in claim]
