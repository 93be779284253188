"""The Parameters that an optimizer moves: only their gradients are clipped and noised."""
from __future__ import annotations

import contextlib
from collections.abc import Iterator

from mindspore import nn

from mindarmour.privacy.diff_privacy.clipping.rules import PerLayerClipping
from mindarmour.privacy.diff_privacy.train.plan import Rule


class Moved:
    """The trainable Parameters that an optimizer moves.

    What it does not move is not released by a step: it takes no part of the bound, and its layers need no rule.

    Args:
        network (Cell): The network.
        optimizer (Optimizer): Over some or all of its trainable Parameters.

    Raises:
        ValueError: The optimizer holds a Parameter that is none of the network's trainable ones.
    """

    def __init__(self, network: nn.Cell, optimizer: nn.Optimizer) -> None:
        trainable = network.trainable_params()
        place = {id(parameter): i for i, parameter in enumerate(trainable)}
        foreign = [parameter.name for parameter in optimizer.parameters if id(parameter) not in place]
        if foreign:
            raise ValueError(f"optimizer must hold parameters of the network only, but {foreign[0]!r} is not one of "
                             f"its trainable parameters.")
        held = [place[id(parameter)] for parameter in optimizer.parameters]
        self._places = sorted(set(held))
        self._others = [parameter for i, parameter in enumerate(trainable) if i not in set(held)]
        self.shapes = [trainable[i].shape for i in self._places]
        # for each of the optimizer's parameters, its place among those that move
        self.order = tuple(self._places.index(i) for i in held)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Meanwhile the other Parameters are constants."""
        try:
            for parameter in self._others:
                parameter.requires_grad = False
            yield
        finally:
            for parameter in self._others:
                parameter.requires_grad = True

    def rule(self, rule: Rule) -> Rule:
        """A clipping rule made for all trainable Parameters, for these alone; the bound is theirs."""
        if not self._others or not isinstance(rule, PerLayerClipping):
            return rule
        groups = [rule.groups[place] for place in self._places]
        numbers = {group: number for number, group in enumerate(dict.fromkeys(groups))}
        return PerLayerClipping([numbers[group] for group in groups], [rule.shares[group] for group in numbers])
