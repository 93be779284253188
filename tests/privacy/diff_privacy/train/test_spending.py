"""Privacy spent belongs to the Parameters: whoever trains them next continues it."""
import copy
import gc
import pickle
import warnings

import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, Tensor, nn
from mindspore.train import CheckpointConfig, ModelCheckpoint
from small_models import ROWS, loss_fn, model_of, noise
from small_networks import batch_for, dense

from mindarmour.privacy.accounting import ledger_file, privacy_spent
from mindarmour.privacy.accounting.ledger import combine
from mindarmour.privacy.diff_privacy import (
    DPOptimizerClassFactory,
    PoissonSampler,
    PrivacyMonitorFactory,
    PrivateLoop,
    clipped_gradient_fn,
)
from mindarmour.privacy.diff_privacy.train import spending
from mindarmour.privacy.errors import LedgerMismatchError, PrivacyWarning
from mindarmour.privacy.release import DPSGD

COUNT = 64


@pytest.fixture(autouse=True)
def own_key(tmp_path, monkeypatch):
    monkeypatch.setenv("MINDARMOUR_HOME", str(tmp_path / "home"))


def data(seed=0):
    return PoissonSampler(ROWS).dataset(tuple(c.asnumpy() for c in batch_for("dense", COUNT, seed)))


def trained(network, epochs=1, **arguments):
    model = model_of(network, 2.0, lr=0.1, **arguments)
    model.train(epochs, data())
    return model


def epsilon(ledger):
    return privacy_spent(ledger.entries, 1e-5).epsilon


def stripped(path, folder):
    """The checkpoint at `path` without its ledger, written as by somebody who does not know of it."""
    values = {name: Parameter(Tensor(p.asnumpy()), name=name) for name, p in ms.load_checkpoint(str(path)).items()
              if name != "dp_ledger"}
    ms.save_checkpoint(values, str(folder / "stripped.ckpt"))
    return str(folder / "stripped.ckpt")


def test_a_second_model_continues_what_the_first_spent(mode):
    network = dense()
    first = trained(network)
    second = trained(network)
    assert second.ledger.steps == 16 and epsilon(second.ledger) == epsilon(first.ledger)
    assert epsilon(second.ledger) == pytest.approx(epsilon(trained(dense(), 2).ledger))


@pytest.mark.parametrize("how", ["loop", "optimizer", "DPSGD"])
def test_loops_and_optimizers_continue_it_too(how):
    network = dense()
    first = trained(network)
    columns = batch_for("dense", ROWS)
    if how == "loop":
        later = PrivateLoop(network, loss_fn(), nn.SGD(network.trainable_params(), 0.1), 1.0, noise(2.0))
        later.step(*columns)
    else:
        factory = DPOptimizerClassFactory(ROWS)
        factory.set_mechanisms("Gaussian", 1.0, 2.0)
        later = factory.create("SGD")(network.trainable_params(), 0.1) if how == "optimizer" else \
            DPSGD(network.trainable_params(), 0.1, noise_scale=2.0)
        later(clipped_gradient_fn(network, loss_fn())(*columns))
    assert later.ledger.steps == 9 == first.ledger.steps
    assert trained(network).ledger.steps == 17


def test_a_shared_part_brings_its_history():
    trunk = dense()
    trained(trunk)
    whole = nn.SequentialCell(trunk, nn.Dense(3, 3))
    head = nn.SGD(whole[1].trainable_params(), 0.1)
    for parameter in trunk.get_parameters():
        parameter.requires_grad = False
    model = trained(whole, optimizer=head)
    assert model.ledger.steps == 16
    assert spending.spent_on(trunk.get_parameters()).steps == 16, "released together, they cost what both cost"


def test_networks_apart_do_not_share_and_two_histories_that_meet_add_up():
    first, second = dense(), dense()
    one, two = trained(first), trained(second)
    assert one.ledger.steps == two.ledger.steps == 8
    both = nn.SequentialCell(first, nn.Dense(3, 6), second)
    model = model_of(both, 2.0)
    assert model.ledger.steps == 16
    model.train_network(*batch_for("dense", ROWS))
    assert one.ledger.steps == two.ledger.steps == model.ledger.steps == 17


