"""Clipping rules: one factor per unit, and the sensitivity that results.

A rule is a small Cell that a gradient engine calls inside the compiled step. It sees squared gradient norms only
and returns factors; it never sees a gradient.
"""
import math

import mindspore as ms
from mindspore import Tensor, nn, ops

from mindarmour.privacy.accounting.events import sensitivity_of
from mindarmour.privacy.diff_privacy.operators import (
    add_all,
    for_each,
    is_finite,
    partial,
    select,
    smaller,
    square_root,
    zeros_like,
)
from mindarmour.utils import _validate

# Squares of numbers below 1e-19 are zero in float32. A sum of at most 2**32 of them is less than this, so that a bound,
# however small, holds for them too.
LOST_SQUARES = 2.0 ** -94


def same_for_all(factor, squares):
    """The factor once per Parameter."""
    return for_each(partial(_first, factor), squares)


def _first(factor, square):
    return factor


class FlatClipping(nn.Cell):
    """Scale each unit's whole gradient to an L2 norm of at most the bound: factor min(1, C / norm).

    Guarantee:
        The clipped gradient of every unit has norm at most C where the squares are not understated; the engines
        pass a bound that is smaller by what rounding may take from them (see `grads.rounding`).
        A unit whose norm is NaN or infinite gets factor 0; the engine must then drop its gradient instead of
        multiplying it, since 0 * NaN is NaN.

    References:
        Abadi et al. 2016, "Deep learning with differential privacy", algorithm 1.
    """

    def construct(self, squares, norm_bound):
        """Factors of all units.

        Args:
            squares (tuple[Tensor]): Per parameter, squared gradient norms of the units, float32 [units].
            norm_bound (Tensor): The bound C, float32 [].

        Returns:
            tuple, (factors per parameter, each float32 [units]; norms before clipping, float32 [units]).
        """
        total = add_all(squares)
        norms = square_root(total)
        # norms below the bound keep the factor 1
        factor = smaller(norm_bound / square_root(total + LOST_SQUARES), 1.0)
        factor = select(is_finite(norms), factor, zeros_like(norms))
        return same_for_all(factor, squares), norms

    @staticmethod
    def sensitivity(examples_per_unit, relation):
        """L2 sensitivity of the clipped sum divided by the bound; see `sensitivity_of`."""
        return sensitivity_of(examples_per_unit, relation)


class PerLayerClipping(nn.Cell):
    """Scale each group of Parameters to its own share of the bound: factor min(1, share_g C / norm_g).

    Args:
        groups (Sequence[int]): Group of each trainable Parameter, numbered from 0 without gaps.
        shares (Sequence[float], optional): Share of each group, > 0; they are scaled so that their squares sum to 1.
            Equal shares if None.

    Guarantee:
        The clipped gradient of every unit has norm at most C, since the groups' bounds are legs of a right angle:
        sum of (share_g C)^2 = C^2. The event is that of flat clipping at C.

    Raises:
        TypeError, ValueError: For groups or shares that are not as described.

    Supported Platforms:
        ``Ascend`` ``GPU`` ``CPU``

    References:
        McMahan et al. 2018, "Learning differentially private recurrent language models", section 3 (per-layer
        clipping). He et al. 2023, "Exploring the limits of differentially private deep learning with group-wise
        clipping".

    Examples:
        >>> from mindspore import nn
        >>> from mindarmour.privacy.diff_privacy.clipping.rules import PerLayerClipping
        >>> rule = PerLayerClipping.of_layers(nn.SequentialCell(nn.Dense(4, 3), nn.Dense(3, 2)))
        >>> rule.groups
        (0, 0, 1, 1)
    """

    def __init__(self, groups, shares=None):
        super().__init__()
        self.groups = _checked_groups(groups)
        self.shares = _unit_length(shares, max(self.groups) + 1)
        self.members = tuple(tuple(i for i, g in enumerate(self.groups) if g == group)
                             for group in range(len(self.shares)))

    @classmethod
    def of_layers(cls, network, shares=None):
        """One group per cell that holds trainable Parameters, in the order of the Parameters."""
        _validate.instance("network", network, nn.Cell)
        owners = [p.name.rpartition(".")[0] for p in network.trainable_params()]
        numbers = {owner: i for i, owner in enumerate(dict.fromkeys(owners))}
        return cls([numbers[owner] for owner in owners], shares)

    def construct(self, squares, norm_bound):
        """Factors of all units; see `FlatClipping.construct`."""
        by_group, total = (), ops.zeros_like(squares[0])
        for members, share in zip(self.members, self.shares):
            square = squares[members[0]]
            for i in members[1:]:
                square = square + squares[i]
            total = total + square
            by_group += (_at_most(ops.sqrt(square + LOST_SQUARES), norm_bound * share),)
        norms = ops.sqrt(total)
        factors = ()
        for group in self.groups:
            factors += (_zero_if_not_finite(by_group[group], norms),)
        return factors, norms

    sensitivity = staticmethod(FlatClipping.sensitivity)


