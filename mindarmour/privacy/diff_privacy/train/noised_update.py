"""From clipped sums to Parameters: noise, sum over ranks, division, optimizer, next bound."""
import mindspore as ms
from mindspore import nn, ops

from mindarmour.privacy.diff_privacy.operators import add_up, cast, for_each, greater, less, multiply, partial, reshape


class NoisedUpdate(nn.Cell):
    """Clipped sum and standard normals to parameters: noise, sum over ranks, division, optimizer, next bound."""

    def __init__(self, optimizer, update, norm_bound, clip_mech, order, expected_units, over_ranks):
        super().__init__(auto_prefix=False)
        self.optimizer = optimizer
        self.update = update
        self.norm_bound = norm_bound
        self.clip_mech = clip_mech
        self.order = order
        self.over_ranks = over_ranks
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
        loss = ops.depend(loss, self.update(for_each(partial(multiply, self.factor), noised)))
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
