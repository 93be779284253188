"""The schedule against the documented formula and the documented rule for when masks are due."""
import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mindarmour.privacy.sup_privacy.sup_ctrl.schedule import SuppressSchedule

DOCUMENTED = SuppressSchedule(end_epoch=10, batch_num=1875, start_epoch=3, mask_times=1000, sparse_end=0.95,
                              sparse_start=0.0)
SMALL = {"end_epoch": 4, "batch_num": 10, "start_epoch": 2, "mask_times": 6, "sparse_end": 0.9, "sparse_start": 0.1}

plans = st.builds(
    lambda start, more, batch_num, times, low, rise: SuppressSchedule(start + more, batch_num, start, times, low + rise,
                                                                      low),
    st.integers(1, 5), st.integers(0, 5), st.integers(1, 40), st.integers(1, 300), st.floats(0, 0.4),
    st.floats(0.1, 0.5))


def reference(plan, step):
    """The documented formula, one step at a time."""
    first, total = (plan.start_epoch - 1) * plan.batch_num + 1, (plan.end_epoch - plan.start_epoch + 1) * plan.batch_num
    value = plan.sparse_end + (plan.sparse_start - plan.sparse_end) * (1 - (step - first) / total) ** 3
    return min(max(value, plan.sparse_start), plan.sparse_end)


def walk(plan):
    """The documented rule, walked step by step: due once an interval has passed, and a last time."""
    interval = (plan.end_epoch - plan.start_epoch + 1) * plan.batch_num / plan.mask_times
    previous, due = None, []
    for step in range(1, plan.end_epoch * plan.batch_num + 1):
        epoch, in_epoch = (step - 1) // plan.batch_num + 1, (step - 1) % plan.batch_num + 1
        is_last = epoch == plan.end_epoch and in_epoch == max(1, plan.batch_num - 2)
        if epoch >= plan.start_epoch and (previous is None or step >= previous + interval):
            due.append(step)
            previous = step
        elif is_last:
            due.append(step)
        if is_last:
            return due
    return due


@given(plans)
@settings(max_examples=60, deadline=None)
def test_formula_at_every_step(plan):
    steps = np.arange(plan.first_step, plan.last_step)
    np.testing.assert_allclose(plan.sparsity(steps), [reference(plan, step) for step in steps], rtol=1e-12, atol=1e-15)


@given(plans)
@settings(max_examples=60, deadline=None)
def test_due_steps_follow_the_rule(plan):
    due = walk(plan)
    assert plan.update_steps().tolist() == due
    steps = np.arange(0, plan.end_epoch * plan.batch_num + 3)
    assert [plan.updates_until(int(step)) for step in steps] == [sum(d <= step for d in due) for step in steps]


@given(plans)
@settings(max_examples=60, deadline=None)
def test_grows_and_ends_at_the_target(plan):
    values = plan.sparsity(np.arange(plan.first_step, plan.end_epoch * plan.batch_num + 20))
    assert np.all(np.diff(values) >= 0)
    assert values[-1] == plan.sparse_end == plan.sparsity(plan.last_step)
    assert plan.sparsity(plan.first_step - 1) == 0


def test_documented_settings():
    assert (DOCUMENTED.first_step, DOCUMENTED.last_step, DOCUMENTED.total, DOCUMENTED.stride) == (
        3751, 18748, 15000, 15)
    assert len(DOCUMENTED.update_steps()) == 1001
    assert float(DOCUMENTED.sparsity(3751 + 7500)) == pytest.approx(0.95 * 7 / 8)


@pytest.mark.parametrize("name", ["end_epoch", "batch_num", "start_epoch", "mask_times"])
@pytest.mark.parametrize(("value", "error"), [(0, ValueError), (-1, ValueError), (2.0, TypeError), ("2", TypeError),
                                              (None, TypeError), (True, ValueError), (float("nan"), TypeError)])
def test_refuses_bad_counts(name, value, error):
    with pytest.raises(error, match=name):
        SuppressSchedule(**{**SMALL, name: value})


@pytest.mark.parametrize(("name", "value", "error"), [
    ("sparse_end", 0.0, ValueError), ("sparse_end", 1.0, ValueError), ("sparse_end", float("nan"), ValueError),
    ("sparse_end", float("inf"), ValueError), ("sparse_end", 1, TypeError), ("sparse_end", "0.5", TypeError),
    ("sparse_start", -0.1, ValueError), ("sparse_start", 0.9, ValueError), ("sparse_start", float("nan"), ValueError),
    ("sparse_start", None, TypeError)])
def test_refuses_bad_fractions(name, value, error):
    with pytest.raises(error, match=name):
        SuppressSchedule(**{**SMALL, name: value})


def test_refuses_a_start_behind_the_end():
    with pytest.raises(ValueError, match="start_epoch=5 and end_epoch=4"):
        SuppressSchedule(**{**SMALL, "start_epoch": 5})


def test_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        DOCUMENTED.sparse_end = 0.5
