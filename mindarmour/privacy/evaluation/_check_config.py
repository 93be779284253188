"""Checking and translating the configuration of trained membership attacks."""
from __future__ import annotations

import inspect
import math
import numbers

import numpy as np

from mindarmour.privacy.errors import UnknownMechanismError
from mindarmour.utils import _validate


def _number(low, *, high=math.inf, open_low=False):
    def accepts(value):
        above = isinstance(value, numbers.Real) and (value > low if open_low else value >= low)
        return above and not isinstance(value, bool) and value <= high and math.isfinite(value)
    return accepts, f"a number {'above' if open_low else 'of at least'} {low}" + (f", at most {high}" * (high < 1e9))


def _whole(low):
    def accepts(value):
        return isinstance(value, numbers.Integral) and not isinstance(value, bool) and value >= low
    return accepts, f"an int of at least {low}"


def _names(*names):
    def accepts(value):
        return isinstance(value, str) and value in names
    return accepts, "one of " + ", ".join(map(repr, names))


def _kind(kind, text):
    return (lambda value: isinstance(value, kind)), text


def _any_of(*rules):
    return (lambda value: any(accepts(value) for accepts, _ in rules)), " or ".join(text for _, text in rules)


_NONE = (lambda value: value is None), "None"
_BOOL = _kind((bool, np.bool_), "a bool")
_FUNCTION = callable, "a function"
_SEED = _any_of(_whole(0), _NONE, _kind(np.random.RandomState, "a numpy RandomState"))
_SHARE = _number(0, high=1)


def _is_fraction(value):
    return isinstance(value, numbers.Real) and not isinstance(value, numbers.Integral) and 0 < value <= 1


_FRACTION = _is_fraction, "a float in (0, 1]"


def _is_layers(value):
    return isinstance(value, (tuple, list)) and len(value) > 0 and all(_whole(1)[0](item) for item in value)


_RULES = {
    "knn": {
        "n_neighbors": _whole(1),
        "weights": _any_of(_names("uniform", "distance"), _NONE, _FUNCTION),
        "algorithm": _names("auto", "ball_tree", "kd_tree", "brute"),
        "leaf_size": _whole(1),
        "p": _number(0, open_low=True),
        "metric": _any_of(_kind(str, "the name of a distance"), _FUNCTION),
        "metric_params": _any_of(_NONE, _kind(dict, "a dict")),
    },
    "lr": {
        "penalty": _any_of(_names("l1", "l2", "elasticnet", "none"), _NONE),
        "dual": _BOOL,
        "tol": _number(0, open_low=True),
        "C": _number(0, open_low=True),
        "fit_intercept": _BOOL,
        "intercept_scaling": _number(0, open_low=True),
        "class_weight": _any_of(_names("balanced"), _NONE, _kind(dict, "a dict")),
        "random_state": _SEED,
        "solver": _names("newton-cg", "newton-cholesky", "lbfgs", "liblinear", "sag", "saga"),
    },
    "mlp": {
        "hidden_layer_sizes": _any_of((_is_layers, "a tuple of ints of at least 1"), _whole(1)),
        "activation": _names("identity", "logistic", "tanh", "relu"),
        "solver": _names("lbfgs", "sgd", "adam"),
        "alpha": _number(0),
        "batch_size": _any_of(_names("auto"), _whole(1)),
        "learning_rate": _names("constant", "invscaling", "adaptive"),
        "learning_rate_init": _number(0, open_low=True),
        "power_t": _number(0),
        "max_iter": _whole(1),
        "shuffle": _BOOL,
        "random_state": _SEED,
        "tol": _number(0, open_low=True),
        "verbose": _any_of(_BOOL, _whole(0)),
        "warm_start": _BOOL,
        "momentum": _SHARE,
        "nesterovs_momentum": _BOOL,
        "early_stopping": _BOOL,
        "validation_fraction": _number(0, high=1, open_low=True),
        "beta_1": _SHARE,
        "beta_2": _SHARE,
        "epsilon": _number(0, open_low=True),
        "n_iter_no_change": _whole(1),
        "max_fun": _whole(1),
    },
    "rf": {
        "n_estimators": _whole(1),
        "criterion": _names("gini", "entropy", "log_loss"),
        "max_depth": _any_of(_NONE, _whole(1)),
        "min_samples_split": _any_of(_whole(2), _FRACTION),
        "min_samples_leaf": _any_of(_whole(1), _FRACTION),
        "min_weight_fraction_leaf": _number(0, high=0.5),
        "max_features": _any_of(_names("auto", "sqrt", "log2"), _NONE, _whole(1), _FRACTION),
        "max_leaf_nodes": _any_of(_NONE, _whole(2)),
        "min_impurity_decrease": _number(0),
        "min_impurity_split": _any_of(_NONE, _number(0)),
        "bootstrap": _BOOL,
        "n_jobs": _any_of(_NONE, (lambda value: _whole(1)[0](value) or value == -1, "an int of at least 1, or -1")),
        "random_state": _SEED,
        "verbose": _any_of(_BOOL, _whole(0)),
        "warm_start": _BOOL,
        "class_weight": _any_of(_names("balanced", "balanced_subsample"), _NONE, _kind(dict, "a dict")),
        "ccp_alpha": _number(0),
        "max_samples": _any_of(_NONE, _whole(1), _FRACTION),
    },
}


