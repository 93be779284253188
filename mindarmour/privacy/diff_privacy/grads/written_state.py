"""State that a network writes while it computes: it leaves with the weights, and no noise is added to it.

Moving averages, running maxima, caches, quantisation ranges: found by what changes, not by what a class is called.
"""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Optional

import numpy as np
from mindspore import Parameter, Tensor, nn

from mindarmour.privacy.diff_privacy.grads.eager import EAGER_ERRORS, eager
from mindarmour.privacy.diff_privacy.grads.network_copy import copy_network
from mindarmour.privacy.diff_privacy.grads.rows import different_rows, poisoned
from mindarmour.privacy.errors import UnsupportedLayerError
from mindarmour.utils.mindspore_internals import own_parameters

_ROWS = 2
_OF_MINDSPORE = frozenset(vars(nn.Cell())) | {"_forward_hook", "_backward_hook", "construct"}


def refuse_written_state(network: nn.Cell, loss_fn: Optional[nn.Cell], columns: tuple) -> None:
    """Raise UnsupportedLayerError if a forward pass leaves something of the records behind, in whatever it belongs to.

    The network runs on two rows of the batch, on two others, and on rows without a number in them, where it can. State
    that ends up different depends on the records. State that all runs change alike, such as a counter, does not.
    Everything is as it was afterwards.

    Args:
        network (Cell): The network.
        loss_fn (Cell, optional): Its loss; None if the network returns the loss.
        columns (tuple[Tensor]): A batch of real rows.
    """
    rows, everywhere = different_rows(columns, _ROWS), np.ones(_ROWS, bool)
    runs = (rows, different_rows(columns, _ROWS, _ROWS), poisoned(rows, everywhere, 1), poisoned(rows, everywhere, 2))
    ends = [_state_after(network, loss_fn, given) for given in runs]
    if ends[0] is None:
        return  # it cannot be run apart from training, where it will fail too
    ends = [end for end in ends if end is not None]  # a network may refuse what is no number
    for place in dict.fromkeys(place for end in ends for place in end):
        if any(not _equal(ends[0].get(place), end.get(place)) for end in ends[1:]):
            name, key = place
            cell = dict(network.cells_and_names()).get(name, network)
            raise UnsupportedLayerError(
                name, type(cell).__name__, f"its forward pass writes what it saw of the records into '{key}', which "
                "leaves with the weights, without noise.",
                "Take that out, or for normalisation layers call replace_batch_norm(network).")


def _state_after(network, loss_fn, rows):
    """{(cell, attribute): value} of all state after a forward pass; None where that does not run."""
    cells = [cell for cell in (network, loss_fn) if cell is not None]
    held = [value for cell in cells for _, _, value in _state(cell) if isinstance(value, Tensor)]
    before = [value.asnumpy().copy() for value in held]
    with eager():
        try:
            copies = [copy_network(cell, lambda name, inner: None) for cell in cells]
            copies[0].set_train()
            if loss_fn is None:
                copies[0](*rows)
            else:
                copies[1](copies[0](*rows[:-1]), rows[-1])
            return {(name, key): _frozen(value) for cell in copies for name, key, value in _state(cell)}
        except EAGER_ERRORS:
            return None
        finally:
            for value, old in zip(held, before):
                _put_back(value, old)


def _put_back(held, old):
    if not _equal(held.asnumpy(), old):
        put = held.set_data if isinstance(held, Parameter) else held.assign_value
        put(Tensor(old, held.dtype))


def _state(cell) -> Iterator[tuple]:
    for name, inner in cell.cells_and_names():
        for key, parameter in own_parameters(inner).items():
            if parameter is not None:
                yield name, key, parameter
    yield from _attributes(cell)


def _attributes(network) -> Iterator[tuple]:
    for name, cell in network.cells_and_names():
        held = {**{key: value for key, value in vars(cell).items() if key not in _OF_MINDSPORE},
                **vars(cell).get("_buffers", {})}
        for key, value in held.items():
            if isinstance(value, (Tensor, np.ndarray, bool, int, float, str, list, dict, tuple, set)):
                yield name, key, value


def _frozen(value: Any) -> Any:
    """A copy to compare later; only what may hold numbers of the records."""
    if isinstance(value, Tensor):
        return value.asnumpy().copy()
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, (list, tuple)):
        return tuple(_frozen(item) for item in value)
    if isinstance(value, dict):
        return tuple((str(key), _frozen(item)) for key, item in value.items())
    return value if isinstance(value, (bool, int, float, str)) else type(value).__name__


def _equal(one, other):
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return one.shape == other.shape and one.tobytes() == other.tobytes()
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(_equal(a, b) for a, b in zip(one, other))
    return type(one) is type(other) and (one == other or one != one)
