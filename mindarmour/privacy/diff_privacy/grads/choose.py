"""Which engine serves a network."""
from __future__ import annotations

from typing import Optional

import mindspore as ms
from mindspore import Tensor, nn, ops

from mindarmour.privacy.diff_privacy.clipping.rules import FlatClipping
from mindarmour.privacy.diff_privacy.grads.eager import eager
from mindarmour.privacy.diff_privacy.grads.exactness import refuse_if_inexact
from mindarmour.privacy.diff_privacy.grads.ghost.engine import GhostEngine
from mindarmour.privacy.diff_privacy.grads.loop import LoopEngine
from mindarmour.privacy.diff_privacy.grads.protocol import ENGINES
from mindarmour.privacy.diff_privacy.grads.rows import few_rows, holes_filled, real_places
from mindarmour.privacy.diff_privacy.grads.vmap import VmapEngine
from mindarmour.privacy.diff_privacy.grads.written_state import refuse_written_state
from mindarmour.privacy.errors import UnsupportedLayerError
from mindarmour.utils import _validate
from mindarmour.utils.logger import LogUtil

NO_REAL_ROW = "loop for now: no batch with a real row has come yet"


def choose_engine(name: str, network: nn.Cell, loss_fn: Optional[nn.Cell], rule: nn.Cell, units: int,
                  sample_columns: Optional[tuple] = None, is_real: Optional[Tensor] = None) -> tuple:
    """The engine asked for; 'auto' takes the fastest that is exact for the network, and logs which and why.

    What is chosen does not depend on where the holes of the batch fall: the network is tried on real rows only.

    Args:
        name (str): 'ghost' (one forward and backward pass), 'vmap', 'loop', or 'auto': ghost where no row reaches
            another and a comparison with the loop on a few rows finds it exact, else vmap, else the loop.
        network (Cell): The network.
        loss_fn (Cell, optional): Its loss; None if the network returns the loss.
        rule (Cell): Clipping rule.
        units (int): Units per batch.
        sample_columns (tuple[Tensor], optional): A batch. Without one 'auto' means vmap.
        is_real (Tensor, optional): float32 [B], 1 for each real row of the batch; all of them if None.

    Returns:
        tuple, (engine cell, reason str). The loop with the reason `NO_REAL_ROW` where no row is real: it has nothing
        to compute, and the choice is left to the next batch.

    Raises:
        UnsupportedLayerError: If 'ghost' is demanded for a network it cannot serve exactly, or if the network writes
            what it sees of the records.
        ValueError: If 'ghost' is demanded without a batch, or the name is unknown.
    """
    _validate.choice("engine", name, ENGINES)
    if sample_columns is not None:
        places = real_places(is_real, sample_columns[0].shape[0])
        if not len(places):
            return LoopEngine(network, loss_fn, rule, units), NO_REAL_ROW
        sample_columns = holes_filled(sample_columns, places)
        refuse_written_state(network, loss_fn, sample_columns)
    if name == "loop":
        return LoopEngine(network, loss_fn, rule, units), "asked for"
    if name == "vmap":
        return VmapEngine(network, loss_fn, rule, units), "asked for"
    if name == "ghost":
        return _ghost(network, loss_fn, rule, units, sample_columns), "asked for, equal to the loop on a few rows"
    engine, reason = _automatic(network, loss_fn, rule, units, sample_columns)
    log = LogUtil.get_instance()
    tell = log.info if isinstance(engine, GhostEngine) or sample_columns is None else log.warn
    tell("Engine", "%s: %s", type(engine).__name__, reason)
    return engine, reason


def kinds_of(network: nn.Cell, columns: tuple) -> tuple:
    """What an engine was chosen for: shapes and dtypes of the columns, cells and Parameters of the network.

    Where this changes, the engine is chosen, and the independence of rows shown, anew.
    """
    return (tuple((column.shape[1:], column.dtype) for column in columns),
            tuple(id(cell) for _, cell in network.cells_and_names()),
            tuple((id(parameter), parameter.dtype, parameter.requires_grad) for parameter in network.get_parameters()))


def still_exact(engine: nn.Cell, network: nn.Cell, loss_fn: Optional[nn.Cell], columns: tuple,
                is_real: Tensor) -> bool:
    """Whether an engine chosen on one data set is sound on a batch of another: rows may mix by their values only."""
    places = real_places(is_real, columns[0].shape[0])
    if not isinstance(engine, GhostEngine) or not len(places):
        return True
    try:
        refuse_if_inexact(network, loss_fn, tuple(c[:engine.rows] for c in holes_filled(columns, places)))
    except UnsupportedLayerError:
        return False
    return True


def _ghost(network, loss_fn, rule, units, columns):
    if columns is None:
        raise ValueError("engine='ghost' needs a batch to learn the layers' shapes from: pass sample_columns.")
    found = refuse_if_inexact(network, loss_fn, columns)
    engine = GhostEngine(network, loss_fn, rule, units, columns, found)
    engine.set_train(network.training)
    return engine


def _automatic(network, loss_fn, rule, units, columns):
    if columns is None:
        return VmapEngine(network, loss_fn, rule, units), "vmap, as no batch was given to check the ghost engine with"
    try:
        return _ghost(network, loss_fn, rule, units, columns), "ghost, equal to the loop on a few rows"
    except UnsupportedLayerError as refused:
        why = str(refused)
    if _vmap_runs(network, loss_fn, columns):
        return VmapEngine(network, loss_fn, rule, units), f"vmap, because ghost cannot: {why}"
    return LoopEngine(network, loss_fn, rule, units), f"loop, because MindSpore cannot map the network and: {why}"


def _vmap_runs(network, loss_fn, columns):
    """Whether MindSpore has vmap rules for every operator of the network."""
    rows = few_rows(columns, 2)
    try:
        with eager():
            engine = VmapEngine(network, loss_fn, FlatClipping(), 2)
            engine(Tensor(1.0, ms.float32), ops.ones(2, ms.float32), *rows)[1].asnumpy()
    except (RuntimeError, ValueError, TypeError, NotImplementedError, AttributeError):
        return False
    return True
