"""The table of costs in the documentation follows from the stated formulas."""
from pathlib import Path

import pytest

from tools import scaling_table

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture
def costs():
    return scaling_table


def test_table_in_the_documentation_is_the_scripts(costs):
    assert costs.table() in (DOCS / "distributed.md").read_text()


def test_formulas(costs):
    assert costs.sum_seconds(10 ** 9, 1) == 0
    # two devices send each element once; eight buckets of 2 messages
    assert costs.sum_seconds(2 ** 27, 2) == pytest.approx(4 * 2 ** 27 / 25e9 + 8 * 2 * 5e-6)
    assert costs.noise_seconds(39 * 10 ** 6) == pytest.approx(1 + 4 * 39e6 / 16e9)
    assert costs.noise_seconds(39 * 10 ** 6, 0.5) == pytest.approx(0.5 + 4 * 39e6 / 16e9)


@pytest.mark.parametrize("seconds, text", [(0, "0"), (2.6e-4, "260 µs"), (0.0131, "13 ms"), (25.9, "26 s")])
def test_durations(costs, seconds, text):
    assert costs.duration(seconds) == text
