"""Layers whose statistics are no one example's own: found here, and replaced on request.

Batch normalisation mixes the records of a batch. MindSpore's instance normalisation does not, but it writes moving
statistics of the records, which never reach its output, into every checkpoint.
"""
from __future__ import annotations

from typing import Any, Optional

from mindspore import nn

from mindarmour.privacy.errors import UnsupportedLayerError
from mindarmour.utils import _validate
from mindarmour.utils.mindspore_internals import own_cells

# Channels of a group: a group of one value is constant after normalisation, a group of two keeps only a sign. With 16
# there is something left on vectors and on maps of a single pixel too, and Wu & He found 16 as good as 32 groups.
_CHANNELS = 16
_FEWEST = 4  # channels of a vector, below which nothing of it is left


def _is_batch_norm(cell):
    """By the classes that it descends from: a subclass may have any name."""
    return any("BatchNorm" in kind.__name__ for kind in type(cell).__mro__)


def _uses_batch_statistics(cell):
    return _is_batch_norm(cell) and getattr(cell, "use_batch_statistics", None) is not False


def _keeps_moving_statistics(cell):
    return isinstance(cell, (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d))


def refuse_batch_statistics(network: nn.Cell) -> None:
    """Raise UnsupportedLayerError if a layer of the network keeps or computes statistics over the batch."""
    for name, cell in network.cells_and_names():
        if _keeps_moving_statistics(cell):
            raise UnsupportedLayerError(
                name, type(cell).__name__, "it keeps moving statistics of the records, without noise.",
                "Call replace_batch_norm(network) to put GroupNorm with a group per channel in its place, which "
                "computes the same.")
        if _uses_batch_statistics(cell) and not _holds_the_layer(cell):
            raise UnsupportedLayerError(
                name, type(cell).__name__,
                "batch statistics mix the records of a batch, and moving statistics leak them without noise.",
                "Call replace_batch_norm(network) to put GroupNorm in its place, or freeze it with "
                "use_batch_statistics=False.")


def replace_batch_norm(network: nn.Cell, max_groups: int = 32) -> nn.Cell:
    """Put GroupNorm in the place of every batch and instance normalisation of a network, in place.

    Scale and shift keep their values, names, dtype, order and `requires_grad`, so a checkpoint of the network with
    batch normalisation loads with `mindspore.load_param_into_net`, which leaves out its moving statistics.

    In the place of a batch normalisation a group has at least 16 channels, or all where there are fewer. In the place
    of an instance normalisation it has one group per channel, which is the same function, without the moving
    statistics; MindSpore runs it on Ascend and CPU too, unlike InstanceNorm.

    Args:
        network (Cell): The network. Call this before its optimizer is made: the parameters are new objects.
        max_groups (int): Upper limit of groups for batch normalisation; the largest divisor of the channels up to it
            that leaves 16 channels to a group is taken.

    Returns:
        Cell, the same network; or a GroupNorm if `network` itself is such a layer.

    Raises:
        ValueError: A BatchNorm1d has fewer than 4 channels: normalised over so few values a vector is constant or
            little more than a sign.

    Examples:
        >>> from mindspore import nn
        >>> from mindarmour.privacy.diff_privacy import replace_batch_norm
        >>> network = replace_batch_norm(nn.SequentialCell(nn.Conv2d(3, 64, 3), nn.BatchNorm2d(64)))
        >>> network[1].num_groups, [parameter.name for parameter in network[1].get_parameters()]
        (4, ['1.gamma', '1.beta'])

    References:
        Wu & He 2018, "Group normalization".
    """
    _validate.instance("network", network, nn.Cell)
    _validate.integer("max_groups", max_groups, low=1)
    return _Replacer(max_groups).of(network)


class _Replacer:
    """Replaces layer by layer. What the network reaches by two ways is replaced by one layer."""

    def __init__(self, max_groups):
        self._max_groups = max_groups
        self._made: dict[int, tuple] = {}  # (old, new) by id of the old one, which is kept so that its id stays its own

    def of(self, cell):
        if id(cell) not in self._made:
            new = self._replacement(cell)
            self._made[id(cell)] = (cell, cell if new is None else new)
            if new is None:
                self._fill(cell)
        return self._made[id(cell)][1]

    def _fill(self, cell):
        children = own_cells(cell)
        for key, child in list(children.items()):
            if child is not None:
                children[key] = self.of(child)
        if isinstance(cell, nn.SequentialCell):
            cell.cell_list = list(children.values())
        for key, value in list(vars(cell).items()):
            if key not in ("_cells", "_params") and _holds_cells(value):
                object.__setattr__(cell, key, self._mapped(value))

    def _mapped(self, value):
        if isinstance(value, nn.Cell):
            return self.of(value)
        if type(value) in (list, tuple):
            return type(value)(self._mapped(item) for item in value)
        if type(value) is dict:
            return {key: self._mapped(item) for key, item in value.items()}
        return value

    def _replacement(self, cell) -> Optional[nn.Cell]:
        if _keeps_moving_statistics(cell):
            return _group_norm(cell, cell.num_features)
        layer = _layer_inside(cell) if _is_batch_norm(cell) else None
        if layer is None or not _uses_batch_statistics(layer):
            return None
        cell = layer
        _refuse_few_channels(cell)
        fitting = [groups for groups in range(1, self._max_groups + 1)
                   if cell.num_features % groups == 0 and cell.num_features >= groups * _CHANNELS]
        return _group_norm(cell, max(fitting, default=1))


def _holds_cells(value: Any) -> bool:
    if type(value) is dict:
        value = list(value.values())
    return isinstance(value, nn.Cell) or (type(value) in (list, tuple) and any(map(_holds_cells, value)))


def _layer_inside(cell: nn.Cell) -> Optional[nn.Cell]:
    """The layer with the scale and the shift: BatchNorm3d has it as a part. None for a container of another kind."""
    return cell if hasattr(cell, "num_features") else getattr(cell, "bn2d", None)


def _holds_the_layer(cell: nn.Cell) -> bool:
    """Whether this is a container of layers, which are looked at one by one."""
    return _layer_inside(cell) is not cell and bool(own_cells(cell))


def _refuse_few_channels(cell):
    vectors = any(kind.__name__ == "BatchNorm1d" for kind in type(cell).__mro__)
    if vectors and cell.num_features < _FEWEST:
        raise ValueError(f"network must have at least {_FEWEST} channels in a BatchNorm1d that is to be replaced, but "
                         f"{type(cell).__name__} has {cell.num_features}: normalised over so few values a vector is "
                         f"constant. Take the layer out, or make it wider.")


def _group_norm(cell: nn.Cell, groups: int) -> nn.Cell:
    """GroupNorm with scale and shift of a normalisation: values, names, dtype, `requires_grad`."""
    old = [getattr(cell, "gamma", None), getattr(cell, "beta", None)]
    if old[0] is None:  # names of mindspore.mint
        old = [getattr(cell, "weight", None), getattr(cell, "bias", None)]
    if old[0] is None:
        return nn.GroupNorm(groups, cell.num_features, float(cell.eps), affine=False)
    new = nn.GroupNorm(groups, cell.num_features, float(cell.eps), gamma_init=old[0].value().copy(),
                       beta_init=old[1].value().copy(), dtype=old[0].dtype)
    for parameter, template in zip((new.gamma, new.beta), old):
        parameter.name, parameter.requires_grad = template.name, template.requires_grad
    return new
