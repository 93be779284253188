"""Outputs, labels and records that people have: served, or refused with how to convert, before anything is trained."""
import mindspore as ms
import mindspore.dataset as ds
import numpy as np
import pytest
from mindspore import nn, ops
from mindspore.train import Model
from scipy.special import log_softmax, softmax

from mindarmour.privacy.errors import PrivacyWarning
from mindarmour.privacy.evaluation import (
    RMIA,
    LiRA,
    LossAttack,
    MembershipInference,
    ShadowModels,
    Signals,
    collect_signals,
)
from mindarmour.privacy.evaluation.checks import checked_labels, checked_outputs, in_blocks
from mindarmour.privacy.evaluation.membership.records import read_records

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(0, 3, (40, 5))
X, Y = RNG.normal(size=(40, 5)).astype(np.float32), np.arange(40) % 5
IMAGES = RNG.normal(size=(40, 3, 8, 8)).astype(np.float32)


class Cast(nn.Cell):
    def __init__(self, kind):
        super().__init__()
        self.dense, self.kind = nn.Dense(5, 5), kind

    def construct(self, inputs):
        return ops.cast(self.dense(inputs), self.kind)


def rows(images, labels):
    return ds.GeneratorDataset([(images[i], np.asarray(labels[i])) for i in range(len(images))], ["image", "label"],
                               shuffle=False)


@pytest.mark.parametrize("kind", [np.float64, np.float32, np.float16])
def test_probabilities_become_their_logarithms(kind):
    p = softmax(LOGITS, axis=1).astype(kind)
    tolerance = {np.float64: 1e-12, np.float32: 1e-4, np.float16: 0.05}[kind]
    large = p > 1e-3
    found, expected = checked_outputs("logits", p, 2), log_softmax(LOGITS, axis=1)
    np.testing.assert_allclose(found[large], expected[large], atol=tolerance)
    views = checked_outputs("views", np.stack([p, p], axis=1), 3)
    np.testing.assert_allclose(views[:, 1], checked_outputs("logits", p, 2))


def test_hard_probabilities_stay_finite():
    found = checked_outputs("logits", np.eye(3)[[0, 1, 2, 0]], 2)
    assert np.isfinite(found).all() and (found[0] == [0, found[0, 1], found[0, 1]]).all()


@pytest.mark.parametrize("logits", [LOGITS, -np.abs(LOGITS), np.zeros((4, 3)), np.abs(LOGITS), LOGITS.astype(int),
                                    log_softmax(LOGITS, axis=1)])
def test_logits_stay_logits(logits):
    np.testing.assert_array_equal(checked_outputs("logits", logits, 2), logits)


def test_a_network_that_ends_in_softmax_leaks_what_its_logits_leak():
    dense = nn.Dense(5, 5)
    with_softmax = nn.SequentialCell(dense, nn.Softmax())
    pair = (X[:20], Y[:20]), (X[20:], Y[20:])
    one, other = (LossAttack()(collect_signals(net, *pair, progress=False)).scores for net in (dense, with_softmax))
    np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("kind", [ms.float16, ms.bfloat16])
def test_half_precision_outputs_are_served(kind, mode):
    net = Cast(kind)
    signals = collect_signals(net, (X[:20], Y[:20]), (X[20:], Y[20:]), progress=False)
    np.testing.assert_allclose(signals.logits, net.dense(ms.Tensor(X)).asnumpy(), atol=0.03)


@pytest.mark.parametrize("outputs, text", [
    (softmax(LOGITS, axis=1) * (np.sort(LOGITS, axis=1)[:, -2:-1] <= LOGITS), "top k"),
    (1 / (1 + np.exp(-LOGITS)), "One sigmoid for each label"),
    (np.full((4, 1), 0.5), "one logit z"), (np.full(4, 0.5), "sigmoid"), (np.zeros((4, 3, 2)), "sequences"),
    (np.where(LOGITS > 2, -np.inf, LOGITS), "masked"),
])
def test_other_outputs_are_refused_with_how_to_convert(outputs, text):
    with pytest.raises(ValueError, match=text):
        checked_outputs("logits", outputs, 2)


