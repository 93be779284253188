"""Where gradient canaries sit: the rows of a table beside the network, or coordinates of its own Parameters.

A place makes the loss whose gradient is one coordinate, says which Parameters are observed, and reads the canaries
out of their noised sums.
"""
from __future__ import annotations

from typing import Any, Optional, Protocol

import mindspore as ms
import numpy as np
from mindspore import Parameter, ParameterTuple, Tensor, nn, ops

from mindarmour.privacy.diff_privacy.clipping.rules import PerLayerClipping
from mindarmour.privacy.diff_privacy.sampling.draws import subset_draw
from mindarmour.privacy.diff_privacy.train.clipped_gradients import clipped_gradient_fn
from mindarmour.utils.secure_random import SecureStream

TABLE = "canary_table"
_PUSH = 1e4  # gradient of a canary before clipping: far above any bound


class Place(Protocol):
    """What `GradientCanaries` needs of a place."""

    kind: str  # what was audited, in words
    scope: str  # what the reader of a result must know
    cell: nn.Cell  # the network to train
    observed: tuple[Parameter, ...]  # whose noised gradients are read

    def owners(self) -> np.ndarray:
        """Place in `observed` of each canary's Parameter [m]."""

    def prepare(self, step: nn.Cell, columns: tuple) -> None:
        """Look at a batch before it is trained."""

    def read(self, sums: list[np.ndarray], bound: float) -> tuple[np.ndarray, Optional[np.ndarray]]:
        """(canaries [m] in units of the bound, what else of each Parameter is noise alone: sum of squares)."""


class _WithCanaries(nn.Cell):
    """Loss of each row: the network's for a record, one coordinate for a canary."""

    def __init__(self, network: nn.Cell, loss_fn: Optional[nn.Cell]) -> None:
        super().__init__(auto_prefix=False)
        self.network = network
        self.loss_fn = loss_fn
        self.has_loss = loss_fn is not None

    def construct(self, canary, *columns):
        is_canary = (canary > 0).astype(ms.float32)
        coordinate = self.coordinate(canary)
        # zero, so that the mean loss that training prints stays small; only the gradient counts
        push = (coordinate - ops.stop_gradient(coordinate)) * _PUSH
        loss = self.loss_fn(self.network(*columns[:-1]), columns[-1]) if self.has_loss else self.network(*columns)
        return loss.astype(ms.float32).reshape(-1) * (1.0 - is_canary) + push * is_canary


class _WithTable(_WithCanaries):
    """The coordinate is a row of a table."""

    def __init__(self, network: nn.Cell, loss_fn: Optional[nn.Cell], count: int) -> None:
        super().__init__(network, loss_fn)
        self.table = nn.Embedding(count + 1, 1, embedding_table="zeros")
        self.table.embedding_table.name = TABLE

    def coordinate(self, canary):
        return self.table(canary).reshape(-1).astype(ms.float32)


class InTable:
    """A row of a table for each canary; the network's own gradients never touch it.

    Args:
        network (Cell): The user's network.
        loss_fn (Cell, optional): Its loss with reduction 'none'.
        count (int): Canaries.
        stream (SecureStream): Unused: the rows are all alike.
    """

    kind = "gradient canaries"
    scope = ("reads one table beside the network: noise that is missing on the network's own Parameters alone is not "
             "seen")

    def __init__(self, network: nn.Cell, loss_fn: Optional[nn.Cell], count: int, stream: SecureStream) -> None:
        self.cell = _WithTable(network, loss_fn, count)
        self.observed = (self.cell.table.embedding_table,)
        self._count = count

    def owners(self) -> np.ndarray:
        """See `Place`."""
        return np.zeros(self._count, int)

    def prepare(self, step: nn.Cell, columns: tuple) -> None:
        """See `Place`."""

    def read(self, sums: list[np.ndarray], bound: float) -> tuple[np.ndarray, Optional[np.ndarray]]:
        """See `Place`."""
        return sums[0][1:] / bound, None


class _InParameters(_WithCanaries):
    """The coordinate is one of the network's Parameters: a product with a mask, which every engine can map."""

    def __init__(self, network: nn.Cell, loss_fn: Optional[nn.Cell], coordinates: np.ndarray) -> None:
        super().__init__(network, loss_fn)
        self.targets = ParameterTuple(network.trainable_params())
        self.numbers = tuple(Tensor(np.arange(p.size, dtype=np.int32)) for p in self.targets)
        self.starts = tuple(int(start) for start in _starts(self.targets)[:-1])
        self.coordinates = Tensor(np.append(-1, coordinates).astype(np.int32))

    def coordinate(self, canary):
        place = ops.gather(self.coordinates, canary, 0).reshape(-1, 1)
        total = ops.zeros(canary.shape, ms.float32).reshape(-1)
        for i in range(len(self.starts)):
            mask = (self.numbers[i].reshape(1, -1) == place - self.starts[i]).astype(ms.float32)
            total = total + (mask * self.targets[i].reshape(1, -1).astype(ms.float32)).sum(axis=1)
        return total


