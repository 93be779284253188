"""What each of two ranks does; findings go to FOLDER/RANK.npz for the tests to judge.

    rank_job.py MODE FOLDER [CHECKPOINT]
"""
import contextlib
import io
import sys
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops
from mindspore.communication import get_rank, init
from small_job import (
    BATCH,
    MULTIPLIER,
    RECORDS,
    ROWS,
    SEEDS,
    Silent,
    adaptive,
    digits,
    dp_model,
    half,
    loss_fn,
    mlp,
    monitor,
    train_digits,
    union_batch,
    weights,
)

from mindarmour.privacy.diff_privacy import DPOptimizerClassFactory, PoissonSampler, clipped_gradient_fn
from mindarmour.privacy.diff_privacy.parallel import ranks as parallel
from mindarmour.privacy.diff_privacy.parallel.ranks import Ranks
from mindarmour.privacy.diff_privacy.parallel.sums import RankSum
from mindarmour.privacy.evaluation import collect_signals
from mindarmour.privacy.sup_privacy import MaskLayerDes, SuppressMasker, SuppressModel, SuppressPrivacyFactory

FOUND = {}


def clipped_sums(rank):
    clipped = clipped_gradient_fn(mlp(), loss_fn(), norm_bound=0.1)
    for step in range(3):
        *columns, is_real = half(union_batch(step), rank)
        result = clipped(*columns, is_real=is_real)
        FOUND[f"sum{step}"] = np.concatenate([total.asnumpy().ravel() for total in result.total])
        FOUND[f"loss{step}"] = float(result.loss)
        FOUND["units"] = result.units


def buckets(rank):
    """Sums of tensors in buckets of their own equal those in one bucket."""
    shapes = [(2, 3), (4,), (), (5,)]
    tensors = tuple(Tensor(np.full(shape, 10.0 * i + rank, np.float32)) for i, shape in enumerate(shapes))
    parts = [np.concatenate([s.asnumpy().ravel() for s in RankSum(shapes, size)(ms.mutable(tensors))])
             for size in (6, 2 ** 24)]
    FOUND["buckets"] = np.stack(parts)


@contextlib.contextmanager
def noted_normals(notes):
    """Note what each call draws on this rank."""
    plain = Ranks.normals

    def noting(self, *arguments):
        drawn = plain(self, *arguments)
        notes.append(np.concatenate([z.ravel() for z in drawn]))
        return drawn

    Ranks.normals = noting
    try:
        yield
    finally:
        Ranks.normals = plain


def pure_noise(rank, steps=4):
    """Updates of a network without gradient, and this rank's draws, for each placement and a seed."""
    rows = Tensor(np.zeros((ROWS, 1), np.float32))
    kinds = {"secure": {}, "rank0": {"noise_placement": "rank0"}, "slices": {"noise_placement": "slices"},
             "seeded": {"seed": 7}}
    for name, settings in kinds.items():
        network = Silent()
        model = dp_model(network, loss=False, **settings)
        drawn, updates = [], []
        with noted_normals(drawn):
            for _ in range(steps):
                before = weights(network)
                model.train_network(rows)
                updates.append(before - weights(network))
        FOUND[f"{name}_update"], FOUND[f"{name}_drawn"] = np.stack(updates), np.stack(drawn)


def custom_loop(rank):
    factory = DPOptimizerClassFactory(micro_batches=ROWS)
    factory.set_mechanisms("Gaussian", norm_bound=0.5, initial_noise_multiplier=MULTIPLIER)
    network = Silent()
    optimizer = factory.create("SGD")(network.trainable_params(), 1.0)
    optimizer((ops.zeros(network.weight.shape, ms.float32),))
    FOUND["custom_loop"] = weights(network)


def training(rank):
    for seed in SEEDS:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            model, epsilon, accuracy = train_digits(seed)
        FOUND[f"weights{seed}"] = weights(model.train_network.network)
        FOUND[f"epsilon{seed}"], FOUND[f"accuracy{seed}"] = epsilon, accuracy
        FOUND[f"bound{seed}"] = float(model.train_network.norm_bound)
        FOUND["ledger"], FOUND["printed"] = repr(model.ledger.entries), printed.getvalue()


def stop_at_budget(rank):
    train, _ = digits()
    model = dp_model(mlp((64, 8, 10)))
    model.train(3, PoissonSampler(BATCH).dataset(train), callbacks=monitor(max_eps=2.5, stop_at_budget=True))
    FOUND["stopped_after"] = model.ledger.steps


