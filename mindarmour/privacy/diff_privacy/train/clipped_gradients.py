"""The gradient engines in the open, for custom training loops."""
from dataclasses import dataclass
from typing import Callable, Optional

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn

from mindarmour.privacy.diff_privacy.batch_norm import refuse_batch_statistics
from mindarmour.privacy.diff_privacy.clipping.rules import checked_rule
from mindarmour.privacy.diff_privacy.grads.accumulate import check_physical_batch_size, engine_for
from mindarmour.privacy.diff_privacy.grads.choose import NO_REAL_ROW, kinds_of
from mindarmour.privacy.diff_privacy.grads.protocol import ENGINES
from mindarmour.privacy.diff_privacy.parallel.ranks import Ranks, current_ranks
from mindarmour.privacy.diff_privacy.train.plan import Rule, Units
from mindarmour.utils import _validate
from mindarmour.utils.compiled import Compiled


@dataclass(frozen=True)
class Clipping:
    """How a sum was clipped: what its noise and its event follow from.

    Args:
        norm_bound (float): The bound C of each unit.
        units (int): Units in the sum, over all ranks, with those that are padding.
        unit (Units): What one factor applied to.
        parameters (tuple[Parameter]): Whose gradients they are, in order.
        padded (bool): Whether some units may be padding, which contributes zero.
    """

    norm_bound: float
    units: int
    unit: Units
    parameters: tuple[Parameter, ...]
    padded: bool = False


class ClippedTotal(tuple):
    """Clipped sum, one Tensor for each Parameter, that remembers how it was clipped.

    Slices and sums of it are plain tuples: they remember nothing.
    """

    clipping: Clipping

    def __new__(cls, tensors: tuple[Tensor, ...], clipping: Clipping) -> "ClippedTotal":
        total = super().__new__(cls, tensors)
        total.clipping = clipping
        return total


@dataclass(frozen=True)
class ClippedSum:
    """The clipped sum of one batch (under data parallelism: of all ranks), before any noise: private as it stands.

    Args:
        total (ClippedTotal): Clipped sum of the units' gradients, in the order of `network.trainable_params()`. A DP
            optimizer that gets it reads off how it was clipped.
        norms (Tensor): Gradient norms of this rank's units before clipping, float32 [units].
        loss (Tensor): Mean loss of the real rows, float32 [].
        dropped (Tensor): Units whose gradient was NaN or infinite (they contribute zero), float32 [].
    """

    total: ClippedTotal
    norms: Tensor
    loss: Tensor
    dropped: Tensor

    @property
    def norm_bound(self) -> float:
        """The bound C."""
        return self.total.clipping.norm_bound

    @property
    def units(self) -> int:
        """Units of the batch, over all ranks."""
        return self.total.clipping.units

    @property
    def examples_per_unit(self) -> int:
        """Different examples of one unit."""
        return self.total.clipping.unit.examples

    @property
    def views(self) -> int:
        """Rows of one example in its unit."""
        return self.total.clipping.unit.views


class _Jitted(Compiled):
    """An engine as one graph in PyNative mode too, where it would be traced at each call."""

    def __init__(self, engine):
        super().__init__(auto_prefix=False)
        self.engine = engine

    @ms.jit
    def construct(self, norm_bound, is_real, *columns):
        return self.engine(norm_bound, is_real, *columns)


def _over_ranks(ranks, join, outputs, is_real):
    """What an engine returned, joined over the ranks."""
    total, norms, loss, dropped = outputs
    if join is not None:
        with ranks.explain_lost("add their clipped sums"):
            total, _, loss, dropped = join(ms.mutable(tuple(total)), loss, loss, dropped, is_real.sum())
    return tuple(total), norms, loss, dropped


