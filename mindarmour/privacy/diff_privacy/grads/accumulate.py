"""Batches larger than memory: clipped sums of parts, added up before any noise."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

import mindspore as ms
from mindspore import Parameter, Tensor, nn, ops

from mindarmour.privacy.diff_privacy.grads.choose import choose_engine
from mindarmour.privacy.diff_privacy.grads.loop import LoopEngine
from mindarmour.privacy.diff_privacy.grads.protocol import zeros_like_parameters
from mindarmour.privacy.diff_privacy.grads.rows import holes_filled, real_places
from mindarmour.utils import _validate
from mindarmour.utils.compiled import Compiled


class _AddPart(Compiled):
    """The engine on one part, its totals added to the running ones."""

    def __init__(self, engine):
        super().__init__(auto_prefix=False)
        self.engine = engine

    @ms.jit
    def construct(self, totals, norm_bound, is_real, *columns):
        part, norms, loss, bad = self.engine(norm_bound, is_real, *columns)
        added = ()
        for total, new in zip(totals, part):
            added += (total + new,)
        return added, norms, loss * is_real.sum(), bad


class AccumulatingEngine(nn.Cell):
    """Clipped sum of a batch in parts of a fixed size: memory follows the part, the result is that of the batch.

    An engine itself; see `grads.protocol` for inputs and outputs.

    Args:
        engine (Cell): A compiled engine for one part.
        rows (int): Rows of a part, whole units.
        parameters (sequence[Parameter]): The network's trainable parameters.
    """

    compiled = False  # a host loop over compiled parts

    def __init__(self, engine: nn.Cell, rows: int, parameters: Sequence[Parameter]) -> None:
        super().__init__(auto_prefix=False)
        self.part = engine
        self.add_part = _AddPart(engine)
        self.rows = rows
        self.parameters = tuple(parameters)

    def __call__(self, norm_bound, is_real, *columns):
        totals = zeros_like_parameters(self.parameters)
        norms, loss, bad = [], 0.0, 0.0
        for start in range(0, is_real.shape[0], self.rows):
            part = [_part(column, start, self.rows) for column in (is_real, *columns)]
            totals, part_norms, part_loss, part_bad = self.add_part(ms.mutable(tuple(totals)), norm_bound, *part)
            norms.append(part_norms)
            loss, bad = loss + part_loss, bad + part_bad
        # rows that fill the last part belong to nobody's unit
        units = norms[0].shape[0] * is_real.shape[0] // self.rows
        return totals, ops.concat(norms)[:units], loss / ops.maximum(is_real.sum(), 1.0), bad


def _part(column, start, rows):
    part = column[start:start + rows]
    missing = rows - part.shape[0]
    return part if missing == 0 else ops.concat([part, ops.zeros((missing, *part.shape[1:]), part.dtype)])


def engine_for(name: str, network: nn.Cell, loss_fn: Optional[nn.Cell], rule: nn.Cell, units: int, columns: tuple,
               physical_batch_size: Optional[int] = None, is_real: Optional[Tensor] = None) -> tuple:
    """The engine for a batch, in parts of `physical_batch_size` rows where that is smaller than the batch.

    `is_real` [B] marks the batch's real rows; all of them if None.

    Returns:
        tuple, (engine cell, reason str), as `choose_engine`.
    """
    rows = columns[0].shape[0]
    examples = rows // units
    if physical_batch_size is None or physical_batch_size >= rows:
        return choose_engine(name, network, loss_fn, rule, units, columns, is_real)
    if physical_batch_size % examples:
        raise ValueError(f"physical_batch_size must hold whole units of {examples} examples, but got "
                         f"{physical_batch_size}.")
    places = real_places(is_real, rows)
    part, real = columns, is_real
    if len(places):
        part, real = holes_filled(columns, places), None
    part = tuple(column[:physical_batch_size] for column in part)
    engine, reason = choose_engine(name, network, loss_fn, rule, physical_batch_size // examples, part,
                                   real if real is None else real[:physical_batch_size])
    if not engine.compiled:  # the loop computes row by row anyway
        return LoopEngine(network, loss_fn, rule, units), reason
    return AccumulatingEngine(engine, physical_batch_size, network.trainable_params()), reason


def check_physical_batch_size(value: Optional[int]) -> Optional[int]:
    """The argument as documented: a positive int, or None."""
    return value if value is None else _validate.integer("physical_batch_size", value, low=1)