def test_other_data_under_the_same_parameters_are_refused():
    network = dense()
    trained(network)
    with pytest.raises(LedgerMismatchError, match="other data"):
        model_of(network, 2.0).train(1, data(seed=1))


def test_an_explicit_ledger_must_know_what_was_spent():
    network = dense()
    ledger = trained(network).ledger
    with pytest.raises(LedgerMismatchError, match="trained under another ledger"):
        DPSGD(network.trainable_params(), 0.1, ledger=type(ledger)())
    assert DPSGD(network.trainable_params(), 0.1, ledger=ledger).ledger is ledger


@pytest.mark.parametrize("suffix", ["ckpt", "safetensors"])
@pytest.mark.parametrize("what", ["network", "train network", "dictionary", "list"])
def test_plain_saving_and_loading_carry_the_ledger(what, suffix, tmp_path):
    network, path = dense(), str(tmp_path / f"net.{suffix}")
    model = trained(network)
    saved = {"network": network, "train network": model.train_network, "dictionary": network.parameters_dict(),
             "list": [{"name": p.name, "data": p} for p in network.get_parameters()]}[what]
    ms.save_checkpoint(saved, path, format=suffix)
    assert ledger_file.load(path).entries == model.ledger.entries
    fresh = dense()
    ms.load_param_into_net(fresh, ms.load_checkpoint(path, format=suffix))
    assert trained(fresh).ledger.steps == 16
    other = dense()
    ms.load_checkpoint(path, other, format=suffix)
    assert model_of(other, 2.0).ledger.entries == model.ledger.entries
    assert model.ledger.steps == 8, "a copy's tail is its own"


def test_a_part_of_a_checkpoint_brings_the_whole_ledger(tmp_path):
    model = trained(dense())
    ms.save_checkpoint(model.train_network, str(tmp_path / "net.ckpt"))
    for choice in ({"specify_prefix": "0."}, {"filter_prefix": "dp_"}, {"choice_func": lambda name: name[0] == "0"}):
        network = dense()
        ms.load_param_into_net(network, ms.load_checkpoint(str(tmp_path / "net.ckpt"), **choice))
        assert model_of(network, 2.0).ledger.steps == 8


def test_a_checkpoint_shows_the_ledger_of_its_own_moment(tmp_path):
    saver = ModelCheckpoint("net", str(tmp_path), CheckpointConfig(save_checkpoint_steps=3, keep_checkpoint_max=99))
    model = model_of(dense(), 2.0)
    model.train(1, data(), callbacks=[saver])
    files = sorted(tmp_path.glob("*.ckpt"))
    assert sorted(ledger_file.load(path).steps for path in files) == [3, 6, 8]


def test_values_copied_between_networks_of_one_process_bring_their_history():
    network, other = dense(), dense()
    trained(network)
    ms.load_param_into_net(other, network.parameters_dict())
    assert model_of(other, 2.0).ledger.steps == 8


def with_parameters(copied):
    """A network whose Parameters are copies of another's."""
    def of(network):
        other = dense()
        for place in (0, 2):
            other[place].weight, other[place].bias = copied(network[place].weight), copied(network[place].bias)
        return other
    return of


def set_from(network):
    other = dense()
    for own, source in zip(other.get_parameters(), network.get_parameters()):
        own.set_data(source)
    return other


@pytest.mark.parametrize("copied", [
    copy.deepcopy, set_from, with_parameters(Parameter.clone), with_parameters(Parameter.copy),
    with_parameters(copy.copy), with_parameters(lambda p: Parameter(p, name=p.name)),
    with_parameters(lambda p: pickle.loads(pickle.dumps(p)))],
    ids=["deepcopy", "set_data", "clone", "Parameter.copy", "copy", "Parameter", "pickle"])
def test_copies_in_memory_bring_their_history_and_go_their_own_way(copied):
    network = dense()
    first = trained(network)
    second = model_of(copied(network), 2.0)
    assert second.ledger.entries == first.ledger.entries
    second.train_network(*batch_for("dense", ROWS))
    assert (second.ledger.steps, first.ledger.steps) == (9, 8)
    assert model_of(copied(dense()), 2.0).ledger.steps == 0


