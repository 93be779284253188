"""From clipped sums to Parameters: noise, sum over ranks, division, optimizer, next bound."""
import mindspore as ms
from mindspore import nn, ops

from mindarmour.privacy.diff_privacy.operators import add_up, cast, for_each, greater, less, multiply, partial, reshape
from mindarmour.utils.compiled import Compiled


def plain_update(optimizer):
    """The update of an optimizer without any noise of its own, for gradients that carry theirs."""
    return getattr(optimizer, "apply_noised", optimizer)


class NoisedUpdate(nn.Cell):
    """Clipped sum and standard normals to parameters: noise, sum over ranks, division, optimizer, next bound."""

    def __init__(self, optimizer, norm_bound, clip_mech, order, expected_units, over_ranks,
                 observed=None, place=0):
        super().__init__(auto_prefix=False)
        self.optimizer = optimizer
        self.update = plain_update(optimizer)
        self.norm_bound = norm_bound
        self.clip_mech = clip_mech
        self.order = order
        self.over_ranks = over_ranks
        # a copy of one noised gradient as the optimizer gets it, for audits
        self.observed = observed
        self.place = place
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
        if self.observed is not None:
            loss = ops.depend(loss, ops.assign(self.observed, gradients[self.place]))
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
        clips (bool): Whether to clip what comes as one vector first.
        rank_sum (Cell, optional): Sums the normals over the ranks.
    """

    def __init__(self, optimizer, clips, rank_sum):
        super().__init__(auto_prefix=False)
        self.optimizer = optimizer
        self.clips = clips
        self.rank_sum = rank_sum
        self.loss_scale = float(optimizer.loss_scale)

    @ms.jit  # in PyNative mode too: there the base optimizer would compile its own `construct`, which raises
    def construct(self, gradients, normals, norm_bound, stddev, divisor):
        if self.clips:
            gradients = _clipped_as_one(gradients, norm_bound)
        if self.rank_sum is not None:
            normals = self.rank_sum(normals)
        noised = ()
        for gradient, normal in zip(gradients, normals):
            noised += ((gradient.astype(ms.float32) + normal * stddev) * (self.loss_scale / divisor),)
        return self.optimizer.apply_noised(noised)


def _clipped_as_one(gradients, norm_bound):
    square = ops.zeros((), ms.float32)
    for gradient in gradients:
        square += (gradient.astype(ms.float32) ** 2).sum()
    norm = ops.sqrt(square)
    factor = ops.minimum(norm_bound / ops.maximum(norm, 1e-30), ops.ones_like(norm))
    clipped = ()
    for gradient in gradients:
        # a NaN or an infinity must not reach the parameters: zero is inside the ball as well
        scaled = gradient.astype(ms.float32) * factor
        clipped += (ops.select(ops.isfinite(norm).broadcast_to(scaled.shape), scaled, ops.zeros_like(scaled)),)
    return clipped
