"""The gradient engines in the open, for custom training loops."""
from dataclasses import dataclass

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

from mindarmour.privacy.diff_privacy.batch_norm import refuse_batch_statistics
from mindarmour.privacy.diff_privacy.clipping.rules import checked_rule
from mindarmour.privacy.diff_privacy.grads.accumulate import check_physical_batch_size, engine_for
from mindarmour.privacy.diff_privacy.grads.protocol import ENGINES
from mindarmour.privacy.diff_privacy.parallel.ranks import current_ranks
from mindarmour.utils import _validate
from mindarmour.utils.compiled import Compiled


@dataclass(frozen=True)
class ClippedSum:
    """The clipped sum of one batch (under data parallelism: of all ranks), before any noise: private as it stands.

    Args:
        total (tuple[Tensor]): Clipped sum of the units' gradients, in the order of `network.trainable_params()`.
        norms (Tensor): Gradient norms of this rank's units before clipping, float32 [units].
        loss (Tensor): Mean loss of the real rows, float32 [].
        dropped (Tensor): Units whose gradient was NaN or infinite (they contribute zero), float32 [].
        norm_bound (float): The bound C.
        units (int): Units of the batch, over all ranks.
        examples_per_unit (int): Rows of one unit.
    """

    total: tuple
    norms: Tensor
    loss: Tensor
    dropped: Tensor
    norm_bound: float
    units: int
    examples_per_unit: int


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


def clipped_gradient_fn(network, loss_fn, norm_bound=1.0, micro_batches=None, engine="auto",
                        physical_batch_size=None, clipping=None):
    """A function from a batch to the clipped sum of its units' gradients.

    Args:
        network (Cell): The network; its trainable parameters are differentiated.
        loss_fn (Cell, optional): Called as loss_fn(network(*inputs), label); None if the network returns the loss.
        norm_bound (float): Clipping bound C, > 0.
        micro_batches (int, optional): Units per batch; None means one unit per example.
        engine (str): 'auto', 'ghost', 'vmap' or 'loop'.
        physical_batch_size (int, optional): Rows that are computed at once; larger batches are summed in parts.
        clipping (Cell, optional): `PerLayerClipping` or `AutomaticClipping`; None clips each unit's whole gradient.

    Returns:
        Function, `fn(*columns, is_real=None)` returns a `ClippedSum`; `is_real` [B] marks real rows with 1 and
        padding with 0. All batches must have the size of the first. Under data parallelism all ranks call it
        together, each with its own rows.

    Guarantee:
        Removing one example's contribution moves `total` by at most C in L2 norm for units of one example, by at
        most 2C otherwise. The sum carries no noise.

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
    _validate.choice("engine", engine, ENGINES)
    check_physical_batch_size(physical_batch_size)
    refuse_batch_statistics(network)
    rule = checked_rule(clipping, network)
    ranks = current_ranks()
    built = {"join": ranks.step_sum([parameter.shape for parameter in network.trainable_params()])}

    def clipped(*columns, is_real=None):
        rows = int(columns[0].shape[0])
        units = micro_batches or rows
        if rows % units or built.setdefault("rows", rows) != rows:
            raise ValueError(f"Every batch must have {built.get('rows', rows)} rows, a multiple of micro_batches = "
                             f"{micro_batches}, but one has {rows}. Pad it and mark the padding in is_real.")
        if "engine" not in built:
            chosen, _ = engine_for(engine, network, loss_fn, rule, units, columns, physical_batch_size)
            built["engine"] = _Jitted(chosen) if chosen.compiled else chosen
            built["engine"].set_train()
        mask = Tensor(np.ones(rows, np.float32)) if is_real is None else Tensor(is_real).astype(ms.float32)
        outputs = built["engine"](Tensor(bound, ms.float32), mask, *columns)
        total, norms, loss, dropped = _over_ranks(ranks, built["join"], outputs, mask)
        return ClippedSum(total, norms, loss, dropped, bound, units * ranks.world, rows // units)

    return clipped
