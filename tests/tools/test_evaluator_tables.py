"""The tables show the scenes and attacks of the tests."""
import pytest

from tools import evaluator_tables


@pytest.mark.slow
def test_null_table_lists_the_attack_asked_for():
    lines = evaluator_tables.null_table(["Loss"]).splitlines()
    assert len(lines) == 3 and lines[2].startswith("| Loss | 0.")
    # as the contract of attacks asserts
    assert abs(float(lines[2].split("|")[4].split()[0])) < 4