def test_the_advice_for_other_outputs_works():
    s = 1 / (1 + np.exp(-LOGITS[:, :1]))
    np.testing.assert_allclose(checked_outputs("o", np.concatenate([1 - s, s], axis=1), 2)[:, 1],
                               -np.logaddexp(0, -LOGITS[:, 0]))
    top = softmax(LOGITS, axis=1) * (np.sort(LOGITS, axis=1)[:, -2:-1] <= LOGITS)
    for p in top:
        p[p == 0] = (1 - p.sum()) / (p == 0).sum()
    assert np.isfinite(checked_outputs("o", top, 2)).all()
    small = RNG.uniform(0, 0.3, (10, 3))
    np.testing.assert_array_equal(checked_outputs("o", small - 1, 2), small - 1)


@pytest.mark.parametrize("model, text", [
    (lambda batch: batch[:, :1], "one logit z"), (lambda batch: batch[:, 0], "one sigmoid"),
    (lambda batch: batch[:, None, :], "tokens"), (lambda batch: batch[:, :3], "one column for each of the 5 classes"),
])
def test_outputs_of_models_are_refused_with_how_to_convert(model, text):
    with pytest.raises(ValueError, match=text):
        collect_signals(model, (X, Y), None, progress=False)


@pytest.mark.parametrize("labels, text, advises_argmax", [
    (np.eye(5)[Y], "one-hot", True), (np.eye(5, dtype=bool)[Y], "one-hot", True),
    (np.tile([1, 1, 0], (40, 1)), "multi-label", False), (np.tile([0.2, 0.8], (40, 1)), "probability", False),
    (RNG.integers(0, 5, (40, 7)), "each token", False), (RNG.integers(0, 2, (40, 3, 4)), "each token", False),
])
def test_labels_with_several_numbers_are_refused_with_how_to_convert(labels, text, advises_argmax):
    with pytest.raises(ValueError, match=text) as caught:
        collect_signals(lambda batch: batch, (X, labels), None, progress=False)
    assert ("argmax" in str(caught.value)) == advises_argmax


@pytest.mark.parametrize("labels", [Y[:, None], Y.astype(np.uint8), (Y > 2), (Y > 2)[:, None], Y.tolist()])
def test_labels_of_other_shapes_and_types_are_served(labels):
    assert checked_labels(labels, 40).tolist() == np.asarray(labels).reshape(-1).astype(int).tolist()


@pytest.mark.parametrize("labels, text", [(Y.astype(float), r"astype\(int\)"), (Y + 0.5, "AttackResult"),
                                          (np.where(Y > 2, np.nan, 0.0), "AttackResult"),
                                          (Y.astype(str), "AttackResult")])
def test_other_types_of_labels_are_refused(labels, text):
    with pytest.raises(TypeError, match=text):
        checked_labels(labels, 40)


@pytest.mark.parametrize("make", [
    rows, lambda x, y: rows(x, y[:, None]), lambda x, y: rows(x, y).batch(7),
    lambda x, y: rows(x, y[:, None]).batch(7), lambda x, y: rows(x, y).batch(1), lambda x, y: rows(x, y).batch(40),
    lambda x, y: rows(x, y).batch(7).repeat(1), lambda x, y: rows(x, y).map(lambda image: image, "image").batch(7),
])
@pytest.mark.parametrize("channels", [1, 3])
def test_records_keep_their_shape_batched_or_not(make, channels):
    images, labels = read_records("members", make(IMAGES[:, :channels], Y.astype(np.int32)))
    np.testing.assert_array_equal(images, IMAGES[:, :channels])
    np.testing.assert_array_equal(labels, Y)


def test_a_one_hot_label_is_no_batch_of_as_many_channels():
    with pytest.raises(ValueError, match="one-hot"):
        read_records("members", rows(IMAGES, np.eye(3, dtype=np.int32)[Y % 3]))


def test_a_generator_with_its_own_batches_is_read_in_batches():
    source = [(IMAGES[i], np.asarray(Y[i])) for i in range(40)]
    batches = ds.GeneratorDataset(source, ["image", "label"], batch_sampler=[[0, 1, 2], [3, 4]])
    images, labels = read_records("members", batches)
    assert images.shape == (5, 3, 8, 8) and labels.tolist() == [0, 1, 2, 3, 4]


