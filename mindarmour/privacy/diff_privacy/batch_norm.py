"""Batch normalisation mixes the records of a batch: found here, and replaced on request."""
from mindspore import nn

from mindarmour.privacy.errors import UnsupportedLayerError
from mindarmour.utils import _validate


def _uses_batch_statistics(cell):
    return "BatchNorm" in type(cell).__name__ and getattr(cell, "use_batch_statistics", None) is not False


def refuse_batch_statistics(network):
    """Raise UnsupportedLayerError if a layer of the network computes statistics over the batch."""
    for name, cell in network.cells_and_names():
        if _uses_batch_statistics(cell):
            raise UnsupportedLayerError(
                name, type(cell).__name__,
                "batch statistics mix the records of a batch, and moving statistics leak them without noise.",
                "Call replace_batch_norm(network) to put GroupNorm in its place, or freeze it with "
                "use_batch_statistics=False.")


def replace_batch_norm(network, max_groups=32):
    """Put GroupNorm in the place of every batch normalisation of a network, in place.

    Args:
        network (Cell): The network. Call this before its optimizer is made: the parameters are new.
        max_groups (int): Upper limit of groups; the largest divisor of the channels up to it is taken.

    Returns:
        Cell, the same network; or a GroupNorm if `network` itself is a batch normalisation.

    References:
        Wu & He 2018, "Group normalization".
    """
    _validate.instance("network", network, nn.Cell)
    _validate.integer("max_groups", max_groups, low=1)
    if _uses_batch_statistics(network):
        return _group_norm(network.num_features, max_groups)
    for name, child in list(network.name_cells().items()):
        if _uses_batch_statistics(child):
            _swap(network, name, _group_norm(child.num_features, max_groups), child)
        else:
            replace_batch_norm(child, max_groups)
    return network


def _group_norm(channels, max_groups):
    return nn.GroupNorm(max(g for g in range(1, min(channels, max_groups) + 1) if channels % g == 0), channels)


def _swap(parent, name, new, old):
    for parameter, template in ((new.gamma, old.gamma), (new.beta, old.beta)):
        parameter.name = template.name
    if isinstance(parent, nn.SequentialCell):
        parent[list(parent.name_cells()).index(name)] = new
    else:
        setattr(parent, name, new)
