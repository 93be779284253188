"""The documented MembershipInference: signatures, exceptions, and what it must not fake."""
import math

import mindspore.dataset as ds
import numpy as np
import pytest
from mindspore import nn
from mindspore.train import Model

from mindarmour.privacy.evaluation import MembershipInference
from mindarmour.privacy.evaluation._check_config import _RULES, grid_of, verify_config_params
from mindarmour.privacy.evaluation.attacker import _classifier, _get_attack_model
from mindarmour.privacy.evaluation.membership_inference import _eval_info, _softmax_cross_entropy

CLASSES = 4
METRICS = ["precision", "accuracy", "recall"]
KNN = [{"method": "KNN", "params": {"n_neighbors": [5, 9]}}]
ALL_CONFIG = [
    {"method": "lr", "params": {"C": np.logspace(-1, 0, 2)}},
    {"method": "knn", "params": {"n_neighbors": [3, 5]}},
    {"method": "MLP", "params": {"hidden_layer_sizes": [(8,)], "solver": ["adam"], "max_iter": [60]}},
    {"method": "rf", "params": {"n_estimators": [10], "max_features": ["auto", "sqrt"], "max_depth": [3]}},
]


class Echo(nn.Cell):
    """Logits are the input."""

    def construct(self, x):
        return 1.0 * x


def dataset(count, boost, seed, *, batch=16):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, count).astype(np.int32)
    logits = rng.normal(size=(count, CLASSES)).astype(np.float32)
    logits[np.arange(count), labels] += boost
    data = ds.NumpySlicesDataset((logits, labels), ["image", "label"], shuffle=False)
    return data.batch(batch) if batch else data


def attack_of(boost=2.0, config=KNN, members=160, others=160):
    attack = MembershipInference(Model(Echo()), n_jobs=1)
    attack.train(dataset(members, boost, 0), dataset(others, 0.0, 1), config)
    return attack


def test_documented_use(mode):
    metrics = attack_of().eval(dataset(200, 2.0, 2), dataset(200, 0.0, 3), METRICS)
    assert [set(entry) for entry in metrics] == [set(METRICS)]
    assert all(0.65 < entry[name] <= 1 for entry in metrics for name in METRICS)


def test_every_method_finds_what_there_is_and_is_repeatable():
    metrics = [*METRICS, "auc", "tpr@1%fpr", "tpr@0.1%fpr", "balanced_accuracy", "advantage"]
    audited = dataset(400, 2.0, 2), dataset(400, 0.0, 3)
    runs = [attack_of(config=ALL_CONFIG, members=300, others=300).eval(*audited, metrics) for _ in range(2)]
    assert runs[0] == runs[1]
    assert len(runs[0]) == 4
    for entry in runs[0]:
        assert entry["auc"] > 0.7 and entry["accuracy"] > 0.6
        assert entry["advantage"] == pytest.approx(2 * entry["balanced_accuracy"] - 1)
        assert isinstance(entry["tpr@1%fpr"], float) and entry["tpr@0.1%fpr"] == "n/a"


def test_caller_s_random_state_is_left_alone():
    before = np.random.get_state()[1].copy()  # noqa: NPY002 - the global state is what is asked about
    attack_of().eval(dataset(50, 2.0, 2), dataset(50, 0.0, 3), METRICS)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_imbalance_does_not_fake_a_leak():
    attack = attack_of(boost=0.0, config=ALL_CONFIG, members=400, others=40)
    for entry in attack.eval(dataset(1000, 0.0, 2), dataset(100, 0.0, 3), METRICS):
        # with one class ten times larger, always saying "member" has accuracy 0.91, precision 0.91, recall 1
        assert abs(entry["accuracy"] - 0.5) < 0.12
        assert abs(entry["precision"] - 0.5) < 0.12