def clipped_gradient_fn(network: nn.Cell, loss_fn: Optional[nn.Cell], norm_bound: float = 1.0,
                        micro_batches: Optional[int] = None, engine: str = "auto",
                        physical_batch_size: Optional[int] = None, clipping: Optional[Rule] = None,
                        views: int = 1) -> Callable[..., ClippedSum]:
    """A function from a batch to the clipped sum of its units' gradients.

    To train, prefer `PrivateLoop`: it clips, adds the noise, updates and records in one step. This function serves
    whoever needs the sum itself; a DP optimizer adds the noise to it.

    Args:
        network (Cell): The network; its trainable parameters are differentiated.
        loss_fn (Cell, optional): Called as loss_fn(network(*inputs), label); None if the network returns the loss.
        norm_bound (float): Clipping bound C, > 0.
        micro_batches (int, optional): Units per batch; None means one unit per example.
        engine (str): 'auto', 'ghost', 'vmap' or 'loop'.
        physical_batch_size (int, optional): Rows that are computed at once; larger batches are summed in parts.
        clipping (Cell, optional): `PerLayerClipping` or `AutomaticClipping`; None clips each unit's whole gradient.
        views (int): Rows that are augmented views of one example, next to each other (see `augmented_views`); they
            form one unit. Not with `micro_batches`.

    Returns:
        Function, `fn(*columns, is_real=None)` returns a `ClippedSum`; `is_real` [B] marks real rows with 1 and
        padding with 0. All batches must have the size of the first. Under data parallelism all ranks call it
        together, each with its own rows.

    Guarantee:
        Removing one example's contribution moves `total` by at most C in L2 norm for units of one example (with all
        its views), by at most 2C otherwise. The sum carries no noise.

    Examples:
        >>> import numpy as np
        >>> from mindspore import Tensor, nn
        >>> from mindarmour.privacy.diff_privacy import clipped_gradient_fn
        >>> loss_fn = nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction='mean')
        >>> clipped = clipped_gradient_fn(nn.Dense(4, 2), loss_fn, norm_bound=0.5)
        >>> result = clipped(Tensor(np.ones((8, 4), np.float32)), Tensor(np.zeros(8, np.int32)))
        >>> len(result.total), result.norms.shape
        (2, (8,))
    """
    _validate.instance("network", network, nn.Cell)
    if loss_fn is not None:
        _validate.instance("loss_fn", loss_fn, nn.Cell)
    bound = _validate.real("norm_bound", norm_bound, low=0)
    if micro_batches is not None:
        _validate.integer("micro_batches", micro_batches, low=1)
    if _validate.integer("views", views, low=1) > 1 and micro_batches is not None:
        raise ValueError(f"micro_batches must be None with views = {views}: the views of an example are the unit.")
    _validate.choice("engine", engine, ENGINES)
    check_physical_batch_size(physical_batch_size)
    refuse_batch_statistics(network)
    return _ClippedGradients(network, loss_fn, bound, micro_batches, engine, physical_batch_size,
                             checked_rule(clipping, network), views)


class _ClippedGradients:
    """What `clipped_gradient_fn` returns."""

    def __init__(self, network, loss_fn, bound, micro_batches, engine, physical_batch_size, rule, views):
        self._network, self._loss_fn, self._rule = network, loss_fn, rule
        self._bound, self._micro_batches, self._views = bound, micro_batches, views
        self._engine_name, self._physical_batch_size = engine, physical_batch_size
        self._ranks: Ranks = current_ranks()
        self._rows = self._engine = self._join = self._kinds = None
        self._parameters: tuple[Parameter, ...] = ()

    def __call__(self, *columns, is_real=None) -> ClippedSum:
        rows = int(columns[0].shape[0])
        units = self._units_of(rows)
        trainable = tuple(self._network.trainable_params())
        if self._engine is None:
            self._parameters, self._rows = trainable, rows
        if list(map(id, trainable)) != list(map(id, self._parameters)):
            raise ValueError("The network's trainable parameters must stay those of the first call. Make a new "
                             "function with clipped_gradient_fn.")
        mask = Tensor(np.ones(rows, np.float32)) if is_real is None else Tensor(is_real).astype(ms.float32)
        kinds = kinds_of(self._network, columns)
        if kinds != self._kinds:  # another dtype or structure may mix rows where the first one did not
            self._engine, reason = self._built(columns, units, mask)
            self._kinds = None if reason == NO_REAL_ROW else kinds
        outputs = self._engine(Tensor(self._bound, ms.float32), mask, *columns)
        total, norms, loss, dropped = _over_ranks(self._ranks, self._join, outputs, mask)
        clipping = Clipping(self._bound, units * self._ranks.world, Units(rows // units, self._views),
                            self._parameters, is_real is not None)
        return ClippedSum(ClippedTotal(total, clipping), norms, loss, dropped)

    def _units_of(self, rows):
        units = self._micro_batches or rows // self._views
        if not units or rows % units or rows % self._views or rows != (self._rows or rows):
            raise ValueError(f"Every batch must have {self._rows or rows} rows, a multiple of micro_batches = "
                             f"{self._micro_batches} and of views = {self._views}, but one has {rows}. Pad it and mark "
                             f"the padding in is_real.")
        return units

    def _built(self, columns, units, mask):
        chosen, reason = engine_for(self._engine_name, self._network, self._loss_fn, self._rule, units, columns,
                                    self._physical_batch_size, mask)
        self._join = self._ranks.step_sum([parameter.shape for parameter in self._parameters])
        engine = _Jitted(chosen) if chosen.compiled else chosen
        engine.set_train()
        return engine, reason
