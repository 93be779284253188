"""Layers whose statistics are no one example's own: found here, and replaced on request.

Batch normalisation mixes the records of a batch. MindSpore's instance normalisation does not, but it writes moving
statistics of the records, which never reach its output, into every checkpoint.
"""
from mindspore import nn

from mindarmour.privacy.errors import UnsupportedLayerError
from mindarmour.utils import _validate


def _uses_batch_statistics(cell):
    return "BatchNorm" in type(cell).__name__ and getattr(cell, "use_batch_statistics", None) is not False


def _keeps_moving_statistics(cell):
    return isinstance(cell, (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d))


def refuse_batch_statistics(network):
    """Raise UnsupportedLayerError if a layer of the network keeps or computes statistics over the batch."""
    for name, cell in network.cells_and_names():
        if _keeps_moving_statistics(cell):
            raise UnsupportedLayerError(
                name, type(cell).__name__, "it keeps moving statistics of the records, without noise.",
                "Call replace_batch_norm(network) to put GroupNorm with a group per channel in its place, which "
                "computes the same.")
        if _uses_batch_statistics(cell):
            raise UnsupportedLayerError(
                name, type(cell).__name__,
                "batch statistics mix the records of a batch, and moving statistics leak them without noise.",
                "Call replace_batch_norm(network) to put GroupNorm in its place, or freeze it with "
                "use_batch_statistics=False.")


def replace_batch_norm(network, max_groups=32):
    """Put GroupNorm in the place of every batch and instance normalisation of a network, in place.

    In the place of an instance normalisation it has one group per channel and the same scale and shift, which is the
    same function, without the moving statistics; MindSpore runs it on Ascend and CPU too, unlike InstanceNorm.

    Args:
        network (Cell): The network. Call this before its optimizer is made: the parameters are new.
        max_groups (int): Upper limit of groups for batch normalisation; the largest divisor of the channels up to it
            is taken.

    Returns:
        Cell, the same network; or a GroupNorm if `network` itself is such a layer.

    References:
        Wu & He 2018, "Group normalization".
    """
    _validate.instance("network", network, nn.Cell)
    _validate.integer("max_groups", max_groups, low=1)
    new = _replacement(network, max_groups)
    if new is not None:
        return new
    for name, child in list(network.name_cells().items()):
        new = _replacement(child, max_groups)
        if new is None:
            replace_batch_norm(child, max_groups)
        else:
            _swap(network, name, new, child)
    return network


def _replacement(cell, max_groups):
    if _uses_batch_statistics(cell):
        return _group_norm(cell.num_features, max_groups)
    if not _keeps_moving_statistics(cell):
        return None
    new = nn.GroupNorm(cell.num_features, cell.num_features, cell.eps, gamma_init=cell.gamma.value(),
                       beta_init=cell.beta.value())
    for parameter, template in ((new.gamma, cell.gamma), (new.beta, cell.beta)):
        parameter.requires_grad = template.requires_grad
    return new


def _group_norm(channels, max_groups):
    return nn.GroupNorm(max(g for g in range(1, min(channels, max_groups) + 1) if channels % g == 0), channels)


def _swap(parent, name, new, old):
    for parameter, template in ((new.gamma, old.gamma), (new.beta, old.beta)):
        parameter.name = template.name
    if isinstance(parent, nn.SequentialCell):
        parent[list(parent.name_cells()).index(name)] = new
    else:
        setattr(parent, name, new)
