"""The ledger in checkpoints: resumed, forked, missing, cut, edited, spent on other data."""
import mindspore as ms
import numpy as np
import pytest
from mindspore import nn
from mindspore.train import CheckpointConfig, ModelCheckpoint
from small_models import dataset_of, model_of, weights
from small_networks import batch_for, dense

from mindarmour.privacy.accounting import ledger_file
from mindarmour.privacy.accounting.accountant import privacy_spent
from mindarmour.privacy.accounting.ledger import combine
from mindarmour.privacy.diff_privacy import PoissonSampler
from mindarmour.privacy.errors import LedgerMismatchError

COUNT, ROWS = 64, 16


@pytest.fixture(autouse=True)
def own_key(tmp_path, monkeypatch):
    monkeypatch.setenv("MINDARMOUR_HOME", str(tmp_path / "home"))


def data(seed=0):
    return PoissonSampler(ROWS).dataset(tuple(c.asnumpy() for c in batch_for("dense", COUNT, seed)))


def momentum_model(**arguments):
    network = dense()
    return model_of(network, 2.0, optimizer=nn.Momentum(network.trainable_params(), 0.1, 0.9), **arguments)


def trained(folder, epochs=1, checkpoint=None, dataset=None):
    """A model after so many epochs, and its last checkpoint."""
    model = momentum_model()
    if checkpoint:
        model.restore(checkpoint)
    saver = ModelCheckpoint("net", str(folder), CheckpointConfig(save_checkpoint_steps=4))
    model.train(epochs, dataset or data(), callbacks=[saver])
    return model, saver.latest_ckpt_file_name


def epsilon(ledger):
    return privacy_spent(ledger.entries, 1e-5).epsilon


def test_a_resumed_run_continues_weights_and_spend(tmp_path):
    first, path = trained(tmp_path / "a")
    second = momentum_model()
    second.restore(path)
    assert np.array_equal(weights(second.train_network.network), weights(first.train_network.network))
    assert second.ledger.steps == 4 and epsilon(second.ledger) == epsilon(first.ledger)
    second.train(1, data())
    straight, _ = trained(tmp_path / "b", epochs=2)
    assert second.ledger.steps == 8
    assert epsilon(second.ledger) == pytest.approx(epsilon(straight.ledger), rel=1e-9)


def test_restore_takes_a_loaded_dict_and_reads_the_same_as_the_file(tmp_path):
    _, path = trained(tmp_path)
    model = momentum_model()
    model.restore(ms.load_checkpoint(path))
    assert model.ledger.entries == ledger_file.load(path).entries


def test_weights_load_into_the_plain_network_too(tmp_path):
    model, path = trained(tmp_path)
    network = dense()
    ms.load_param_into_net(network, ms.load_checkpoint(path))
    assert np.array_equal(weights(network), weights(model.train_network.network))


def test_forks_add_up_and_shared_steps_count_once(tmp_path):
    _, root = trained(tmp_path / "root")
    _, left = trained(tmp_path / "left", checkpoint=root)
    _, right = trained(tmp_path / "right", epochs=2, checkpoint=root)
    both = combine([ledger_file.load(left), ledger_file.load(right), ledger_file.load(root)])
    assert both.steps == 4 + 4 + 8


def test_no_ledger_means_infinite_epsilon_until_acknowledged(tmp_path):
    _, path = trained(tmp_path)
    parameters = ms.load_checkpoint(path)
    del parameters["dp_ledger"]
    model = momentum_model()
    model.restore(parameters)
    assert epsilon(model.ledger) == np.inf
    model.restore(parameters, acknowledge="pretrained on public data")
    assert epsilon(model.ledger) == 0.0
    model.train(1, data())
    assert np.isfinite(epsilon(model.ledger))
    assert model.ledger.segments[0].note == "pretrained on public data"


def test_a_cut_or_edited_ledger_is_refused(tmp_path):
    _, path = trained(tmp_path)
    parameters = ms.load_checkpoint(path)
    packed = parameters["dp_ledger"].asnumpy()
    edited = packed.copy()
    edited[-40] ^= 1
    for spoiled, reason in ((packed[:-5], "cut short"), (edited, "edited"), (packed[5:], "holds no ledger")):
        parameters["dp_ledger"] = ms.Parameter(ms.Tensor(spoiled))
        model = momentum_model()
        with pytest.raises(LedgerMismatchError, match=reason):
            model.restore(parameters)


def test_a_budget_spent_on_other_data_is_refused(tmp_path):
    _, path = trained(tmp_path / "a")
    model = momentum_model()
    model.restore(path)
    with pytest.raises(LedgerMismatchError, match="other data"):
        model.train(1, data(seed=1))
    model.restore(path, acknowledge="the first data set is public")
    model.train(1, data(seed=1))
    assert model.ledger.steps == 8, "what was spent stays in the ledger"


def test_an_incomplete_checkpoint_is_refused(tmp_path):
    _, path = trained(tmp_path)
    parameters = {k: v for k, v in ms.load_checkpoint(path).items() if k != "0.weight"}
    with pytest.raises(ValueError, match="'0.weight' is missing"):
        momentum_model().restore(parameters)


def test_seeded_noise_is_not_replayed_after_a_restore(tmp_path):
    columns = batch_for("dense", 8)

    def model():
        return model_of(dense(), 1.0, seed=7, engine="vmap", lr=1.0)

    first = model()
    saver = ModelCheckpoint("net", str(tmp_path), CheckpointConfig(save_checkpoint_steps=1))
    first.train(1, dataset_of(columns), callbacks=[saver])
    second = model()
    second.restore(saver.latest_ckpt_file_name)
    assert second.ledger.steps == 1
    source = second.train_network.plan.noise_mech.source
    assert not np.array_equal(source.normals(0, [(5,)])[0], source.normals(second.ledger.steps, [(5,)])[0])


def test_fingerprint_is_keyed(tmp_path, monkeypatch):
    from mindarmour.privacy.diff_privacy.sampling.fingerprint import fingerprint
    here = fingerprint(data())
    assert here == fingerprint(data()) and here != fingerprint(data(seed=1))
    monkeypatch.setenv("MINDARMOUR_HOME", str(tmp_path / "another"))
    assert fingerprint(data()) != here, "without the key a guess of the data cannot be confirmed"


def test_of_two_processes_that_make_the_key_at_once_the_first_wins(tmp_path, monkeypatch):
    from mindarmour.privacy.diff_privacy.sampling import fingerprint as module
    monkeypatch.setenv("MINDARMOUR_HOME", str(tmp_path))

    def while_another_process_is_faster(size):
        (tmp_path / "fingerprint-key").write_bytes(b"a" * size)
        return b"b" * size

    monkeypatch.setattr(module.secrets, "token_bytes", while_another_process_is_faster)
    lost = module.fingerprint(data())
    assert lost == module.fingerprint(data(), key=b"a" * 32) and len(list(tmp_path.iterdir())) == 1