def verify_config_params(attack_config):
    """Check the configuration of `MembershipInference.train`.

    Args:
        attack_config (Union[list, tuple]): Dicts {"method": name, "params": {parameter: candidate values}}.

    Raises:
        TypeError: If the configuration is no list or tuple of dicts, or candidates are no list, tuple or ndarray.
        KeyError: If a dict has other keys than method and params, or a parameter is unknown.
        NameError: If a method is not one of knn, lr, mlp, rf (in any case).
        ValueError: If a candidate value is not allowed, or there is no candidate.
    """
    _validate.instance("attack_config", attack_config, (list, tuple))
    if not attack_config:
        raise ValueError("attack_config must name at least one attack, but it is empty.")
    for config in attack_config:
        _validate.instance("each entry of attack_config", config, dict)
        if set(config) != {"method", "params"}:
            raise KeyError(f"each entry of attack_config must have exactly the keys 'method' and 'params', but got "
                           f"{sorted(map(str, config))}.")
        _verify_params(method_of(config), config["params"])


def method_of(config):
    """The method's name in lower case."""
    method = _validate.instance("method", config["method"], str).lower()
    if method not in _RULES:
        raise UnknownMechanismError(f"method must be one of 'knn', 'lr', 'mlp', 'rf', but got {config['method']!r}.")
    return method


def _verify_params(method, params):
    _validate.instance("params", params, dict)
    for name, candidates in params.items():
        if name not in _RULES[method]:
            raise KeyError(f"params of '{method}' must be among {', '.join(_RULES[method])}, but got {name!r}.")
        _validate.instance(f"params[{name!r}]", candidates, (list, tuple, np.ndarray), "list, tuple or ndarray")
        if len(candidates) == 0:
            raise ValueError(f"params[{name!r}] must hold at least one candidate value, but it is empty.")
        accepts, text = _RULES[method][name]
        for value in plain_values(candidates):
            if not accepts(value):
                raise ValueError(f"params[{name!r}] of '{method}' must each be {text}, but got {value!r}.")


def plain_values(candidates):
    """Candidates as a list, NumPy scalars as Python values."""
    return [value.item() if isinstance(value, np.generic) else value for value in candidates]


def grid_of(method, params):
    """Parameter grids for scikit-learn: what its installed version no longer accepts is translated.

    Returns:
        list of dicts: 'penalty' becomes l1_ratio or C where scikit-learn dropped it, so one grid can become two.
    """
    grid = {name: plain_values(values) for name, values in params.items() if name != "min_impurity_split"}
    if method == "rf" and "max_features" in grid:
        grid["max_features"] = ["sqrt" if value == "auto" else value for value in grid["max_features"]]
    if method == "lr" and "penalty" in grid:
        return _penalty_grids(grid)
    return [_without_repeats(grid)]


def _penalty_grids(grid):
    from sklearn.linear_model import LogisticRegression
    penalties = [None if value == "none" else value for value in grid.pop("penalty")]
    takes_penalty = inspect.signature(LogisticRegression).parameters["penalty"].default != "deprecated"
    grids = []
    for penalty in dict.fromkeys(penalties):
        if takes_penalty:
            extra = {"penalty": [penalty], **({"l1_ratio": [0.5]} if penalty == "elasticnet" else {})}
        elif penalty is None:
            extra = {"C": [math.inf]}
        else:
            extra = {"l1_ratio": [{"l2": 0.0, "l1": 1.0, "elasticnet": 0.5}[penalty]]}
        grids.append(_without_repeats({**grid, **extra, **_solver_for(penalty, grid)}))
    return grids


def _solver_for(penalty, grid):
    """A solver that can do the penalty, where the user has not chosen one."""
    return {"solver": ["saga"]} if penalty in ("l1", "elasticnet") and "solver" not in grid else {}


def _without_repeats(grid):
    return {name: [value for index, value in enumerate(values)
                   if not any(value is other or (type(value) is type(other) and value == other)
                              for other in values[:index])]
            for name, values in grid.items()}
