"""The step called by hand, changed under way, and over a part of a network."""
import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, Tensor, nn, ops
from mindspore.train import Callback, CheckpointConfig, ModelCheckpoint
from scipy import stats
from small_models import ROWS, dataset_of, loss_fn, model_of, noise, weights
from small_networks import batch_for, dense, flat

from mindarmour.privacy.accounting import privacy_spent
from mindarmour.privacy.diff_privacy import (
    ClipMechanismsFactory,
    PerLayerClipping,
    PoissonSampler,
    PrivacyMonitorFactory,
    clipped_gradient_fn,
)
from mindarmour.privacy.errors import BudgetExceededError

COUNT = 64


def poisson():
    return PoissonSampler(ROWS).dataset(tuple(c.asnumpy() for c in batch_for("dense", COUNT)))


def real_batch():
    """A batch as the sampler's data set brings them, with its mask."""
    return (*batch_for("dense", ROWS), Tensor(np.ones(ROWS, np.float32)))


def stopper(limit):
    return PrivacyMonitorFactory.create("rdp", COUNT, ROWS, max_eps=limit, target_delta=1e-5, stop_at_budget=True)


def test_after_the_budget_has_stopped_training_no_step_runs_by_hand():
    network = dense()
    model = model_of(network, 2.0)
    model.train(4, poisson(), callbacks=[stopper(1.2)])
    steps, before = model.ledger.steps, weights(network)
    assert 0 < steps < 32
    with pytest.raises(BudgetExceededError):
        model.train_network(*real_batch())
    assert model.ledger.steps == steps and np.array_equal(weights(network), before)


@pytest.mark.parametrize("how", ["by hand", "another model"])
def test_steps_beside_the_plan_are_counted_before_the_budget_is_passed(how):
    network = dense()
    model, other = model_of(network, 5.0), model_of(network, 5.0)

    class Interlude(Callback):
        def on_train_step_end(self, run_context):
            if run_context.original_args().cur_step_num == 3:
                step, batch = (model, real_batch()) if how == "by hand" else (other, batch_for("dense", ROWS))
                step.train_network(*batch)

    model.train(40, poisson(), callbacks=[stopper(1.2), Interlude()])
    assert 4 < model.ledger.steps < 320
    assert privacy_spent(model.ledger.entries, 1e-5).epsilon <= 1.2


def test_a_step_in_evaluation_mode_is_clipped_noised_and_recorded(mode):
    network = dense()
    model = model_of(network, bound=0.1, engine="vmap")
    columns = batch_for("dense", ROWS)
    for part in (network, model.train_network):
        before = weights(network)
        part.set_train(False)
        model.train_network(*columns)
        assert 0 < np.linalg.norm(weights(network) - before) <= 0.1 * (1 + 1e-5)
    assert model.ledger.steps == 2


def test_a_batch_without_the_mask_of_its_data_set_is_refused():
    model = model_of(dense())
    model.train(1, poisson())
    with pytest.raises(ValueError, match="columns must hold the mask 'is_real' at position 2, but only 2 came"):
        model.train_network(*batch_for("dense", ROWS))
    assert model.ledger.steps == 8


@pytest.mark.parametrize("flag", [True, False])
def test_what_is_trainable_may_not_change_after_the_first_step(flag):
    network = dense()
    network[0].weight.requires_grad = not flag
    model = model_of(network)
    model.train_network(*batch_for("dense", ROWS))
    network[0].weight.requires_grad = flag
    with pytest.raises(ValueError, match="requires_grad of '0.weight' must not change"):
        model.train_network(*batch_for("dense", ROWS))
    assert model.ledger.steps == 1


def sum_of_head(network, columns, bound, **arguments):
    for parameter in network[0].trainable_params():
        parameter.requires_grad = False
    try:
        return flat(clipped_gradient_fn(network, loss_fn(), bound, engine="loop", **arguments)(*columns).total)
    finally:
        for parameter in network[0].get_parameters():
            parameter.requires_grad = True


@pytest.mark.parametrize("engine", ["ghost", "vmap", "loop"])
def test_only_what_the_optimizer_moves_takes_part_of_the_bound(engine, mode):
    network, columns = dense(), batch_for("dense", ROWS)
    network[0].weight.set_data(network[0].weight * 5)
    expected = sum_of_head(network, columns, 0.05)
    model = model_of(network, bound=0.05, engine=engine, optimizer=nn.SGD(network[2].trainable_params(), 1.0))
    trunk, head = weights(network[0]), weights(network[2])
    model.train_network(*columns)
    np.testing.assert_allclose((head - weights(network[2])) * ROWS, expected, atol=2e-6)
    assert np.array_equal(weights(network[0]), trunk)
    assert len(network.trainable_params()) == 4, "the flags are the user's"
    model.train_network(*columns)
    assert model.engine.engine == engine and list(model.engine.rules) == ["2.weight", "2.bias"]


