"""Proof that the ghost engine is exact for a network: no row reaches another, and a few rows equal the plain loop.

The structure decides what can be read (`grads.ghost.sites`), and `grads.independence` shows that rows do not mix. The
comparison with the loop finds what neither can show: a layer reached behind the taps, a loss that is not what it
seems, a wrong rule of the user's.
"""
from __future__ import annotations

from typing import Optional

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from mindarmour.privacy.diff_privacy.clipping.rules import FlatClipping
from mindarmour.privacy.diff_privacy.grads.eager import EAGER_ERRORS, eager
from mindarmour.privacy.diff_privacy.grads.ghost.engine import GhostEngine
from mindarmour.privacy.diff_privacy.grads.ghost.sites import Survey, without_dropout
from mindarmour.privacy.diff_privacy.grads.ghost.survey import survey
from mindarmour.privacy.diff_privacy.grads.independence import refuse_if_rows_mix
from mindarmour.privacy.diff_privacy.grads.protocol import RowLoss
from mindarmour.privacy.diff_privacy.grads.rows import different_rows
from mindarmour.privacy.errors import UnsupportedLayerError
from mindarmour.utils.mindspore_internals import own_parameters

ROWS = 3
TOLERANCE = 1e-3  # float32 noise stays far below it, a structural mistake far above
_OF_REDUCED = {ms.float16: 2.0 ** -6, ms.bfloat16: 2.0 ** -3}  # 32 roundings of Parameters in that precision
_TRIED = 12  # rows, if the gradients of the first ones are not finite
_FIX = "Take engine='auto' or 'vmap'."


def refuse_if_inexact(network: nn.Cell, loss_fn: Optional[nn.Cell], columns: tuple) -> Survey:
    """Show that no row of a batch reaches another, and compare the engine with the loop on a few, without dropout.

    Args:
        network (Cell): The network.
        loss_fn (Cell, optional): Its loss; None if the network returns the loss.
        columns (tuple[Tensor]): A batch of real rows.

    Returns:
        Survey, what the ghost engine found in the network.

    Raises:
        UnsupportedLayerError: If the engine cannot serve the network, or the two differ by more than `TOLERANCE` (in
            reduced precision: by more than rounding explains).
    """
    try:
        return _refuse_if_inexact(network, loss_fn, columns)
    except UnsupportedLayerError:
        raise
    except EAGER_ERRORS as error:
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        _refuse(network, "", f"a few rows of it cannot be run eagerly ({first_line}), so nothing can be compared.")


def _refuse_if_inexact(network, loss_fn, columns):
    quiet = without_dropout(network)
    found = survey(quiet, loss_fn, columns)
    with eager():
        rows, losses, gradients, norms = _comparable_rows(network, quiet, loss_fn, columns)
        # built in here too: built in graph mode, its gradient function would be compiled, just for these rows
        engine = GhostEngine(quiet, loss_fn, FlatClipping(), ROWS, rows, found)
        # a bound below every norm, so that each row gets another factor
        bound = max(float(norms.min()) * 0.5, 1e-3 * float(norms.max()), 1e-12)
        totals, norms_found, _, _ = engine(Tensor(bound, ms.float32), ops.ones(ROWS, ms.float32), *rows)
        difference = _difference(network, gradients, norms, bound, [t.asnumpy() for t in totals],
                                 norms_found.asnumpy())
        refusal = _mixing(quiet, loss_fn, found, columns) if difference is None else None
        if difference is None and refusal is None:
            return found
        if _row_by_row(quiet, loss_fn, rows)[0] != losses:
            _refuse(network, "", "it draws random numbers outside of dropout layers, so runs cannot be compared.")
        if refusal is not None:
            raise refusal
        _refuse(network, *difference)


def _mixing(quiet, loss_fn, found, columns):
    """The refusal of a network whose rows reach each other; None if they do not."""
    try:
        refuse_if_rows_mix(quiet, loss_fn, found, columns)
    except UnsupportedLayerError as refusal:
        return refusal
    return None


def _comparable_rows(network, quiet, loss_fn, columns):
    """(rows, their losses, gradients and norms): the first different rows whose gradients are finite."""
    for start in range(0, _TRIED, ROWS):
        rows = different_rows(columns, ROWS, start)
        losses, gradients = _row_by_row(quiet, loss_fn, rows)
        norms = np.array([np.sqrt(sum(float((g.astype(np.float64) ** 2).sum()) for g in row)) for row in gradients])
        if np.all(np.isfinite(norms)):
            return rows, losses, gradients, norms
    _refuse(network, "", "gradients of the first rows are not finite, so nothing can be compared.")


def _row_by_row(network, loss_fn, rows):
    """(losses, float32 gradients) of each row, by the definition."""
    parameters = tuple(network.trainable_params())
    gradient = ops.value_and_grad(RowLoss(network, loss_fn), None, parameters)
    losses, results = [], []
    for i in range(ROWS):
        loss, found = gradient(*(column[i:i + 1] for column in rows))
        losses.append(float(loss))
        results.append([g.asnumpy().astype(np.float32) for g in found])
    return losses, results


def _difference(network, gradients, norms, bound, totals, found):
    """(name of the Parameter or '', what differs), or None if nothing does."""
    names = [p.name for p in network.trainable_params()]
    factors = np.minimum(1.0, bound / np.maximum(norms, 1e-30))
    scale = bound * ROWS
    tolerance = max([TOLERANCE, *(_OF_REDUCED.get(p.dtype, 0.0) for p in network.trainable_params())])
    for index, name in enumerate(names):
        expected = sum(f * row[index] for f, row in zip(factors, gradients))
        error = float(np.linalg.norm(expected - totals[index])) / scale
        if not error <= tolerance:
            return name, (f"the gradient of '{name}' differs from the plain loop's by {error:.1e} of the norm bound. "
                          f"Something reads the Parameter behind the layer, or rows depend on each other.")
    # squares of norms below 1e-12 come close to the smallest floats: there the engine rounds norms up
    error = float(np.max(np.abs(found - norms) / np.maximum(norms, 1e-3 * norms.max() + 1e-12)))
    if not error <= tolerance:
        return "", f"gradient norms differ from the plain loop's by a factor of {1 + error:.4g}."
    return None


def _refuse(network, parameter, reason):
    owner, kind = "", type(network).__name__
    for name, cell in network.cells_and_names():
        if parameter and any(p is not None and p.name == parameter for p in own_parameters(cell).values()):
            owner, kind = name, type(cell).__name__
    raise UnsupportedLayerError(owner, kind, reason, _FIX)
