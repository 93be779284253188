"""Checking and translating the configuration of trained membership attacks."""
from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable
from typing import Any, Union

import numpy as np

from mindarmour.privacy.errors import UnknownMechanismError
from mindarmour.utils import _validate


def _passes(check: Callable, **limits: Any) -> Callable[[Any], bool]:
    """Whether a value passes one of the suite's own argument checks."""
    def accepts(value):
        try:
            check("value", value, **limits)
        except (TypeError, ValueError):
            return False
        return True
    return accepts


def _number(low, *, high=math.inf, closed="low"):
    left, right = "[" if closed in ("low", "both") else "(", "]" if closed in ("high", "both") else ")"
    return _passes(_validate.real, low=low, high=high, closed=closed), f"a number in {left}{low}, {high}{right}"


def _whole(low, high=None):
    return (_passes(_validate.integer, low=low, high=high),
            f"an int of at least {low}" + ("" if high is None else f", at most {high}"))


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
_SEED = _any_of(_whole(0, 2 ** 32 - 1), _NONE, _kind(np.random.RandomState, "a numpy RandomState"))
_POSITIVE = _number(0, closed="neither")
_SHARE = _number(0, high=1, closed="both")
_DECAY = _number(0, high=1)
_INSIDE = _number(0, high=1, closed="neither")
_FRACTION = _passes(_validate.real, low=0, high=1, closed="high", strict_float=True), "a float in (0, 1]"
_FRACTION_BELOW_1 = _passes(_validate.real, low=0, high=1, strict_float=True), "a float in (0, 1)"


def _is_metric(value):
    from sklearn.neighbors import VALID_METRICS
    return isinstance(value, str) and value != "precomputed" and value in {*VALID_METRICS["brute"], "minkowski"}


def _is_layers(value):
    return isinstance(value, (tuple, list)) and len(value) > 0 and all(_whole(1)[0](item) for item in value)


_RULES = {
    "knn": {
        "n_neighbors": _whole(1),
        "weights": _any_of(_names("uniform", "distance"), _NONE, _FUNCTION),
        "algorithm": _names("auto", "ball_tree", "kd_tree", "brute"),
        "leaf_size": _whole(1),
        "p": _POSITIVE,
        "metric": _any_of((_is_metric, "the name of a distance that scikit-learn knows"), _FUNCTION),
        "metric_params": _any_of(_NONE, _kind(dict, "a dict")),
    },
    "lr": {
        "penalty": _any_of(_names("l1", "l2", "elasticnet", "none"), _NONE),
        "dual": _BOOL,
        "tol": _POSITIVE,
        "C": _POSITIVE,
        "fit_intercept": _BOOL,
        "intercept_scaling": _POSITIVE,
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
        "learning_rate_init": _POSITIVE,
        "power_t": _number(0),
        "max_iter": _whole(1),
        "shuffle": _BOOL,
        "random_state": _SEED,
        "tol": _POSITIVE,
        "verbose": _any_of(_BOOL, _whole(0)),
        "warm_start": _BOOL,
        "momentum": _SHARE,
        "nesterovs_momentum": _BOOL,
        "early_stopping": _BOOL,
        "validation_fraction": _INSIDE,
        "beta_1": _DECAY,
        "beta_2": _DECAY,
        "epsilon": _POSITIVE,
        "n_iter_no_change": _whole(1),
        "max_fun": _whole(1),
    },
    "rf": {
        "n_estimators": _whole(1),
        "criterion": _names("gini", "entropy", "log_loss"),
        "max_depth": _any_of(_NONE, _whole(1)),
        "min_samples_split": _any_of(_whole(2), _FRACTION),
        "min_samples_leaf": _any_of(_whole(1), _FRACTION_BELOW_1),
        "min_weight_fraction_leaf": _number(0, high=0.5, closed="both"),
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


def verify_config_params(attack_config: Union[list, tuple]) -> None:
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


def method_of(config: dict) -> str:
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


def plain_values(candidates: Iterable) -> list:
    """Candidates as a list, NumPy scalars as Python values."""
    return [value.item() if isinstance(value, np.generic) else value for value in candidates]


def grid_of(method: str, params: dict) -> list[dict]:
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