def test_records_seen_in_training_are_judged_out_of_fold():
    forest = [{"method": "rf", "params": {"max_depth": [None], "n_estimators": [30]}}]
    attack = attack_of(boost=0.0, config=forest)
    again = attack.eval(dataset(160, 0.0, 0, batch=7), dataset(160, 0.0, 1, batch=None), ["accuracy", "auc"])[0]
    # 160 against 160 records: standard deviation 0.03
    assert abs(again["auc"] - 0.5) < 0.15, "a forest remembers its training set: in-fold the AUC is 1"
    out_of_fold = attack.scores()[0]
    assert out_of_fold.auc == pytest.approx(again["auc"], abs=1e-9)
    # these scores depend on each other: an interval for independent ones would be too narrow
    partly_seen = attack.results(dataset(160, 0.0, 0), dataset(40, 0.0, 9))[0]
    for result in (out_of_fold, partly_seen):
        assert result.ci("auc") is None and "depend on each other" in result.note("auc")


def test_result_objects_hold_the_curve():
    attack = attack_of()
    result = attack.results(dataset(60, 2.0, 2), dataset(60, 0.0, 3))[0]
    assert result.attack == "knn" and len(result.scores) == 120
    assert result.auc == attack.eval(dataset(60, 2.0, 2), dataset(60, 0.0, 3), ["auc"])[0]["auc"]


@pytest.mark.parametrize("boost", [0.0, 1.0])
def test_intervals_of_results_on_other_records_cover(boost):
    inside, seeds = 0, iter(range(10, 10_000))
    for _ in range(3):
        attack = MembershipInference(Model(Echo()), n_jobs=1)
        attack.train(dataset(90, boost, next(seeds)), dataset(90, 0.0, next(seeds)), [{"method": "lr", "params": {}}])
        # of this very classifier; nothing to find is 0.5 whatever it learnt
        truth = attack.results(dataset(6000, boost, next(seeds), batch=6000),
                               dataset(6000, 0.0, next(seeds), batch=6000))[0].auc if boost else 0.5
        for _ in range(50):
            result = attack.results(dataset(80, boost, next(seeds), batch=80), dataset(80, 0.0, next(seeds), batch=80))
            low, high = result[0].ci("auc")
            inside += low <= truth <= high
    # 150 intervals at 0.95: one run in a thousand has fewer than 134 inside
    assert inside >= 134


def test_training_again_replaces_the_attacks():
    attack = attack_of()
    attack.train(dataset(60, 2.0, 0), dataset(60, 0.0, 1), KNN)
    assert len(attack.eval(dataset(60, 2.0, 2), dataset(60, 0.0, 3), METRICS)) == 1


def test_eval_before_train_is_empty():
    attack = MembershipInference(Model(Echo()))
    assert attack.eval(dataset(20, 2.0, 2), dataset(20, 0.0, 3), METRICS) == []
    assert attack.scores() == attack.results(dataset(20, 2.0, 2), dataset(20, 0.0, 3)) == []


def test_import_leaves_the_log_level_alone():
    import logging

    from mindarmour.utils.logger import LogUtil
    LogUtil.get_instance()
    assert logging.getLogger("MA").level == logging.WARNING


def test_documented_import_paths():
    import mindarmour
    from mindarmour.privacy.evaluation.membership_inference import MembershipInference as direct
    assert mindarmour.MembershipInference is MembershipInference is direct


@pytest.mark.parametrize("model, n_jobs, error", [
    (Echo, 1, TypeError), (None, 1, TypeError), ("model", 1.5, TypeError), ("model", "1", TypeError),
    ("model", True, TypeError), ("model", 0, ValueError), ("model", -2, ValueError),
])
def test_bad_constructor_arguments(model, n_jobs, error):
    with pytest.raises(error, match="n_jobs" if model == "model" else "model"):
        MembershipInference(Model(Echo()) if model == "model" else model, n_jobs)


