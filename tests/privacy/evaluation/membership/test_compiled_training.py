"""One compiled step trains every shadow model, and none of them shows that another was trained before it."""
import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn

from mindarmour.privacy.evaluation import CompiledTraining, LiRA, ShadowModels
from mindarmour.privacy.evaluation.membership.compiled_training import _shuffled_batches

EPOCHS, BATCH = 3, 8


@pytest.fixture(params=[ms.GRAPH_MODE, ms.PYNATIVE_MODE], ids=["graph", "pynative"])
def mode(request):
    ms.set_context(mode=request.param)
    yield
    ms.set_context(mode=ms.PYNATIVE_MODE)


def network():
    return nn.SequentialCell(nn.Dense(4, 6, activation="relu"), nn.BatchNorm1d(6), nn.Dense(6, 3))


def optimizer(weights):
    # moments, a step counter and a schedule: all of them must start anew
    return nn.Adam(weights, [0.05 / (1 + step) for step in range(1000)])


def loss():
    return nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean")


def recipe(**options):
    return CompiledTraining(network, optimizer, loss(), **{"epochs": EPOCHS, "batch_size": BATCH, **options})


def records(seed=0, count=26):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, 4)), rng.integers(0, 3, count)


def values(cell):
    return [parameter.asnumpy() for parameter in cell.get_parameters()]


def trained_apart(inputs, labels, seed):
    """The same training by a step of its own."""
    ms.set_seed(seed)
    cell = network()
    step = nn.TrainOneStepCell(nn.WithLossCell(cell, loss()), optimizer(cell.trainable_params())).set_train()
    for batch in _shuffled_batches(len(labels), BATCH, EPOCHS, seed):
        step(Tensor(inputs[batch].astype(np.float32)), Tensor(labels[batch].astype(np.int32)))
    return cell


def test_each_network_equals_one_trained_apart(mode):
    train = recipe()
    for seed in (1, 2):
        found, expected = train(*records(seed), seed), trained_apart(*records(seed), seed)
        assert not found.training
        for a, b in zip(values(found), values(expected)):
            np.testing.assert_array_equal(a, b)


def test_a_network_depends_on_its_arguments_alone_and_stays_as_it_is(mode):
    train = recipe()
    first = train(*records(1), 1)
    kept = [value.copy() for value in values(first)]
    other = train(*records(2, count=40), 2)
    again = train(*records(1), 1)
    assert not np.array_equal(values(other)[0], kept[0])
    for before, after, repeated in zip(kept, values(first), values(again)):
        np.testing.assert_array_equal(before, after)
        np.testing.assert_array_equal(before, repeated)


def test_every_epoch_takes_all_records_but_the_rest_in_an_order_of_its_own():
    batches = list(_shuffled_batches(26, 8, 2, seed=3))
    assert [len(batch) for batch in batches] == [8] * 6
    for epoch in (batches[:3], batches[3:]):
        assert len(set(np.concatenate(epoch))) == 24
    assert not np.array_equal(np.concatenate(batches[:3]), np.concatenate(batches[3:]))


def test_whole_numbers_reach_the_network_as_they_are():
    train = CompiledTraining(lambda: nn.SequentialCell(nn.Embedding(9, 4), nn.Flatten(), nn.Dense(8, 3)),
                             lambda weights: nn.SGD(weights, 0.1), loss(), epochs=1, batch_size=4)
    tokens, labels = np.arange(24, dtype=np.int32).reshape(12, 2) % 9, np.arange(12) % 3
    assert train(tokens, labels[:, None], 0)(Tensor(tokens)).shape == (12, 3)


def test_shadow_models_take_it(tmp_path):
    store = ShadowModels(recipe(epochs=40), records(count=40), num_models=6, cache_dir=tmp_path).fit(progress=False)
    assert LiRA()(store.signals(0), store, exclude=[0]).auc > 0.6  # random labels that the network has learned


def test_another_structure_is_refused():
    widths = iter((6, 6, 7))
    train = CompiledTraining(lambda: nn.Dense(4, next(widths)), lambda weights: nn.SGD(weights, 0.1), loss(), epochs=1,
                             batch_size=BATCH)
    train(*records(), 0)
    with pytest.raises(ValueError, match=r"new_network and new_optimizer must build the same Parameters .*weight"):
        train(*records(), 1)


@pytest.mark.parametrize("options, error, message", [
    ({"new_network": nn.Dense(4, 3)}, TypeError, "new_network must be a function"),
    ({"new_optimizer": None}, TypeError, "new_optimizer must be a function"),
    ({"loss_fn": "mse"}, TypeError, "loss_fn"),
    ({"epochs": 0}, ValueError, "epochs"),
    ({"batch_size": 0}, ValueError, "batch_size"),
])
def test_unusable_arguments_are_refused(options, error, message):
    options = {"new_network": network, "new_optimizer": optimizer, "loss_fn": loss(), "epochs": 1, "batch_size": 1,
               **options}
    with pytest.raises(error, match=message):
        CompiledTraining(**options)


def test_fewer_records_than_a_batch_are_refused():
    with pytest.raises(ValueError, match="batch_size must be at most the number of records, but is 8 for 5"):
        recipe()(*records(count=5), 0)
