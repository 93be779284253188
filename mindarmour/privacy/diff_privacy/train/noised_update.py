"""From clipped sums to Parameters: noise, sum over ranks, division, optimizer, next bound."""
import math
from collections.abc import Sequence

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from mindarmour.privacy.diff_privacy.operators import add_up, cast, for_each, greater, less, multiply, partial, reshape
from mindarmour.utils.compiled import Compiled


def plain_update(optimizer):
    """The update of an optimizer without any noise of its own, for gradients that carry theirs."""
    return getattr(optimizer, "apply_noised", optimizer)


class NoisedUpdate(nn.Cell):
    """Clipped sum and standard normals to parameters: noise, sum over ranks, division, optimizer, next bound."""

    def __init__(self, optimizer, norm_bound, clip_mech, order, expected_units, over_ranks,
                 observed=(), places=()):
        super().__init__(auto_prefix=False)
        self.optimizer = optimizer
        self.update = plain_update(optimizer)
        self.norm_bound = norm_bound
        self.clip_mech = clip_mech
        self.order = order
        self.over_ranks = over_ranks
        # copies of noised gradients as the optimizer gets them, for audits
        self.observed = observed
        self.places = places
        self.expected_units = float(expected_units)
        # optimizers divide by their own loss_scale; gradients here are unscaled already
        self.factor = float(getattr(optimizer, "loss_scale", 1.0)) / self.expected_units

    def construct(self, totals, norms, loss, bad, normals, multiplier, fraction_noise, real_units, real_rows):
        bound = self.norm_bound + 0.0
        noised = for_each(partial(_noised, totals, normals, multiplier * bound), self.order)
        unclipped = add_up(multiply(real_units, cast(less(norms, bound), ms.float32)), ())
        # centred, so that a vanishing unit moves it by half a unit only
        fraction = (unclipped - 0.5 * add_up(real_units, ())) / self.expected_units + fraction_noise
        if self.over_ranks is not None:
            noised, fraction, loss, bad = self.over_ranks(noised, fraction, loss, bad, real_rows)
        gradients = for_each(partial(multiply, self.factor), noised)
        for i in range(len(self.places)):
            loss = ops.depend(loss, ops.assign(self.observed[i], gradients[self.places[i]].astype(ms.float32)))
        loss = ops.depend(loss, self.update(gradients))
        if self.clip_mech is not None:
            loss = ops.depend(loss, ops.assign(self.norm_bound, self.clip_mech.next_bound(0.5 + fraction, bound)))
        return loss, bad


def _noised(totals, normals, stddev, place):
    return totals[place] + multiply(normals[place], stddev)


class RealUnits(nn.Cell):
    """1 for each unit with a real row, else 0; float32 [units]."""

    def __init__(self, units):
        super().__init__()
        self.split = (units, -1)

    def construct(self, is_real):
        return cast(greater(add_up(reshape(is_real, self.split), 1), 0.0), ms.float32)


class SumUpdate(Compiled):
    """A clipped sum that was computed elsewhere to parameters: noise, division, optimizer.

    The sum is one over the ranks already; the ranks' shares of the noise are added up here.

    Args:
        optimizer (Optimizer): A DP optimizer, which can also apply noised gradients.
        clips (bool): Whether to clip what comes as one vector first, by the factor of `factor_of_batch`.
        rank_sum (Cell, optional): Sums the normals over the ranks.
    """

    def __init__(self, optimizer, clips, rank_sum):
        super().__init__(auto_prefix=False)
        self.optimizer = optimizer
        self.clips = clips
        self.rank_sum = rank_sum
        self.loss_scale = float(optimizer.loss_scale)

    @ms.jit  # in PyNative mode too: there the base optimizer would compile its own `construct`, which raises
    def construct(self, gradients, normals, factor, stddev, divisor):
        if self.rank_sum is not None:
            normals = self.rank_sum(normals)
        noised = ()
        for gradient, normal in zip(gradients, normals):
            part = gradient.astype(ms.float32)
            if self.clips:
                # a NaN or an infinity must not reach the parameters: zero is inside the ball as well
                kept = (factor > 0).broadcast_to(part.shape)
                part = ops.select(kept, part * factor, ops.zeros_like(part))
            noised += ((part + normal * stddev) * (self.loss_scale / divisor),)
        return self.optimizer.apply_noised(noised)


def factor_of_batch(gradients: Sequence[Tensor], norm_bound: float) -> float:
    """What scales the gradients of a batch, as one vector, into the ball; 0 where that needs a NaN to vanish.

    In float64 on the host: there no square of a float32 overflows or vanishes, and no long sum loses its small terms.
    """
    square = sum(float(np.square(gradient.astype(ms.float32).asnumpy().astype(np.float64)).sum())
                 for gradient in gradients)
    if square <= norm_bound ** 2:
        return 1.0
    factor = norm_bound / math.sqrt(square) * (1 - 2.0 ** -20)  # float32 rounds the factor and each product
    return factor if factor >= 2.0 ** -126 else 0.0
