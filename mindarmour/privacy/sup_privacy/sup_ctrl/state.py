"""What a controller keeps per layer, and how sparse it is."""
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from mindarmour.privacy.sup_privacy.sup_ctrl.layers import MaskLayerDes
from mindarmour.privacy.sup_privacy.sup_ctrl.selection import ZERO_THRESHOLD
from mindarmour.utils._validate import instance


class SparsityRecord(NamedTuple):
    """Sparsity after one choice of masks.

    Args:
        step (int): Step of the run, from 1.
        target (float): What the schedule asked for.
        layers (dict): Parameter name to the fraction of its weights that is suppressed.
        total (float): The same over all described layers together.
    """

    step: int
    target: float
    layers: dict
    total: float


@dataclass(frozen=True)
class MaskedLayer:
    """One described layer with its parameter and its mask. The flat arrays may share memory with them."""

    des: MaskLayerDes
    weight: Parameter
    mask: Parameter

    @property
    def kept(self):
        """bool [N], False where a weight is suppressed."""
        return self.mask.asnumpy().reshape(-1)

    @property
    def values(self):
        """The weights, [N]."""
        return self.weight.asnumpy().reshape(-1)

    def store(self, values, kept):
        """Set mask and weights; suppressed weights become 0.

        By assignment in place: after `set_data` MindSpore's optimizers go on updating the former tensor in PyNative
        mode, so that the parameter would stand still from then on.
        """
        shape = self.weight.shape
        ops.assign(self.mask, Tensor(kept.reshape(shape)))
        ops.assign(self.weight, Tensor(np.where(kept, values, 0).reshape(shape), self.weight.dtype))


def zero_flags(networks, name):
    """bool [N], where the parameter `name` is 0 (up to 1e-7); empty if there is no such parameter."""
    instance("networks", networks, nn.Cell)
    parameters = [item for item in networks.get_parameters() if item.name == name]
    return np.abs(parameters[0].asnumpy()).reshape(-1) <= ZERO_THRESHOLD if parameters else np.zeros(0, bool)


def fraction(flags):
    """Share of True; 0.0 of nothing."""
    return float(np.mean(flags)) if flags.size else 0.0


def total_and_two(flags):
    """Shares of True: in all arrays of the list together, in the first, in the second."""
    flags = [*flags, np.zeros(0, bool), np.zeros(0, bool)]
    return fraction(np.concatenate(flags)), fraction(flags[0]), fraction(flags[1])
