"""Train to a fixed number of steps, from the newest complete checkpoint if there is one. Killed by its test.

Usage: killed_training.py FOLDER ATTEMPT STEPS
"""
import sys
from pathlib import Path

import numpy as np
from mindspore import nn
from mindspore.train import Callback, CheckpointConfig, ModelCheckpoint

from mindarmour.privacy.accounting import ledger_file
from mindarmour.privacy.diff_privacy import DPModel, NoiseMechanismsFactory, PoissonSampler
from mindarmour.privacy.errors import LedgerMismatchError

COUNT, BATCH, MULTIPLIER = 64, 8, 2.0


class Announce(Callback):
    """Tells the test about every step that has ended."""

    def on_train_step_end(self, run_context):
        print("step", flush=True)


def examples():
    rng = np.random.default_rng(0)
    return rng.normal(size=(COUNT, 6)).astype(np.float32), rng.integers(0, 3, COUNT).astype(np.int32)


def new_model():
    network = nn.SequentialCell(nn.Dense(6, 5), nn.Tanh(), nn.Dense(5, 3))
    return DPModel(micro_batches=None, norm_bound=1.0, network=network,
                   noise_mech=NoiseMechanismsFactory.create("Gaussian", 1.0, MULTIPLIER),
                   loss_fn=nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean"),
                   optimizer=nn.Momentum(network.trainable_params(), 0.01, 0.9))


def resume(model, folder):
    """Restore the newest checkpoint that was written to its end."""
    for path in sorted(folder.rglob("*.ckpt"), key=lambda p: p.stat().st_mtime_ns, reverse=True):
        try:
            ledger_file.load(path)
            model.restore(str(path))
        except (LedgerMismatchError, ValueError, RuntimeError):
            continue
        return


def main(folder, attempt, steps):
    model = new_model()
    resume(model, Path(folder))
    left = steps - model.ledger.steps
    if left:
        dataset = PoissonSampler(BATCH, steps_per_epoch=left).dataset(examples())
        config = CheckpointConfig(save_checkpoint_steps=1, keep_checkpoint_max=1000)
        saver = ModelCheckpoint("net", str(Path(folder) / attempt), config)
        model.train(1, dataset, callbacks=[saver, Announce()])


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
