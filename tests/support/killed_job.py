"""Rank 1 dies in the middle of training; rank 0 notes how its own training ended.

    killed_job.py FOLDER
"""
import json
import os
import signal
import sys
from pathlib import Path

import mindspore as ms
from mindspore.communication import get_rank, init
from mindspore.train import Callback, CheckpointConfig, ModelCheckpoint
from small_job import BATCH, digits, dp_model, mlp

from mindarmour.privacy.diff_privacy import PoissonSampler

LAST_STEP = 3


class Die(Callback):
    """End this process as a power failure would."""

    def on_train_step_end(self, run_context):
        if run_context.original_args().cur_step_num == LAST_STEP:
            os.kill(os.getpid(), signal.SIGKILL)


def main(folder):
    ms.set_device("CPU")
    ms.set_context(mode=ms.GRAPH_MODE)
    init()
    ms.set_auto_parallel_context(parallel_mode="data_parallel")
    model = dp_model(mlp((64, 8, 10)))
    checkpoints = ModelCheckpoint("run", folder, CheckpointConfig(save_checkpoint_steps=1, keep_checkpoint_max=2))
    try:
        model.train(4, PoissonSampler(BATCH).dataset(digits()[0]), callbacks=[Die() if get_rank() else checkpoints])
        message = "no error"
    except RuntimeError as error:
        message = str(error)
    found = {"message": message, "steps": model.ledger.steps, "checkpoint": checkpoints.latest_ckpt_file_name}
    (Path(folder) / "survivor.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
