"""Every reference value of the bounds, by the name and the keywords of its row."""
import csv
import json
from pathlib import Path

import pytest

from mindarmour.privacy.accounting.accountant import ESTIMATE, LOWER_BOUND
from mindarmour.privacy.auditing import bounds

ROWS = list(csv.DictReader(Path(__file__).with_name("auditing_oracle.csv").open()))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['quantity']}-{row['inputs']}")
def test_reference_value(row):
    value = getattr(bounds, row["quantity"])(**json.loads(row["inputs"]))
    assert value == pytest.approx(float(row["value"]), rel=float(row["tolerance"]), abs=0)


def test_all_rows_are_read():
    assert len(ROWS) == 93


@pytest.mark.parametrize("name,inputs,kind", [
    ("one_run_epsilon", {"canaries": 100, "guesses": 50, "right": 40}, LOWER_BOUND),
    ("one_run_fdp_epsilon", {"canaries": 100, "guesses": 50, "right": 40}, LOWER_BOUND),
    ("epsilon_from_rates", {"tp": 9, "n_in": 10, "fp": 1, "n_out": 10}, LOWER_BOUND),
    ("anytime_epsilon", {"sequence": "+20"}, LOWER_BOUND),
    ("one_run_mu_epsilon", {"canaries": 100, "guesses": 50, "right": 40}, ESTIMATE),
    ("epsilon_two_gaussians", {"mean_out": 0.0, "sd_out": 1.0, "mean_in": 1.0, "sd_in": 1.0, "delta": 1e-5}, ESTIMATE),
])
def test_each_epsilon_says_what_it_is(name, inputs, kind):
    value = getattr(bounds, name)(**inputs)
    assert value.kind == kind
    assert (value.spent().kind, value.spent().accountant, value.spent().epsilon) == (kind, "audit", float(value))
