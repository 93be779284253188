"""Adapters: which Parameters move, what is saved, what a release computes, and when it is too late for them."""
import gc

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn
from small_models import loss_fn, model_of, noise
from small_networks import CLASSES, batch_for, dense

from examples.common.networks.transformer.transformer import GPT, Classifier, sequence_loss
from mindarmour.privacy.accounting import privacy_spent
from mindarmour.privacy.diff_privacy import DPModel, PoissonSampler, PrivateLoop, clipped_gradient_fn, lora
from mindarmour.privacy.diff_privacy.train.spending import spent_on

VOCABULARY, LENGTH = 11, 6


def gpt():
    return GPT(VOCABULARY, LENGTH, width=8, layers=2, heads=2)


def texts(rows, seed=0):
    rng = np.random.default_rng(seed)
    tokens = rng.integers(1, VOCABULARY, (rows, LENGTH + 1)).astype(np.int32)
    tokens[::3, -2:] = 0
    return tokens[:, :-1].copy(), tokens[:, 1:].copy()


def values(network):
    return {parameter.name: parameter.asnumpy().copy() for parameter in network.get_parameters()}


@pytest.mark.parametrize("mode", [ms.GRAPH_MODE, ms.PYNATIVE_MODE])
def test_every_adapter_moves_and_nothing_else_does_on_the_ghost_engine(mode):
    ms.set_context(mode=mode)
    network = lora.insert(gpt(), ["query", "value"], rank=2)
    before = values(network)
    model = DPModel(norm_bound=1.0, noise_mech=noise(0.5), network=network, loss_fn=sequence_loss(), micro_batches=None,
                    optimizer=nn.Adam(network.trainable_params(), 1e-2), engine="ghost")
    model.train(2, PoissonSampler(8).dataset(texts(32), ["tokens", "next"]))
    after = values(network)
    moved = {name for name in before if not np.array_equal(before[name], after[name])}
    assert moved == {parameter.name for parameter in network.trainable_params()} and len(moved) == 2 * 2 * 2
    assert all(".lora_" in name for name in moved)
    assert model.engine.engine == "ghost"


@pytest.mark.parametrize("make, columns, loss", [
    (lambda: lora.insert(gpt(), "value", rank=2), texts(4), sequence_loss),
    (lambda: Classifier(VOCABULARY, 2, LENGTH, 8, 1, 2), (texts(4)[0], np.int32([0, 1, 1, 0])), nn.CrossEntropyLoss)],
    ids=["gpt with adapters", "classifier"])
def test_the_networks_are_served_by_the_ghost_engine_as_by_the_loop(make, columns, loss):
    network = make()
    for name, parameter in network.parameters_and_names():
        if "lora_up" in name:
            parameter.set_data(Tensor(np.random.default_rng(1).normal(size=parameter.shape), ms.float32))
    totals = [clipped_gradient_fn(network, loss(), 0.1, engine=engine)(*map(Tensor, columns))
              for engine in ("ghost", "loop")]
    np.testing.assert_allclose(totals[0].norms.asnumpy(), totals[1].norms.asnumpy(), rtol=1e-3)
    for one, other in zip(totals[0].total, totals[1].total):
        np.testing.assert_allclose(one.asnumpy(), other.asnumpy(), atol=2e-5)


def test_an_adapter_changes_nothing_until_it_is_trained_and_keeps_all_names():
    network, tokens = gpt(), Tensor(texts(3)[0])
    plain, names = network(tokens).asnumpy(), set(values(network))
    lora.insert(network, ["query", "blocks.0.up"], rank=3, alpha=5.0)
    assert np.array_equal(network(tokens).asnumpy(), plain)
    new = set(values(network)) - names
    assert names < set(values(network)) and new == {
        f"blocks.{layer}.lora_{part}.weight" for layer in ("0.attention.query", "1.attention.query", "0.up")
        for part in ("down", "up")}


@pytest.mark.parametrize("mode", [ms.GRAPH_MODE, ms.PYNATIVE_MODE])
def test_a_network_that_ran_before_computes_with_its_adapters(mode):
    """A graph that was compiled before must not be what is evaluated after."""
    ms.set_context(mode=mode)
    network, x = dense(), batch_for("dense", 5)[0]
    plain = network(x).asnumpy()
    lora.insert(network, "0", rank=2)
    assert np.array_equal(network(x).asnumpy(), plain)
    adapter = network[0].lora_up.weight
    adapter.set_data(adapter + 1.0)
    changed = network(x).asnumpy()
    assert np.abs(changed - plain).max() > 0.01
    release = lora.merged(network)
    assert np.abs(release(x).asnumpy() - changed).max() < 1e-5
    adapter.set_data(adapter * 0.0)
    assert np.abs(network(x).asnumpy() - plain).max() < 1e-6 < np.abs(release(x).asnumpy() - plain).max()


def test_merged_gives_equal_outputs_and_takes_the_ledger_along(tmp_path):
    network = trained()
    network.set_train(False)
    release, x = lora.merged(network), batch_for("dense", 5)[0]
    assert np.abs(release(x).asnumpy() - network(x).asnumpy()).max() < 1e-5
    assert not any(isinstance(cell, lora.LoRADense) for _, cell in release.cells_and_names())
    assert set(values(release)) == set(values(dense()))
    assert spent_on(release.get_parameters()).entries == spent_on(network.trainable_params()).entries
    before = values(network)
    release[0].weight.set_data(release[0].weight * 0)
    assert all(np.array_equal(before[name], value) for name, value in values(network).items())
    ms.save_checkpoint(release, str(tmp_path / "release.ckpt"))
    assert "dp_ledger" in ms.load_checkpoint(str(tmp_path / "release.ckpt"))


