"""Bugs of training, planted on purpose: what an audit must find although the ledger claims the same epsilon."""
import contextlib
from unittest import mock

import numpy as np
from mindspore import nn, ops

from mindarmour.privacy.diff_privacy.parallel.ranks import Ranks
from mindarmour.privacy.diff_privacy.train import step
from mindarmour.privacy.diff_privacy.train.loss_scale import Clip
from mindarmour.privacy.diff_privacy.train.noised_update import NoisedUpdate

LAYER = "layer"  # seen only by canaries in the network's own Parameters
BUGS = ("noise", "bound", "mask", "seed", "divisor", LAYER)


class _LooseClip(Clip):
    """Clips to twice the bound."""

    def __init__(self, engine, norm_bound, loss_scale):
        super().__init__(_LooseEngine(engine), norm_bound, loss_scale)


class _LooseEngine(nn.Cell):
    def __init__(self, engine):
        super().__init__(auto_prefix=False)
        self.engine = engine

    def construct(self, norm_bound, is_real, *columns):
        return self.engine(2.0 * norm_bound, is_real, *columns)


class _DividedByBatch(nn.Cell):
    """Divides by the records that a batch happens to hold: a number that depends on who takes part."""

    def __init__(self, *arguments):
        super().__init__(auto_prefix=False)
        self.update = NoisedUpdate(*arguments)

    def construct(self, totals, norms, loss, bad, normals, multiplier, fraction_noise, real_units, real_rows):
        ratio = self.update.expected_units / ops.maximum(real_rows, 1.0)
        scaled = ()
        for total in totals:
            scaled += (total * ratio,)
        return self.update(scaled, norms, loss, bad, normals, multiplier * ratio, fraction_noise, real_units,
                           real_rows)


def _all_rows_real(self, columns):
    """Ignore the mask."""
    columns, mask = _TAKE_MASK(self, columns)
    return columns, ops.ones_like(mask)


_TAKE_MASK, _NORMALS = step.TrainStep._take_mask, Ranks.normals


def _half_noise(self, source, number, shapes):
    return [0.5 * array for array in _NORMALS(self, source, number, shapes)]


def _one_layer_bare(self, source, number, shapes):
    """No noise for the first Parameter that has more than one number."""
    bare = next(place for place, shape in enumerate(shapes) if np.prod(shape) > 1)
    return [array * (place != bare) for place, array in enumerate(_NORMALS(self, source, number, shapes))]


def _same_noise(first):
    """Draw once and add the same noise at every step, as a generator does that is seeded at each call."""
    def normals(self, source, number, shapes):
        if not first:
            first.extend(_NORMALS(self, source, number, shapes))
        return [array.copy() for array in first]
    return normals


@contextlib.contextmanager
def planted(bug=None):
    """Train with a bug of `BUGS` inside; None plants nothing."""
    patches = {
        "noise": (Ranks, "normals", _half_noise), "seed": (Ranks, "normals", _same_noise([])),
        "bound": (step, "Clip", _LooseClip), "divisor": (step, "NoisedUpdate", _DividedByBatch),
        LAYER: (Ranks, "normals", _one_layer_bare), "mask": (step.TrainStep, "_take_mask", _all_rows_real),
    }
    with mock.patch.object(*patches[bug]) if bug else contextlib.nullcontext():
        yield
