"""The ledger travels with the weights: into every checkpoint, and back out of it."""
import os

import numpy as np
from mindspore import Tensor, load_checkpoint, load_param_into_net
from mindspore.train import Callback, ModelCheckpoint

from mindarmour.privacy.accounting import ledger_file
from mindarmour.privacy.accounting.ledger import UNKNOWN_TRAINING, Ledger
from mindarmour.privacy.errors import LedgerMismatchError
from mindarmour.utils.mindspore_internals import appended_to_checkpoints

LEDGER_KEY = "dp_ledger"


class LedgerCallback(Callback):
    """Marks epochs in the ledger and keeps it current in what ModelCheckpoint appends to its files.

    DPModel puts it before the user's callbacks, so that a checkpoint never shows fewer steps than its weights have
    seen.

    Args:
        callbacks (list): The user's callbacks.
    """

    def __init__(self, callbacks):
        super().__init__()
        self._appended = [appended_to_checkpoints(callback) for callback in callbacks
                          if isinstance(callback, ModelCheckpoint)]

    def on_train_epoch_begin(self, run_context):
        run_context.original_args().train_network.ledger.start_epoch()

    def on_train_step_end(self, run_context):
        if self._appended:
            packed = pack(run_context.original_args().train_network.ledger)
            for appended in self._appended:
                appended[LEDGER_KEY] = packed

    def on_train_epoch_end(self, run_context):
        run_context.original_args().train_network.warn_about_dropped_units()


def pack(ledger):
    """A ledger as the uint8 Tensor that a checkpoint holds."""
    return Tensor(np.frombuffer(ledger_file.to_bytes(ledger), np.uint8))


def restored(train_network, checkpoint, acknowledge):
    """Load a checkpoint's weights, optimizer state and bound; return the ledger that continues its run.

    See `DPModel.restore`.
    """
    parameters = dict(load_checkpoint(os.fspath(checkpoint))) if not isinstance(checkpoint, dict) else dict(checkpoint)
    packed = parameters.pop(LEDGER_KEY, None)
    ledger = Ledger() if packed is None else _continued(packed)
    # checked before loading: MindSpore would fill a missing weight with a parameter of a similar name
    missing = sorted({p.name for p in train_network.network.get_parameters()} - set(parameters))
    if missing:
        raise ValueError(f"checkpoint must hold all parameters of the network, but {missing[0]!r} is missing. Restore "
                         f"the checkpoint of this network.")
    load_param_into_net(train_network, parameters)
    if acknowledge:
        ledger.acknowledge(acknowledge)
    elif packed is None:
        ledger.record(UNKNOWN_TRAINING)
    return ledger


def _continued(packed):
    try:
        return Ledger(ledger_file.from_bytes(packed.asnumpy().tobytes(), "The checkpoint").segments)
    except LedgerMismatchError as error:
        raise LedgerMismatchError(f"{error} Take an earlier checkpoint, or remove its entry '{LEDGER_KEY}' and "
                                  f"accept that the privacy spent is unknown.") from error
