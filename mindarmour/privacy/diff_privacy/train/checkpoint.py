"""The ledger travels with the weights: into every checkpoint, and back out of it.

MindSpore's `save_checkpoint`, `load_checkpoint` and `load_param_into_net` carry it from the import of this module on:
whatever is written with privately trained Parameters holds their ledger, and Parameters that are read bring it along.
So do copies of a Parameter in memory: `copy`, `deepcopy`, `pickle`, `clone`, `set_data`, `Parameter(parameter)`.
"""
from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any, Optional

import numpy as np
from mindspore import Parameter, Tensor, load_checkpoint, load_param_into_net, nn
from mindspore.train import Callback

from mindarmour.privacy.accounting import Ledger, ledger_file
from mindarmour.privacy.accounting.ledger import UNKNOWN_TRAINING
from mindarmour.privacy.diff_privacy.train import spending
from mindarmour.privacy.errors import LedgerMismatchError
from mindarmour.utils.mindspore_internals import watch_checkpoints, watch_copies

LEDGER_KEY = "dp_ledger"
# A Parameter that only this package's train networks have: its checkpoints are recognised by it.
_MARK = "norm_bound"


class LedgerCallback(Callback):
    """Marks epochs in the ledger and admits the data set's batches to the train step.

    DPModel puts it before the user's callbacks.
    """

    def on_train_epoch_begin(self, run_context) -> None:
        run_context.original_args().train_network.ledger.start_epoch()

    def on_train_step_begin(self, run_context) -> None:
        cb_params = run_context.original_args()
        cb_params.train_network.admit(cb_params.train_dataset_element)

    def on_train_epoch_end(self, run_context) -> None:
        run_context.original_args().train_network.warn_about_dropped_units()


def pack(ledger: Ledger) -> Tensor:
    """A ledger as the uint8 Tensor that a checkpoint holds."""
    return Tensor(np.frombuffer(ledger_file.to_bytes(ledger), np.uint8))


def restored(train_network: nn.Cell, checkpoint: Any, acknowledge: Optional[str]) -> None:
    """Load a checkpoint's weights, optimizer state and bound, and continue its ledger.

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
    if packed is None and not acknowledge:
        ledger.record(UNKNOWN_TRAINING)
    # what these values cost is in the ledger at hand
    spending.forget(parameters.values())
    load_param_into_net(train_network, parameters)
    train_network.continue_from(ledger, acknowledge)


def _continued(packed: Parameter) -> Ledger:
    try:
        return Ledger(ledger_file.from_bytes(packed.asnumpy().tobytes(), "The checkpoint").segments)
    except LedgerMismatchError as error:
        raise LedgerMismatchError(f"{error} Take an earlier checkpoint, or remove its entry '{LEDGER_KEY}' and "
                                  f"accept that the privacy spent is unknown.") from error


def _ledger_to_save(parameters: Iterable[Parameter]) -> dict[str, Tensor]:
    """What a checkpoint of these Parameters holds beside them."""
    ledger = spending.spent_on(parameters)
    return {} if ledger is None else {LEDGER_KEY: pack(ledger)}


def _arrived(path: str, parameters: dict[str, Parameter], partial: bool) -> None:
    """Parameters were read from a file: what they cost comes from there too."""
    packed, ledger = parameters.get(LEDGER_KEY), None
    if packed is None and not partial and _MARK not in parameters:
        return
    try:
        # where only part of the file was asked for, the ledger may have been left out
        ledger = ledger_file.load(path) if packed is None else _continued(packed)
    except (LedgerMismatchError, OSError):
        if packed is None and _MARK not in parameters:
            return
    spending.arrive((p for name, p in parameters.items() if name != LEDGER_KEY and isinstance(p, Parameter)),
                    None if ledger is None else Ledger(ledger.segments))


def _to_pickle(parameter: Parameter) -> Optional[bytes]:
    ledger = spending.spent_on([parameter])
    return None if ledger is None else ledger_file.to_bytes(ledger)


def _unpickled(parameter: Parameter, packed: bytes) -> None:
    spending.arrive([parameter], Ledger(ledger_file.from_bytes(packed, "The pickled Parameter").segments))


watch_checkpoints(_ledger_to_save, _arrived, spending.inherit)
watch_copies(spending.inherit, _to_pickle, _unpickled)
