"""Which engine serves a network."""
import mindspore as ms
from mindspore import Tensor, ops

from mindarmour.privacy.diff_privacy.clipping.rules import FlatClipping
from mindarmour.privacy.diff_privacy.grads.eager import eager, few_rows
from mindarmour.privacy.diff_privacy.grads.exactness import refuse_if_inexact
from mindarmour.privacy.diff_privacy.grads.ghost.engine import GhostEngine
from mindarmour.privacy.diff_privacy.grads.loop import LoopEngine
from mindarmour.privacy.diff_privacy.grads.protocol import ENGINES
from mindarmour.privacy.diff_privacy.grads.vmap import VmapEngine
from mindarmour.privacy.errors import UnsupportedLayerError
from mindarmour.utils import _validate
from mindarmour.utils.logger import LogUtil


def choose_engine(name, network, loss_fn, rule, units, sample_columns=None):
    """The engine asked for; 'auto' takes the fastest that is exact for the network, and logs which and why.

    Args:
        name (str): 'ghost' (one forward and backward pass), 'vmap', 'loop', or 'auto': ghost where a comparison
            with the loop on the first rows proves it exact, else vmap, else the loop.
        network (Cell): The network.
        loss_fn (Cell, optional): Its loss; None if the network returns the loss.
        rule (Cell): Clipping rule.
        units (int): Units per batch.
        sample_columns (tuple[Tensor], optional): A batch. Without one 'auto' means vmap.

    Returns:
        tuple, (engine cell, reason str).

    Raises:
        UnsupportedLayerError: If 'ghost' is demanded for a network it cannot serve exactly.
        ValueError: If 'ghost' is demanded without a batch, or the name is unknown.
    """
    _validate.choice("engine", name, ENGINES)
    if name == "loop":
        return LoopEngine(network, loss_fn, rule, units), "asked for"
    if name == "vmap":
        return VmapEngine(network, loss_fn, rule, units), "asked for"
    if name == "ghost":
        return _ghost(network, loss_fn, rule, units, sample_columns), "asked for, equal to the loop on the first rows"
    engine, reason = _automatic(network, loss_fn, rule, units, sample_columns)
    log = LogUtil.get_instance()
    tell = log.info if isinstance(engine, GhostEngine) or sample_columns is None else log.warn
    tell("Engine", "%s: %s", type(engine).__name__, reason)
    return engine, reason


def _ghost(network, loss_fn, rule, units, columns):
    if columns is None:
        raise ValueError("engine='ghost' needs a batch to learn the layers' shapes from: pass sample_columns.")
    refuse_if_inexact(network, loss_fn, columns)
    engine = GhostEngine(network, loss_fn, rule, units, columns)
    engine.set_train(network.training)
    return engine


def _automatic(network, loss_fn, rule, units, columns):
    if columns is None:
        return VmapEngine(network, loss_fn, rule, units), "vmap, as no batch was given to check the ghost engine with"
    try:
        return _ghost(network, loss_fn, rule, units, columns), "ghost, equal to the loop on the first rows"
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
