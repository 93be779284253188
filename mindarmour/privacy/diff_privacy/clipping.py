"""Clipping rules: one factor per unit, and the sensitivity that results.

A rule is a small Cell that a gradient engine calls inside the compiled step. It sees squared gradient norms only
and returns factors; it never sees a gradient.
"""
from mindspore import nn

from mindarmour.privacy.diff_privacy.primitives import (
    add_all,
    for_each,
    is_finite,
    larger,
    partial,
    select,
    smaller,
    square_root,
    zeros_like,
)


def same_for_all(factor, squares):
    """The factor once per Parameter."""
    return for_each(partial(_first, factor), squares)


def _first(factor, square):
    return factor


class FlatClipping(nn.Cell):
    """Scale each unit's whole gradient to an L2 norm of at most the bound: factor min(1, C / norm).

    Guarantee:
        The clipped gradient of every unit has norm at most C (up to float32 rounding, less than 1e-5 relative).
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
        norms = square_root(add_all(squares))
        # the tiny constant only keeps 0 / 0 away; norms below the bound keep the factor 1
        factor = smaller(norm_bound / larger(norms, 1e-30), 1.0)
        factor = select(is_finite(norms), factor, zeros_like(norms))
        return same_for_all(factor, squares), norms

    @staticmethod
    def sensitivity(examples_per_unit, relation):
        """L2 sensitivity of the clipped sum divided by the bound.

        One example's gradient vanishes: 1 for units of one example. The clipped mean of several examples moves
        from one point of the C-ball to another, and so does a unit whose example is replaced: 2.
        """
        return 1.0 if examples_per_unit == 1 and relation != "replace-one" else 2.0
