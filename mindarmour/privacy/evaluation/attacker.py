"""Classifiers that tell members from non-members: KNN, logistic regression, MLP and random forest."""
from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from mindarmour.privacy.evaluation._check_config import grid_of, method_of
from mindarmour.utils import _validate

_FOLDS = 3
_FOREST_DRAWS = 7


def _get_attack_model(features: np.ndarray, labels: np.ndarray, config: dict, n_jobs: int = -1) -> Any:
    """The best classifier of a parameter search, fitted on all of the data.

    Args:
        features (numpy.ndarray): Features [n, d].
        labels (numpy.ndarray): 1 for members, 0 for non-members [n].
        config (dict): {"method": "knn" | "lr" | "mlp" | "rf" in any case, "params": candidate values}.
        n_jobs (int): Parallel jobs, -1 for all processors.

    Returns:
        Fitted search object of scikit-learn, with `predict` and `predict_proba`. Features are standardised inside.

    Raises:
        NameError: If the method is unknown.
    """
    method = method_of(config)
    search = search_of(method, config["params"], len(labels), _validate.integer("n_jobs", n_jobs))
    return _fit_quietly(search, features, labels)


def refitted(search: Any, features: np.ndarray, labels: np.ndarray) -> Any:
    """The classifier that a search chose, fitted on other data."""
    from sklearn.base import clone
    return _fit_quietly(clone(search.best_estimator_), features, labels)


def _fit_quietly(estimator, features, labels):
    with warnings.catch_warnings():
        # not converged within the documented 300 iterations: the search still compares the candidates fairly
        warnings.filterwarnings("ignore", message=".*(converge|Maximum iterations|max_iter).*")
        # older and newer spellings of the same solver settings
        warnings.filterwarnings("ignore", category=FutureWarning, module="sklearn")
        return estimator.fit(features, labels)


def search_of(method: str, params: dict, num_records: int, n_jobs: int) -> Any:
    """Unfitted parameter search over a standardising pipeline."""
    from sklearn.model_selection import GridSearchCV, ParameterGrid, RandomizedSearchCV, StratifiedKFold
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler
    grids = [{f"attack__{name}": values for name, values in grid.items()} for grid in grid_of(method, params)]
    pipeline = Pipeline([("scale", StandardScaler()), ("attack", _classifier(method))])
    folds = StratifiedKFold(min(_FOLDS, max(2, num_records // 2)), shuffle=True, random_state=0)
    shared = {"cv": folds, "n_jobs": n_jobs, "error_score": "raise"}
    if method == "rf":
        draws = min(_FOREST_DRAWS, len(ParameterGrid(grids)))
        return RandomizedSearchCV(pipeline, grids, n_iter=draws, random_state=0, **shared)
    return GridSearchCV(pipeline, grids, **shared)


def _classifier(method):
    """The classifier with the documented defaults, seeded."""
    if method == "knn":
        from sklearn.neighbors import KNeighborsClassifier
        return KNeighborsClassifier()
    if method == "lr":
        from sklearn.linear_model import LogisticRegression
        return LogisticRegression(C=1.0, max_iter=300, random_state=0)
    if method == "mlp":
        from sklearn.neural_network import MLPClassifier
        return MLPClassifier(random_state=1, max_iter=300)
    from sklearn.ensemble import RandomForestClassifier
    return RandomForestClassifier(max_depth=2, random_state=0)
