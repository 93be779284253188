"""Which engine serves a network."""
from mindarmour.privacy.diff_privacy.grads.microbatch import LoopEngine
from mindarmour.privacy.diff_privacy.grads.vmap import VmapEngine


def choose_engine(name, network, loss_fn, rule, units, sample_columns=None):
    """The engine asked for, and why.

    Returns:
        tuple, (engine cell, reason str).
    """
    if name == "loop":
        return LoopEngine(network, loss_fn, rule, units), "asked for"
    return VmapEngine(network, loss_fn, rule, units), "asked for" if name == "vmap" else "serves every network"