class AutomaticClipping(nn.Cell):
    """Normalise each unit's whole gradient instead of clipping it: factor C / (norm + stability).

    No gradient is left unscaled, so C only scales the learning rate and need not be tuned.

    Args:
        stability (float): > 0; keeps small gradients small. 0.01 in the paper.

    Guarantee:
        The scaled gradient of every unit has norm C norm / (norm + stability) < C. The event is that of flat
        clipping at C.

    Raises:
        TypeError, ValueError: If `stability` is not a positive finite number.

    Supported Platforms:
        ``Ascend`` ``GPU`` ``CPU``

    References:
        Bu et al. 2023, "Automatic clipping: differentially private deep learning made easier and stronger",
        equation (3.1), variant AUTO-S.

    Examples:
        >>> from mindarmour.privacy.diff_privacy.clipping.rules import AutomaticClipping
        >>> rule = AutomaticClipping(stability=0.01)
    """

    def __init__(self, stability=0.01):
        super().__init__()
        self.stability = Tensor(_validate.real("stability", stability, low=0), ms.float32)

    def construct(self, squares, norm_bound):
        """Factors of all units; see `FlatClipping.construct`."""
        total = add_all(squares)
        norms = ops.sqrt(total)
        factor = _zero_if_not_finite(norm_bound / (ops.sqrt(total + LOST_SQUARES) + self.stability), norms)
        return same_for_all(factor, squares), norms

    sensitivity = staticmethod(FlatClipping.sensitivity)


def checked_rule(rule, network, clip_mech=None):
    """The rule to clip by: flat for None; otherwise `rule`, if it suits the network and the other mechanisms."""
    if rule is None:
        return FlatClipping()
    _validate.instance("clipping", rule, (FlatClipping, PerLayerClipping, AutomaticClipping))
    if clip_mech is not None and not isinstance(rule, FlatClipping):
        raise ValueError("clip_mech must be None unless clipping is flat: it steers the fraction of units whose whole "
                         "gradient stays below the bound.")
    count = len(network.trainable_params())
    if isinstance(rule, PerLayerClipping) and len(rule.groups) != count:
        raise ValueError(f"clipping must have one group for each of the network's {count} trainable parameters, but "
                         f"has {len(rule.groups)}. Use PerLayerClipping.of_layers(network).")
    return rule


def _at_most(norms, bound):
    return ops.minimum(bound / ops.maximum(norms, 1e-30), ops.ones_like(norms))


def _zero_if_not_finite(factor, norms):
    return ops.select(ops.isfinite(norms), factor, ops.zeros_like(factor))


def _checked_groups(groups):
    groups = tuple(_validate.integer(f"groups[{i}]", group, low=0) for i, group in enumerate(groups))
    if not groups or set(groups) != set(range(max(groups) + 1)):
        raise ValueError(f"groups must number the groups from 0 without gaps, one entry per Parameter, but got "
                         f"{groups}.")
    return groups


def _unit_length(shares, count):
    if shares is None:
        shares = (1.0,) * count
    shares = tuple(_validate.real(f"shares[{i}]", share, low=0) for i, share in enumerate(shares))
    if len(shares) != count:
        raise ValueError(f"shares must have one entry per group, {count}, but got {len(shares)}.")
    length = math.sqrt(sum(share ** 2 for share in shares))
    return tuple(share / length for share in shares)