def test_equal_records_on_both_sides_are_a_warning():
    with pytest.warns(PrivacyWarning, match="3 of the 20 records of non_members"):
        collect_signals(lambda batch: batch, (X[:20], Y[:20]), (X[17:37], Y[17:37]), progress=False)
    double = X[17:37].astype(np.float64), Y[17:37].astype(np.int16)
    with pytest.warns(PrivacyWarning, match="3 of the 20"):
        collect_signals(lambda batch: batch, (X[:20], Y[:20]), double, progress=False)


def test_every_evaluator_sees_equal_records_on_both_sides(tmp_path):
    with pytest.warns(PrivacyWarning, match="population"):
        ShadowModels(lambda x, y, seed: lambda batch: batch, (X, Y), 4, 0, tmp_path, population=(X[:3], Y[:3]))
    data = [rows(part, Y[:20].astype(np.int32)).batch(5) for part in (X[:20], X[:20])]
    with pytest.warns(PrivacyWarning, match="20 of the 20 records of dataset_test"):
        MembershipInference(Model(nn.Dense(5, 5)), 1).train(*data, [{"method": "lr", "params": {}}])


class Counting:
    """Trains nothing, and counts how often it was asked to."""

    def __init__(self, columns):
        self.calls, self._columns = 0, columns

    def __call__(self, inputs, labels, seed):
        self.calls += 1
        return lambda batch: batch[:, :self._columns]


@pytest.mark.parametrize("labels", [np.eye(5)[Y], Y.astype(float), Y - 1])
def test_shadow_models_check_the_records_before_training(tmp_path, labels):
    train = Counting(5)
    with pytest.raises((ValueError, TypeError), match="labels of dataset"):
        ShadowModels(train, (X, labels), 4, 0, tmp_path).fit(progress=False)
    assert train.calls == 0


def test_a_model_without_a_column_for_each_class_stops_the_first_training(tmp_path):
    train = Counting(4)
    with pytest.raises(ValueError, match="one column for each of the 5 classes"):
        ShadowModels(train, (X, Y), 8, 0, tmp_path).fit(progress=False)
    assert train.calls == 1


@pytest.mark.parametrize("rare", [4, 1])
def test_a_class_that_some_halves_lack_has_its_column(tmp_path, rare):
    from sklearn.linear_model import LogisticRegression
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(80, 5)), rng.choice([0, 2, 3], 80)
    y[0] = rare
    others = rng.normal(size=(30, 5)), rng.choice([0, 2, 3], 30)

    def train(inputs, labels, seed):
        return LogisticRegression().fit(inputs, labels)

    store = ShadowModels(train, (x, y), 8, 0, tmp_path, population=others).fit(progress=False)
    assert {store.logits(k).shape[2] for k in range(8)} == {max(rare, 3) + 1}
    chosen = np.append(0, np.arange(1, 80, 2))
    left = np.setdiff1d(np.arange(80), chosen)
    for members, non_members in ((chosen, left), (left, chosen)):  # the audited model saw the class, or did not
        target = train(x[members], y[members], 0)
        signals = collect_signals(target, (x[members], y[members]), (x[non_members], y[non_members]),
                                  ids=(members, non_members), progress=False)
        population = collect_signals(target, None, others, progress=False)
        for result in (LiRA()(signals, store), LiRA("offline")(signals, store), RMIA()(signals, store, population)):
            assert np.isfinite(result.scores).all()


def test_views_as_lists_are_served():
    views = LOGITS[:8].reshape(4, 2, 5)
    signals = Signals(LOGITS[:4].tolist(), [0, 1, 2, 0], [1, 0, 1, 0], views=views.tolist())
    np.testing.assert_array_equal(signals.queries[:, 1:], views)


@pytest.mark.parametrize("rows_of_block", [1, 7, 1000])
def test_blocks_of_rows_change_nothing(monkeypatch, rows_of_block):
    from mindarmour.privacy.evaluation import checks
    monkeypatch.setattr(checks, "_BLOCK", 5 * rows_of_block)
    found = in_blocks(lambda logits, labels: logits[np.arange(len(labels)), labels], LOGITS.astype(np.float32), Y)
    np.testing.assert_allclose(found, LOGITS[np.arange(40), Y], rtol=1e-6)
    assert found.dtype == np.float64