@pytest.mark.parametrize("spoil", ["stripped", "edited"])
def test_parameters_without_their_ledger_are_incomplete_in_every_statement(spoil, tmp_path, capsys):
    path = tmp_path / "net.ckpt"
    ms.save_checkpoint(trained(dense()).train_network, str(path))
    if spoil == "stripped":
        path = stripped(path, tmp_path)
    else:
        content = path.read_bytes()
        path.write_bytes(content.replace(b'"run":"', b'"rum":"'))
    network = dense()
    ms.load_checkpoint(str(path), network)
    with pytest.warns(PrivacyWarning, match="the ledger is incomplete"):
        model = model_of(network, 2.0)
    assert epsilon(model.ledger) == np.inf
    monitor = PrivacyMonitorFactory.create("rdp", COUNT, ROWS, target_delta=1e-5, max_eps=None)
    model.train(1, data(), callbacks=[monitor])
    printed = capsys.readouterr().out
    assert "eps is inf" in printed and "incomplete" in printed
    ms.save_checkpoint(network, str(tmp_path / "later.ckpt"))
    assert epsilon(ledger_file.load(str(tmp_path / "later.ckpt"))) == np.inf


def test_acknowledging_takes_unknown_training_off_the_record_but_no_step(tmp_path):
    ms.save_checkpoint(trained(dense()).train_network, str(tmp_path / "net.ckpt"))
    without = stripped(tmp_path / "net.ckpt", tmp_path)
    model = trained(dense())
    model.restore(without)
    assert epsilon(model.ledger) == np.inf
    model.restore(without, acknowledge="trained on public data")
    assert model.ledger.steps == 8, "what this network spent before stays spent"


def test_going_back_to_an_earlier_checkpoint_forgets_nothing(tmp_path):
    model = trained(dense())
    ms.save_checkpoint(model.train_network, str(tmp_path / "net.ckpt"))
    model.train(1, data())
    model.restore(str(tmp_path / "net.ckpt"))
    assert model.ledger.steps == 16
    model.train(1, data())
    assert model.ledger.steps == 24


def test_tails_of_two_forks_add_up_when_their_ledgers_meet(tmp_path):
    root = trained(dense())
    ms.save_checkpoint(root.train_network, str(tmp_path / "root.ckpt"))
    ends = []
    for name, epochs in (("left", 1), ("right", 2)):
        network = dense()
        model = model_of(network, 2.0)
        model.restore(str(tmp_path / "root.ckpt"))
        model.train(epochs, data())
        ms.save_checkpoint(model.train_network, str(tmp_path / f"{name}.ckpt"))
        ends.append(network)
    files = [ledger_file.load(str(tmp_path / f"{name}.ckpt")) for name in ("left", "right")]
    assert combine(files).steps == 8 + 8 + 16
    assert model_of(nn.SequentialCell(ends[0], nn.Dense(3, 6), ends[1]), 2.0).ledger.steps == 32


def test_noise_of_two_continuations_is_not_the_same(tmp_path):
    ms.save_checkpoint(trained(dense()).train_network, str(tmp_path / "root.ckpt"))
    drawn = []
    for _ in range(2):
        model = model_of(dense(), 2.0)
        model.restore(str(tmp_path / "root.ckpt"))
        source = model.train_network.plan.noise_mech.source
        drawn.append(source.normals(model.ledger.steps, [(100,)])[0])
    assert abs(np.corrcoef(*drawn)[0, 1]) < 0.6


def test_the_registry_holds_nothing_alive():
    gc.collect()
    before = len(spending._ACCOUNTS)
    network = dense()
    model = model_of(network)
    assert len(spending._ACCOUNTS) == before + len(network.trainable_params())
    del network, model
    gc.collect()
    assert len(spending._ACCOUNTS) == before


def test_a_clean_run_warns_of_nothing(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error", PrivacyWarning)
        public = dense()
        ms.save_checkpoint(public, str(tmp_path / "public.ckpt"))
        network = dense()
        ms.load_checkpoint(str(tmp_path / "public.ckpt"), network)
        assert model_of(copy.deepcopy(network)).ledger.steps == 0