@pytest.mark.parametrize("config, error, text", [
    ({"method": "knn", "params": {}}, TypeError, "attack_config"),
    (["knn"], TypeError, "entry of attack_config"),
    ([], ValueError, "at least one"),
    ([{"method": "knn"}], KeyError, "exactly the keys"),
    ([{"method": "knn", "params": {}, "extra": 1}], KeyError, "exactly the keys"),
    ([{"method": "svm", "params": {}}], NameError, "method must be one of"),
    ([{"method": "knn", "params": {"C": [1]}}], KeyError, "'C'"),
    ([{"method": "knn", "params": {"n_neighbors": 3}}], TypeError, "n_neighbors"),
    ([{"method": "knn", "params": {"n_neighbors": []}}], ValueError, "at least one candidate"),
    ([{"method": "knn", "params": {"n_neighbors": [0]}}], ValueError, "n_neighbors"),
])
def test_bad_configurations_are_one_clear_error(config, error, text):
    attack = MembershipInference(Model(Echo()))
    with pytest.raises(error, match=text):
        attack.train(dataset(20, 2.0, 0), dataset(20, 0.0, 1), config)


@pytest.mark.parametrize("metrics, error", [("precision", TypeError), (["f1"], ValueError), ([1], TypeError),
                                            (["tpr@1%"], None), (("auc",), None)])
def test_metrics_are_checked(metrics, error):
    attack, data = attack_of(), (dataset(100, 2.0, 2), dataset(100, 0.0, 3))
    if error is None:
        assert set(attack.eval(*data, metrics)[0]) == set(metrics)
        return
    with pytest.raises(error, match="metric"):
        attack.eval(*data, metrics)


def test_data_sets_are_checked():
    attack = MembershipInference(Model(Echo()), n_jobs=1)
    good = dataset(40, 2.0, 0)
    with pytest.raises(TypeError, match="dataset_train"):
        attack.train(np.zeros((3, 4)), good, KNN)
    with pytest.raises(TypeError, match="dataset_test"):
        attack.eval(good, None, METRICS)
    with pytest.raises(ValueError, match="at least 6 records"):
        attack.train(dataset(5, 2.0, 0), dataset(40, 0.0, 1), KNN)
    one_hot = ds.NumpySlicesDataset((np.zeros((20, 4), np.float32), np.eye(4, dtype=np.float32)[np.arange(20) % 4]),
                                    ["image", "label"]).batch(5)
    with pytest.raises(ValueError, match="one-hot"):
        attack.train(one_hot, one_hot, KNN)
    for columns, names in (((np.zeros((20, 4), np.float32),), ["image"]),
                           ((np.zeros((20, 4), np.float32), np.zeros(20, np.int32), np.zeros(20)), ["a", "b", "c"])):
        with pytest.raises(ValueError, match="columns"):
            attack.train(ds.NumpySlicesDataset(columns, names).batch(5), good, KNN)
    with pytest.raises(ValueError, match="empty"):
        attack.train(good, dataset(8, 0.0, 1, batch=None).batch(99, drop_remainder=True), KNN)
    broken = ds.NumpySlicesDataset((np.full((20, 4), np.nan, np.float32), np.zeros(20, np.int32)), ["image", "label"])
    with pytest.raises(ValueError, match="finite"):
        attack.train(broken.batch(5), dataset(20, 0.0, 1), KNN)


@pytest.mark.parametrize("config", ALL_CONFIG, ids=["lr", "knn", "mlp", "rf"])
def test_attack_model_of_plain_arrays(config):
    rng = np.random.default_rng(0)
    features, labels = rng.random((60, 10)), rng.integers(0, 2, 60)
    assert set(_get_attack_model(features, labels, config, n_jobs=1).predict(features)) <= {0, 1}


TRANSLATED = [
    ("lr", {"penalty": ["none", "l2"]}), ("lr", {"penalty": [None]}), ("lr", {"penalty": ["l1", "elasticnet"]}),
    ("lr", {"penalty": ["l1"], "solver": ["liblinear"]}), ("lr", {"class_weight": [{0: 1, 1: 2}, "balanced", None]}),
    ("lr", {"dual": [False], "tol": [1e-3], "fit_intercept": [True], "random_state": [0], "intercept_scaling": [1.0]}),
    ("rf", {"max_features": ["auto"], "n_estimators": [5]}),
    ("rf", {"min_impurity_split": [None], "n_estimators": [5]}),
    ("rf", {"n_estimators": np.array([5, 8]), "max_samples": [0.5], "ccp_alpha": [np.float32(0.0)]}),
    ("knn", {"n_neighbors": np.array([3]), "weights": ("uniform",), "metric_params": [None], "p": [np.int64(2)]}),
    ("mlp", {"hidden_layer_sizes": [(4,)], "batch_size": ["auto", 8], "early_stopping": [False], "max_iter": [20]}),
]


