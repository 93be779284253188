"""The documented argument checks, as thin faces over `mindarmour.utils._validate`.

All return what they check.
"""
import numpy as np

from mindarmour.utils import _validate as check


def check_param_type(param_name, param, param_type):
    """A value of one type, else TypeError."""
    return check.instance(param_name, param, param_type)


def check_param_multi_types(param_name, param, param_types):
    """A value of one of several types, else TypeError."""
    return check.instance(param_name, param, tuple(param_types))


check_value_type = check_param_type


def check_int_positive(param_name, param):
    """An int above zero; a bool or a number below one raises ValueError, another type TypeError."""
    check.integer(param_name, param, low=1, bool_error=ValueError)
    return param


def check_value_positive(param_name, param):
    """A finite number above zero."""
    check.real(param_name, param, low=0)
    return param


def check_value_non_negative(param_name, param):
    """A finite number of at least zero."""
    check.real(param_name, param, low=0, closed="low")
    return param


def check_param_in_range(param_name, param, lower, upper):
    """A number inside the open interval (lower, upper), else ValueError."""
    check.real(param_name, param, low=lower, high=upper)
    return param


def check_model(model_name, model, model_type):
    """A model of the right type, else TypeError."""
    return check.instance(model_name, model, model_type)


def check_numpy_param(param_name, param):
    """A copy of a non-empty array."""
    check.instance(param_name, param, np.ndarray)
    if param.size == 0:
        raise ValueError(f"{param_name} must not be empty, but has shape {param.shape}.")
    return param.copy()


def check_pair_numpy_param(inputs_name, inputs, labels_name, labels):
    """Copies of two non-empty arrays with one number of rows."""
    inputs, labels = check_numpy_param(inputs_name, inputs), check_numpy_param(labels_name, labels)
    check_equal_length(inputs_name, inputs, labels_name, labels)
    return inputs, labels


def check_equal_length(para_name1, value1, para_name2, value2):
    """Two arrays with one number of rows, else ValueError."""
    if len(value1) != len(value2):
        raise ValueError(f"{para_name1} and {para_name2} must have one length, but have {len(value1)} and "
                         f"{len(value2)}.")
    return value1, value2


def check_equal_shape(para_name1, value1, para_name2, value2):
    """Two arrays of one shape, else ValueError."""
    if value1.shape != value2.shape:
        raise ValueError(f"{para_name1} and {para_name2} must have one shape, but have {value1.shape} and "
                         f"{value2.shape}.")
    return value1, value2


def check_param_bounds(bounds_name, bounds):
    """A pair (low, high) of numbers with low < high."""
    check.instance(bounds_name, bounds, (tuple, list))
    if len(bounds) != 2:
        raise ValueError(f"{bounds_name} must be a pair (low, high), but has {len(bounds)} values.")
    low = check.real(f"{bounds_name}[0]", bounds[0])
    high = check.real(f"{bounds_name}[1]", bounds[1])
    if not low < high:
        raise ValueError(f"{bounds_name} must be (low, high) with low < high, but got {tuple(bounds)!r}.")
    return bounds


_NORM_LEVELS = {1: 1, "1": 1, "l1": 1, 2: 2, "2": 2, "l2": 2, np.inf: np.inf, "inf": np.inf, "linf": np.inf,
                "np.inf": np.inf}


def check_norm_level(norm_level):
    """A norm: 1, 2 or infinity, as a number or by name ('l2', 'inf')."""
    key = norm_level.lower() if isinstance(norm_level, str) else norm_level
    if isinstance(key, bool) or not isinstance(key, (int, float, str)) or key not in _NORM_LEVELS:
        raise ValueError(f"norm_level must be 1, 2, np.inf, 'l1', 'l2' or 'linf', but got {norm_level!r}.")
    return norm_level


def normalize_value(value, norm_level):
    """An array [B, ...] with each row divided by its norm; a row of zeros stays zero."""
    order = _NORM_LEVELS[str(check_norm_level(norm_level)).lower()]
    rows = value.reshape(len(value), -1)
    length = np.linalg.norm(rows.astype(np.float64), order, axis=1)
    length[length == 0] = 1
    return (rows / length[:, None]).reshape(value.shape).astype(value.dtype)


def check_inputs_labels(inputs, labels):
    """A batch and its labels: arrays (a tuple of arrays for several inputs) with one number of rows."""
    first = inputs[0] if isinstance(inputs, (tuple, list)) else inputs
    for item in inputs if isinstance(inputs, (tuple, list)) else (inputs,):
        check_pair_numpy_param("inputs", item, "labels", labels[0] if isinstance(labels, tuple) else labels)
    check_numpy_param("inputs", first)
    return inputs, labels


def check_detection_inputs(inputs, labels):
    """A batch and the labels of a detector: (boxes, classes), each with one row per image."""
    check.instance("labels", labels, (tuple, list))
    if len(labels) != 2:
        raise ValueError(f"labels must be a pair (boxes, classes), but has {len(labels)} items.")
    for name, item in zip(("boxes", "classes"), labels):
        first = inputs[0] if isinstance(inputs, (tuple, list)) else inputs
        check_pair_numpy_param("inputs", first, name, item)
    return inputs, labels