def trained(rank=2, alpha=3.0):
    network = lora.insert(dense(), ["0", "2"], rank, alpha)
    model = model_of(network, 1.0, lr=0.5)
    model.train(2, PoissonSampler(8).dataset(tuple(c.asnumpy() for c in batch_for("dense", 32)), ["x", "label"]))
    return network


def test_adapters_alone_are_saved_and_loaded_with_their_ledger(tmp_path):
    network, path = trained(), str(tmp_path / "adapters.ckpt")
    lora.save(network, path)
    stored = ms.load_checkpoint(path)
    assert sum(value.size for value in stored.values()) < sum(p.size for p in network.trainable_params()) + 3000
    assert not any(name.endswith(".base.weight") or name == "0.weight" for name in stored)
    other = lora.insert(dense(), ["0", "2"], 2, 3.0)
    for mine, theirs in zip(other.get_parameters(), network.get_parameters()):
        if not mine.requires_grad:
            mine.set_data(theirs.value())
    lora.load(other, path)
    x = batch_for("dense", 5)[0]
    assert np.array_equal(other(x).asnumpy(), network(x).asnumpy())
    ledger = spent_on(other.trainable_params())
    assert privacy_spent(ledger.entries, 1e-3) == privacy_spent(spent_on(network.trainable_params()).entries, 1e-3)


@pytest.mark.parametrize("targets, rank, alpha, match", [
    (["0"], 2, 3.0, "one of them only"), (["0", "2"], 1, 1.5, "rank of the adapters"),
    (["0", "2"], 2, 4.0, "alpha of")])
def test_adapters_of_another_shape_are_refused_whole(tmp_path, targets, rank, alpha, match):
    lora.save(trained(), str(tmp_path / "adapters.ckpt"))
    other = lora.insert(dense(), targets, rank, alpha)
    before = values(other)
    with pytest.raises(ValueError, match=match):
        lora.load(other, str(tmp_path / "adapters.ckpt"))
    assert all(np.array_equal(before[name], value) for name, value in values(other).items())


def test_a_head_can_be_trained_beside_the_adapters(tmp_path):
    network = lora.insert(dense(), "0", 2, trainable="2")
    assert [p.name for p in network.trainable_params()] == ["0.lora_down.weight", "0.lora_up.weight", "2.weight",
                                                            "2.bias"]
    lora.save(network, str(tmp_path / "both.ckpt"))
    assert {"2.weight", "2.bias"} <= set(ms.load_checkpoint(str(tmp_path / "both.ckpt")))


@pytest.mark.parametrize("run_first", [False, True])
def test_adapters_that_come_after_the_model_are_refused(run_first):
    network = dense()
    model = model_of(network, 1.0)
    data = PoissonSampler(8).dataset(tuple(c.asnumpy() for c in batch_for("dense", 32)), ["x", "label"])
    if run_first:
        model.train(1, data)
    with pytest.raises(ValueError, match="Insert the adapters first"):
        lora.insert(network, "0")
    assert not any(isinstance(cell, lora.LoRADense) for _, cell in network.cells_and_names())
    assert all(parameter.requires_grad for parameter in network.get_parameters())
    loop = PrivateLoop(network, loss_fn(), nn.SGD(network.trainable_params(), 0.1), 1.0, noise())
    del model
    with pytest.raises(ValueError, match="Insert the adapters first"):
        lora.insert(nn.SequentialCell(network), "0.0")
    del loop
    gc.collect()
    lora.insert(network, "0")


def test_layers_that_come_after_the_model_stop_its_next_step():
    """However they came: without `lora.insert`, by hand."""
    network = dense()
    model = model_of(network, 1.0)
    columns = tuple(c.asnumpy() for c in batch_for("dense", 32))
    model.train(1, PoissonSampler(8).dataset(columns, ["x", "label"]))
    network.append(nn.Dense(CLASSES, CLASSES))
    with pytest.raises(ValueError, match="came later and would never be trained"):
        model.train(1, PoissonSampler(8).dataset(columns, ["x", "label"]))


@pytest.mark.parametrize("targets, arguments, error, match", [
    ("missing", {}, ValueError, "'missing' fits none"), ([], {}, ValueError, "at least one"),
    ("1", {}, TypeError, "'1' is Tanh"), ("0", {"rank": 0}, ValueError, "rank"), ("0", {"rank": 6}, ValueError, "rank"),
    ("0", {"rank": 2.0}, TypeError, "rank"), ("0", {"alpha": 0.0}, ValueError, "alpha"),
    ("0", {"trainable": "nobody"}, ValueError, "trainable must name")])
def test_bad_arguments_are_refused_and_change_nothing(targets, arguments, error, match):
    network = dense()
    with pytest.raises(error, match=match):
        lora.insert(network, targets, **arguments)
    assert all(parameter.requires_grad for parameter in network.get_parameters()) and len(values(network)) == 4


def test_adapters_twice_and_activations_are_refused():
    network = lora.insert(dense(), "0", 2)
    with pytest.raises(ValueError, match="no adapters yet"):
        lora.insert(network, "2", 2)
    with pytest.raises(ValueError, match="no activation of their own"):
        lora.insert(nn.SequentialCell(nn.Dense(4, 4, activation="relu")), "0", 2)
    for function in (lora.merged, lambda network: lora.save(network, "x.ckpt")):
        with pytest.raises(ValueError, match="must hold adapters"):
            function(dense())
