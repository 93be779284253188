"""The documented argument checks: what they return, what they raise."""
import math

import numpy as np
import pytest

from mindarmour.utils import _check_param as param


@pytest.mark.parametrize("call, value", [
    (lambda v: param.check_param_type("p", v, str), "a"),
    (lambda v: param.check_value_type("p", v, int), 1),
    (lambda v: param.check_param_multi_types("p", v, [int, float]), 1.5),
    (lambda v: param.check_int_positive("p", v), 3),
    (lambda v: param.check_value_positive("p", v), 0.1),
    (lambda v: param.check_value_non_negative("p", v), 0),
    (lambda v: param.check_param_in_range("p", v, 0, 1), 0.5),
    (lambda v: param.check_model("p", v, dict), {}),
    (lambda v: param.check_param_bounds("p", v), (0, 1)),
    (param.check_norm_level, "linf"),
    (param.check_norm_level, np.inf),
])
def test_returns_what_it_checks(call, value):
    assert call(value) is value


@pytest.mark.parametrize("call, error", [
    (lambda: param.check_param_type("p", 1, str), TypeError),
    (lambda: param.check_param_multi_types("p", "1", [int, float]), TypeError),
    (lambda: param.check_int_positive("p", True), ValueError),
    (lambda: param.check_int_positive("p", 0), ValueError),
    (lambda: param.check_int_positive("p", 1.0), TypeError),
    (lambda: param.check_value_positive("p", 0), ValueError),
    (lambda: param.check_value_positive("p", math.nan), ValueError),
    (lambda: param.check_value_positive("p", "1"), TypeError),
    (lambda: param.check_value_non_negative("p", -1e-9), ValueError),
    (lambda: param.check_param_in_range("p", 1, 0, 1), ValueError),
    (lambda: param.check_param_in_range("p", math.inf, 0, math.inf), ValueError),
    (lambda: param.check_model("p", 1, dict), TypeError),
    (lambda: param.check_numpy_param("p", [1]), TypeError),
    (lambda: param.check_numpy_param("p", np.zeros((0, 2))), ValueError),
    (lambda: param.check_pair_numpy_param("p", np.ones(2), "q", np.ones(3)), ValueError),
    (lambda: param.check_equal_length("p", [1], "q", []), ValueError),
    (lambda: param.check_equal_shape("p", np.ones(2), "q", np.ones((2, 1))), ValueError),
    (lambda: param.check_param_bounds("p", (0, 1, 2)), ValueError),
    (lambda: param.check_param_bounds("p", (1, 1)), ValueError),
    (lambda: param.check_param_bounds("p", 1), TypeError),
    (lambda: param.check_norm_level("l3"), ValueError),
    (lambda: param.check_norm_level(True), ValueError),
    (lambda: param.check_inputs_labels(np.ones((2, 3)), np.ones(3)), ValueError),
    (lambda: param.check_detection_inputs(np.ones((2, 3)), np.ones(2)), TypeError),
    (lambda: param.check_detection_inputs(np.ones((2, 3)), (np.ones((2, 4)), np.ones(3))), ValueError),
])
def test_refuses(call, error):
    with pytest.raises(error):
        call()


def test_arrays_come_back_as_copies():
    a, b = np.ones(2), np.zeros(2)
    one, (two, three) = param.check_numpy_param("a", a), param.check_pair_numpy_param("a", a, "b", b)
    for copy, original in ((one, a), (two, a), (three, b)):
        np.testing.assert_array_equal(copy, original)
        assert copy is not original


def test_pairs_that_fit():
    inputs, labels = np.ones((2, 3)), np.ones(2)
    assert param.check_inputs_labels(inputs, labels) == (inputs, labels)
    assert param.check_inputs_labels((inputs, inputs), labels)[0] == (inputs, inputs)
    boxes = (np.ones((2, 4, 5)), np.ones((2, 4)))
    assert param.check_detection_inputs(inputs, boxes) == (inputs, boxes)
    assert param.check_equal_shape("a", inputs, "b", inputs) == (inputs, inputs)


@pytest.mark.parametrize("level, order", [(1, 1), ("l1", 1), (2, 2), ("L2", 2), (np.inf, np.inf),
                                          ("inf", np.inf)])
def test_normalize_value(level, order):
    value = np.random.default_rng(0).standard_normal((3, 2, 4)).astype(np.float32)
    value[1] = 0
    rows = param.normalize_value(value, level)
    assert rows.dtype == np.float32 and rows.shape == value.shape
    np.testing.assert_allclose(np.linalg.norm(rows.reshape(3, -1), order, axis=1), [1, 0, 1], rtol=1e-6)
