"""What DPModel refuses, with the reason, before anything is trained."""
import math

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn
from mindspore.train import Model
from small_models import ROWS, dataset_of, loss_fn, model_of, noise, weights
from small_networks import batch_for, dense

from mindarmour.privacy.diff_privacy import (
    AutomaticClipping,
    ClipMechanismsFactory,
    DPModel,
    DPOptimizerClassFactory,
    PerLayerClipping,
    replace_batch_norm,
)
from mindarmour.privacy.errors import UnsupportedLayerError


@pytest.mark.parametrize("arguments, error, match", [
    ({"micro_batches": 0}, ValueError, "micro_batches"), ({"micro_batches": -1}, ValueError, "micro_batches"),
    ({"micro_batches": 2.0}, TypeError, "micro_batches"), ({"micro_batches": True}, ValueError, "micro_batches"),
    ({"norm_bound": 1}, TypeError, "norm_bound"), ({"norm_bound": 0.0}, ValueError, "norm_bound"),
    ({"norm_bound": math.nan}, ValueError, "norm_bound"), ({"norm_bound": math.inf}, ValueError, "norm_bound"),
    ({"norm_bound": 2.0}, ValueError, "must agree"), ({"noise_mech": None}, ValueError, "noise_mech must be given"),
    ({"noise_mech": "Gaussian"}, TypeError, "noise_mech"), ({"clip_mech": 3}, TypeError, "clip_mech"),
    ({"optimizer": None}, ValueError, "optimizer"), ({"optimizer": nn.Momentum}, ValueError, "optimizer"),
    ({"optimizer": "SGD"}, TypeError, "optimizer"), ({"engine": "fast"}, ValueError, "engine"),
    ({"physical_batch_size": 0}, ValueError, "physical_batch_size"), ({"clipping": "flat"}, TypeError, "clipping"),
    ({"physical_batch_size": 8.0}, TypeError, "physical_batch_size"), ({"loss_fn": "mse"}, TypeError, "loss_fn"),
    ({"noise_placement": "all"}, ValueError, "noise_placement"), ({"micro_batches": "2"}, TypeError, "micro_batches"),
    ({"amp_level": "O3"}, ValueError, "amp_level"), ({"boost_level": "O1"}, ValueError, "boost_level"),
    ({"network": None}, TypeError, "network"), ({"network": nn.SequentialCell(nn.BatchNorm1d(6), nn.Dense(6, 3))},
                                                UnsupportedLayerError, "replace_batch_norm")])
def test_bad_arguments_are_refused(arguments, error, match):
    network = dense()
    defaults = {"micro_batches": None, "norm_bound": 1.0, "noise_mech": noise(), "network": network,
                "loss_fn": loss_fn(), "optimizer": nn.SGD(network.trainable_params(), 0.1)}
    with pytest.raises(error, match=match):
        DPModel(**{**defaults, **arguments})


def test_mechanisms_that_exclude_each_other_are_refused():
    network = dense()
    factory = DPOptimizerClassFactory(micro_batches=2)
    factory.set_mechanisms("Gaussian")
    dp_optimizer = factory.create("SGD")(network.trainable_params(), 0.1)
    shared = {"network": network, "loss_fn": loss_fn(), "norm_bound": 1.0}
    with pytest.raises(ValueError, match="noise_mech must be None"):
        DPModel(micro_batches=2, noise_mech=noise(), optimizer=dp_optimizer, **shared)
    with pytest.raises(ValueError, match="micro_batches of the model and of the DP optimizer"):
        DPModel(micro_batches=4, optimizer=dp_optimizer, **shared)
    with pytest.raises(ValueError, match="clip_mech must be None"):
        DPModel(noise_mech=noise(noise_decay_rate=0.1, decay_policy="Exp"),
                clip_mech=ClipMechanismsFactory.create("Gaussian"), optimizer=nn.SGD(network.trainable_params(), 0.1),
                **shared)


def test_sink_mode_repeated_records_and_uneven_units_are_refused():
    columns = batch_for("dense", ROWS)
    model = model_of(dense(), micro_batches=3)
    with pytest.raises(ValueError, match="dataset_sink_mode must be False"):
        model.train(1, dataset_of(columns), dataset_sink_mode=True)
    with pytest.raises(ValueError, match="micro_batches must divide"):
        model.train(1, dataset_of(columns))
    data = ms.dataset.NumpySlicesDataset(tuple(c.asnumpy() for c in columns), ["image", "label"]).repeat(2).batch(4)
    with pytest.raises(ValueError, match="repeat"):
        model.train(1, data)


def test_a_compiled_train_step_fails_instead_of_freezing_its_noise():
    with pytest.raises(RuntimeError, match="cannot be compiled into another graph"):
        model_of(dense()).train_network.construct(*batch_for("dense", ROWS))


def test_dp_optimizer_in_a_plain_model_is_refused(mode):
    network = dense()
    factory = DPOptimizerClassFactory(micro_batches=2)
    factory.set_mechanisms("Gaussian")
    model = Model(network, loss_fn(), factory.create("SGD")(network.trainable_params(), 0.1))
    before = weights(network)
    with pytest.raises((RuntimeError, ValueError)):
        model.train(1, dataset_of(batch_for("dense", ROWS)))
    assert np.array_equal(before, weights(network))


def test_foreign_parameters_in_the_optimizer_are_refused():
    with pytest.raises(ValueError, match="parameters of the network only"):
        model_of(dense(), optimizer=nn.SGD(nn.Dense(2, 2).trainable_params(), 0.1))


def test_replace_batch_norm_makes_a_network_trainable():
    network = nn.SequentialCell(nn.Conv2d(2, 6, 3), nn.SequentialCell(nn.BatchNorm2d(6), nn.ReLU()), nn.Flatten(),
                                nn.Dense(6 * 25, 3))
    names = [p.name for p in network.trainable_params()]
    with pytest.raises(UnsupportedLayerError, match="'1.0' .BatchNorm2d."):
        model_of(network)
    replaced = replace_batch_norm(network)
    assert replaced is network and [p.name for p in network.trainable_params()] == names
    assert isinstance(network[1][0], nn.GroupNorm) and network[1][0].num_groups == 1
    model_of(network, engine="vmap").train_network(*batch_for("conv", ROWS))
    assert isinstance(replace_batch_norm(nn.BatchNorm2d(4)), nn.GroupNorm)
    frozen = nn.SequentialCell(nn.BatchNorm1d(6, use_batch_statistics=False), nn.Dense(6, 3))
    model_of(frozen)


def test_clipping_styles_are_checked():
    with pytest.raises(TypeError, match="clipping"):
        model_of(dense(), clipping="per-layer")
    with pytest.raises(ValueError, match="one group for each"):
        model_of(dense(), clipping=PerLayerClipping([0, 1]))
    with pytest.raises(ValueError, match="clip_mech must be None"):
        model_of(dense(), clipping=AutomaticClipping(), clip_mech=ClipMechanismsFactory.create("Gaussian"))