@pytest.mark.parametrize("method, params", TRANSLATED)
def test_old_values_and_numpy_scalars_are_translated(method, params):
    rng = np.random.default_rng(0)
    features, labels = rng.random((40, 3)), np.arange(40) % 2
    model = _get_attack_model(features, labels, {"method": method, "params": params}, n_jobs=1)
    assert model.predict_proba(features).shape == (40, 2)


@pytest.mark.parametrize("method, name, value", [
    ("knn", "n_neighbors", True), ("knn", "n_neighbors", 2.5), ("knn", "algorithm", "fast"), ("knn", "p", float("nan")),
    ("lr", "C", -1.0), ("lr", "C", float("inf")), ("lr", "penalty", "l3"), ("lr", "dual", "yes"), ("lr", "solver", 3),
    ("mlp", "hidden_layer_sizes", (0,)), ("mlp", "momentum", 1.5), ("mlp", "activation", "elu"),
    ("mlp", "batch_size", 0),
    ("rf", "max_depth", 0), ("rf", "max_features", "all"), ("rf", "max_samples", 1.5), ("rf", "min_samples_split", 1),
    ("rf", "n_jobs", 0), ("rf", "criterion", "mse"), ("rf", "min_weight_fraction_leaf", 0.7),
])
def test_values_outside_the_allowed_set_are_refused(method, name, value):
    with pytest.raises(ValueError, match=name):
        verify_config_params([{"method": method, "params": {name: [value]}}])


CANDIDATES = [0, 1, 2, -1, 2 ** 40, 10 ** 400, 0.0, 1e-9, 0.5, 1.0, 1.5, 1e308, math.nan, math.inf, None, True,
              np.True_, np.int64(3), np.float32(0.5), "auto", "none", "l1", "elasticnet", "balanced", "adam", "saga",
              "cosine", "minkowski", "precomputed", "foo", (4,), (4, 0), [4], {0: 1}, np.random.RandomState(0)]


@pytest.mark.parametrize("method", ["lr", "knn", "mlp", "rf"])
def test_what_is_accepted_is_accepted_by_scikit_learn_too(method):
    accepted = 0
    for name in _RULES[method]:
        for value in CANDIDATES:
            try:
                verify_config_params([{"method": method, "params": {name: [value]}}])
            except ValueError:
                continue
            for grid in grid_of(method, {name: [value]}):
                classifier = _classifier(method).set_params(**{key: values[0] for key, values in grid.items()})
                classifier._validate_params()
            accepted += 1
    assert accepted > 2 * len(_RULES[method])


def test_eval_info_is_the_documented_formula():
    pred, truth = np.array([1, 1, 0, 0, 1]), np.array([1, 0, 0, 1, 1])
    assert _eval_info(pred, truth, "precision") == pytest.approx(2 / 3)
    assert _eval_info(pred, truth, "recall") == pytest.approx(2 / 3)
    assert _eval_info(pred, truth, "accuracy") == pytest.approx(3 / 5)
    assert _eval_info(np.zeros(5), truth, "precision") == -1
    assert _eval_info(pred, np.zeros(5), "recall") == -1
    with pytest.raises(ValueError, match="option"):
        _eval_info(pred, truth, "f1")


def test_softmax_cross_entropy_is_clipped():
    logits = np.array([[2.0, 1.0, 0.0], [0.0, 100.0, 0.0]])
    expected = -np.log(np.exp(2) / (np.exp(2) + np.exp(1) + 1))
    np.testing.assert_allclose(_softmax_cross_entropy(logits, np.array([0, 0])), [expected, -np.log(1e-12)])


def test_model_is_given_back_in_its_state():
    net = Echo()
    net.set_train(True)
    attack = MembershipInference(Model(net), n_jobs=1)
    attack.train(dataset(40, 2.0, 0), dataset(40, 0.0, 1), KNN)
    assert net.training
