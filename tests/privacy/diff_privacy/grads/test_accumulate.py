"""Physical batches: the sum of the parts is the sum of the batch, in the open function and in DPModel."""
import mindspore as ms
import numpy as np
import pytest
from small_models import dataset_of, loss_fn, model_of, weights
from small_networks import batch_for, dense, flat

from mindarmour.privacy.diff_privacy import clipped_gradient_fn

ROWS = 12


@pytest.mark.parametrize("units, physical, engine", [(None, 4, "vmap"), (None, 5, "auto"), (6, 4, "auto"),
                                                     (None, 5, "loop"), (None, 100, "vmap")])
def test_parts_add_up_to_the_batch(units, physical, engine, mode):
    network = dense()
    columns = batch_for("dense", ROWS)
    mask = (np.arange(ROWS) != 3).astype(np.float32)
    arguments = {"norm_bound": 0.2, "micro_batches": units}
    whole = clipped_gradient_fn(network, loss_fn(), engine="loop", **arguments)(*columns, is_real=mask)
    parts = clipped_gradient_fn(network, loss_fn(), engine=engine, physical_batch_size=physical, **arguments)(
        *columns, is_real=mask)
    assert np.linalg.norm(flat(whole.total) - flat(parts.total)) <= 1e-5 * np.linalg.norm(flat(whole.total))
    np.testing.assert_allclose(parts.norms.asnumpy(), whole.norms.asnumpy(), rtol=1e-5, atol=1e-7)
    assert float(parts.loss) == pytest.approx(float(whole.loss), rel=1e-5)


def test_model_adds_noise_once_for_the_whole_batch(mode):
    columns = batch_for("dense", ROWS)
    updates = []
    for physical in (None, 4):
        ms.set_seed(3)
        network = dense()
        before = weights(network)
        model = model_of(network, multiplier=0.5, bound=0.2, seed=9, engine="vmap", physical_batch_size=physical)
        model.train(2, dataset_of(columns, batch=ROWS))
        updates.append(before - weights(network))
        assert model.ledger.steps == 2 and model.ledger.entries[0].event.noise_multiplier == 0.5
    np.testing.assert_allclose(updates[1], updates[0], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("value, error", [(0, ValueError), (-4, ValueError), (2.0, TypeError), (True, TypeError)])
def test_bad_sizes_are_refused(value, error):
    with pytest.raises(error, match="physical_batch_size"):
        model_of(dense(), physical_batch_size=value)
    with pytest.raises(error, match="physical_batch_size"):
        clipped_gradient_fn(dense(), loss_fn(), physical_batch_size=value)


def test_a_part_must_hold_whole_units():
    with pytest.raises(ValueError, match="whole units of 3 examples"):
        clipped_gradient_fn(dense(), loss_fn(), micro_batches=4, physical_batch_size=4)(*batch_for("dense", ROWS))