def shards(rank):
    """A shuffled partition, each rank reading its shard; and what is refused."""
    columns = tuple(column[:128] for column in digits()[0])
    source = ms.dataset.NumpySlicesDataset(columns, ["image", "label"], num_shards=2, shard_id=rank)
    model = dp_model(mlp((64, 8, 10)))
    model.train(1, source.batch(16))
    FOUND["shards_event"] = repr(model.ledger.entries)
    refused("unsharded", dp_model(mlp((64, 8, 10))),
            ms.dataset.NumpySlicesDataset(columns, ["image", "label"]).batch(16))
    odd = ms.dataset.NumpySlicesDataset(tuple(c[:127] for c in columns), ["image", "label"], num_shards=2,
                                        shard_id=rank)
    refused("odd", dp_model(mlp((64, 8, 10))), odd.batch(16))


def refused(name, model, dataset, epochs=1):
    try:
        model.train(epochs, dataset)
    except ValueError as error:
        FOUND[f"refused_{name}"] = str(error)


def disagreements(rank):
    data = tuple(column[:256] for column in digits()[0])
    reverse = tuple(column[::-1].copy() for column in data)

    def poisson(columns=data, **arguments):
        return PoissonSampler(32, **arguments).dataset(columns)

    small = (64, 4, 10)
    refused("weights", dp_model(mlp(small, seed=rank)), poisson())
    refused("multiplier", dp_model(mlp(small), multiplier=1.0 + rank), poisson())
    refused("seed", dp_model(mlp(small), seed=1 + rank), poisson())
    refused("steps", dp_model(mlp(small)), poisson(steps_per_epoch=8 + rank))
    refused("epochs", dp_model(mlp(small)), poisson(), epochs=1 + rank)
    refused("data", dp_model(mlp(small)), poisson(reverse if rank else data))
    refused("clip", dp_model(mlp(small), clip=adaptive() if rank else None), poisson())
    refused("network", dp_model(mlp(small if rank else (64, 10))), poisson())
    bound = dp_model(mlp(small))
    bound.train_network.norm_bound.set_data(Tensor(0.5 + 0.1 * rank, ms.float32))
    refused("bound", bound, poisson())
    ms.set_auto_parallel_context(parameter_broadcast=True)
    network = mlp(small, seed=rank)
    dp_model(network).train(1, poisson(steps_per_epoch=2))
    ms.set_auto_parallel_context(parameter_broadcast=False)
    FOUND["broadcast"] = weights(network)


def suppressed(rank):
    columns, _ = digits()
    network = mlp((64, 8, 10))
    data = ms.dataset.NumpySlicesDataset(tuple(c[:160] for c in columns), ["x", "y"], shuffle=False, num_shards=2,
                                         shard_id=rank).batch(16)
    model = SuppressModel(network, loss_fn(), nn.Momentum(network.trainable_params(), 0.05, 0.9))
    layers = [MaskLayerDes("0.weight", 0, False, False, -1)]
    control = SuppressPrivacyFactory.create(network, layers, end_epoch=3, batch_num=5, start_epoch=1, mask_times=10,
                                            lr=0.05, sparse_end=0.5)
    model.link_suppress_ctrl(control)
    model.train(3, data, callbacks=[SuppressMasker(model, control)])
    FOUND["suppressed"] = weights(network)
    FOUND["sparsity"] = control.calc_actual_sparse_for_layer(network, "0.weight")


def signals(rank):
    (images, labels), (others, other_labels) = digits()
    collected = collect_signals(mlp((64, 8, 10)), (images[:100], labels[:100]), (others[:100], other_labels[:100]),
                                batch_size=64, progress=False)
    FOUND["signals"] = collected.losses


def resumed(checkpoint):
    train, _ = digits()
    model = dp_model(mlp((64, 8, 10)))
    model.restore(checkpoint)
    rdp = monitor()
    FOUND["resumed_from"] = model.ledger.steps
    model.train(2, PoissonSampler(BATCH).dataset(train), callbacks=rdp)
    FOUND["resumed_steps"], FOUND["resumed_epsilon"] = model.ledger.steps, rdp.spent().epsilon


def main(mode, folder, checkpoint=None):
    ms.set_device("CPU")
    ms.set_context(mode=ms.GRAPH_MODE if mode == "graph" else ms.PYNATIVE_MODE)
    init()
    rank = get_rank()
    ms.set_auto_parallel_context(parallel_mode="data_parallel", gradients_mean=True)
    FOUND["ranks"] = repr(parallel.current_ranks())
    FOUND["records"] = RECORDS
    parts = [clipped_sums, buckets, pure_noise, custom_loop, shards]
    if mode == "graph":
        parts += [training, stop_at_budget, disagreements, suppressed, signals]
    else:
        parts += [suppressed, stop_at_budget]
    for part in parts:
        part(rank)
        print("done", part.__name__, flush=True)
    if checkpoint is not None:
        resumed(checkpoint)
    np.savez(Path(folder) / f"{rank}.npz", **FOUND)


if __name__ == "__main__":
    main(*sys.argv[1:])