class InNetwork:
    """A coordinate of the network's Parameters for each canary, spread over all of them.

    What the records contribute there is computed once more, without noise and without the canaries, and subtracted.

    Args:
        network (Cell): The user's network.
        loss_fn (Cell, optional): Its loss with reduction 'none'.
        count (int): Canaries.
        stream (SecureStream): Draws the coordinates.

    Raises:
        ValueError: More canaries than the Parameters have room for.
    """

    kind = "gradient canaries in every parameter"
    scope = "the records' own gradient was computed once more, without noise, and subtracted"

    def __init__(self, network: nn.Cell, loss_fn: Optional[nn.Cell], count: int, stream: SecureStream) -> None:
        self.observed = tuple(network.trainable_params())
        sizes = [parameter.size for parameter in self.observed]
        counts = spread(count, sizes)
        self._places = [np.sort(subset_draw(size, some, stream)) if some else np.empty(0, int)
                        for size, some in zip(sizes, counts)]
        self._owners = np.repeat(np.arange(len(sizes)), counts)
        starts = _starts(self.observed)
        self.cell = _InParameters(network, loss_fn, np.concatenate(
            [places + start for places, start in zip(self._places, starts)]))
        self._network, self._loss_fn = network, loss_fn
        self._plan: Any = None
        self._clean: Any = None
        self._records: list[np.ndarray] = []

    @property
    def noise_only(self) -> np.ndarray:
        """Coordinates of each Parameter that hold no canary."""
        return np.array([parameter.size - len(places) for parameter, places in zip(self.observed, self._places)])

    def owners(self) -> np.ndarray:
        """See `Place`."""
        return self._owners

    def prepare(self, step: nn.Cell, columns: tuple) -> None:
        """See `Place`; the sum of the batch's records, without the canaries."""
        plan = step.plan
        if plan.clip_mech is not None:
            raise ValueError("clip_mech must be None for canaries in the network's Parameters, whose reading needs "
                             "one bound for the whole run. Put them in a table: coordinates='table'.")
        if self._plan is not plan:
            self._clean = clipped_gradient_fn(self._network, self._loss_fn, plan.norm_bound,
                                              physical_batch_size=plan.physical_batch_size, clipping=plan.rule)
            self._plan = plan
        canary, *rest, mask = columns
        is_real = mask.astype(ms.float32) * (canary == 0).astype(ms.float32)
        self._records = [part.asnumpy().reshape(-1).astype(np.float64)
                         for part in self._clean(*rest, is_real=is_real).total]

    def read(self, sums: list[np.ndarray], bound: float) -> tuple[np.ndarray, Optional[np.ndarray]]:
        """See `Place`."""
        noised = [(total - records) / bound for total, records in zip(sums, self._records)]
        canaries = [values[places] for values, places in zip(noised, self._places)]
        rest = [float(np.square(np.delete(values, places)).sum()) for values, places in zip(noised, self._places)]
        return np.concatenate(canaries), np.array(rest)


def spread(count: int, sizes: list[int]) -> np.ndarray:
    """So many canaries over Parameters: equally many in each, and one coordinate of each without any.

    Raises:
        ValueError: More canaries than there is room for.

    Examples:
        >>> spread(12, [100, 3, 1, 50]).tolist()
        [5, 2, 0, 5]
    """
    room = np.array(sizes) - 1
    if count > room.sum() or count < (room > 0).sum():
        raise ValueError(f"count must be from {int((room > 0).sum())}, one canary for each trainable Parameter, to "
                         f"{int(room.sum())}, their coordinates less one each, but got {count}.")
    counts = np.zeros(len(sizes), int)
    while counts.sum() < count:
        free = np.flatnonzero(counts < room)
        left = count - int(counts.sum())
        each = max(1, left // len(free))
        for place in free[:max(1, left // each)]:
            counts[place] += min(each, int(room[place] - counts[place]))
    return counts


def shares(rule: Any, network: nn.Cell, observed: tuple[Parameter, ...]) -> np.ndarray:
    """Share of the bound that each observed Parameter's group has."""
    if not isinstance(rule, PerLayerClipping):
        return np.ones(len(observed))
    place = {id(parameter): i for i, parameter in enumerate(network.trainable_params())}
    return np.array([rule.shares[rule.groups[place[id(parameter)]]] for parameter in observed])


def _starts(parameters: Any) -> np.ndarray:
    return np.append(0, np.cumsum([parameter.size for parameter in parameters]))