def test_clipping_of_layers_is_that_of_the_layers_that_move():
    network, columns = dense(), batch_for("dense", ROWS)
    expected = sum_of_head(network, columns, 0.05, clipping=PerLayerClipping([0, 1], [2.0, 1.0]))
    clipping = PerLayerClipping([0, 0, 2, 1], [7.0, 1.0, 2.0])
    model = model_of(network, bound=0.05, clipping=clipping, optimizer=nn.SGD(network[2].trainable_params(), 1.0))
    head = weights(network[2])
    model.train_network(*columns)
    np.testing.assert_allclose((head - weights(network[2])) * ROWS, expected, atol=2e-6)


class Mixed(nn.Cell):
    """Parameters of several ranks without any gradient."""

    def __init__(self):
        super().__init__()
        self.matrix = Parameter(Tensor(np.zeros((30, 40)), ms.float32), name="matrix")
        self.bias = Parameter(Tensor(np.zeros(900), ms.float32), name="bias")
        self.filters = Parameter(Tensor(np.zeros((8, 4, 5, 5)), ms.float32), name="filters")

    def construct(self, x):
        return (self.matrix.sum() * 0.0 + self.bias.sum() * 0.0 + self.filters.sum() * 0.0) * x


def test_every_parameter_gets_the_stated_noise():
    network = Mixed()
    model = model_of(network, 1.5, 2.0, loss_fn=nn.MSELoss(), engine="vmap")
    nothing = Tensor(np.zeros((ROWS, 1), np.float32))
    model.train_network(nothing, nothing)
    for parameter in network.trainable_params():
        assert stats.kstest(parameter.asnumpy().ravel() * ROWS / 3.0, "norm").pvalue > 1e-4, parameter.name


def test_the_adaptive_bound_moves_with_the_stated_noise():
    clip = ClipMechanismsFactory.create("Gaussian", learning_rate=1.0, target_unclipped_quantile=0.5,
                                        fraction_stddev=0.2)
    model = model_of(dense(), bound=100.0, clip_mech=clip, lr=1e-12)
    columns, moves = batch_for("dense", ROWS), []
    for _ in range(300):
        ops.assign(model.train_network.norm_bound, Tensor(100.0, ms.float32))
        model.train_network(*columns)
        moves.append(100.0 - float(model.train_network.norm_bound) - 0.5)
    assert stats.kstest(np.array(moves) / 0.2, "norm").pvalue > 1e-3


def test_noise_of_the_fraction_is_not_that_of_the_gradient():
    clip, gradient = ClipMechanismsFactory.recommended(seed=7), noise(seed=7)
    assert clip.source.normals(3, [(1,)])[0] != gradient.source.normals(3, [(1,)])[0]


def test_the_adaptive_bound_sees_unscaled_norms():
    bounds = []
    for extra in ({}, {"loss_scale_manager": ms.FixedLossScaleManager(1024, False)}):
        ms.set_seed(3)
        clip = ClipMechanismsFactory.create("Gaussian", learning_rate=0.5, fraction_stddev=1e-7)
        model = model_of(dense(), bound=10.0, clip_mech=clip, engine="vmap", lr=1e-9, **extra)
        model.train_network(*batch_for("dense", ROWS))
        bounds.append(float(model.train_network.norm_bound))
    assert bounds[0] == pytest.approx(bounds[1], rel=1e-4)


def test_seeded_noise_goes_on_after_a_restore_as_if_nothing_had_happened(tmp_path):
    columns = batch_for("dense", ROWS)
    first = model_of(dense(), 1.0, seed=7, engine="vmap")
    saver = ModelCheckpoint("net", str(tmp_path), CheckpointConfig(save_checkpoint_steps=1))
    first.train(1, dataset_of(columns), callbacks=[saver])
    first.train(1, dataset_of(columns))
    second = model_of(dense(), 1.0, seed=7, engine="vmap")
    second.restore(saver.latest_ckpt_file_name)
    second.train(1, dataset_of(columns))
    np.testing.assert_allclose(weights(first.train_network.network), weights(second.train_network.network),
                               rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("seeds, kind", [((0, 0), "secure"), ((7, 0), "seeded"), ((0, 5), "seeded")])
def test_the_record_names_the_weakest_randomness(seeds, kind):
    clip = ClipMechanismsFactory.recommended(seed=seeds[1])
    model = model_of(dense(), 1.0, seed=seeds[0], clip_mech=clip, engine="vmap")
    model.train_network(*batch_for("dense", ROWS))
    assert model.ledger.entries[0].event.noise_source == kind
    statement = privacy_spent(model.ledger.entries, 1e-5)
    assert ("no protection against whoever knows the seed" in statement.note) == (kind == "seeded")
