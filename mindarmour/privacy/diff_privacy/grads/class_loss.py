"""Losses by class, whose class weights must not cancel where a row is asked alone."""
from __future__ import annotations

from typing import Optional

import mindspore as ms
from mindspore import nn

from mindarmour.privacy.diff_privacy.operators import add_up, average, cast, larger, reshape
from mindarmour.utils.mindspore_internals import copy_cell

BY_CLASS = (nn.CrossEntropyLoss, nn.NLLLoss)


def inherits_construct(cell: Optional[nn.Cell], kinds: tuple) -> bool:
    """Whether a cell computes what one of these classes computes: it is one, or a subclass that leaves it alone."""
    return any(isinstance(cell, kind) and type(cell).construct is kind.construct for kind in kinds)


class ClassLoss(nn.Cell):
    """Loss of each row from a loss cell of `BY_CLASS`: its mean is that over the labels it counts, class weights kept.

    MindSpore's mean divides by the class weights of the labels. In a batch these weigh the rows against each other; of
    one row with one label nothing would be left of them. A row without any label to count has loss and gradient zero
    (MindSpore's mean of nothing is NaN).
    """

    def __init__(self, loss_fn):
        super().__init__(auto_prefix=False)
        self.reduction, self.ignored = loss_fn.reduction, loss_fn.ignore_index
        self.loss_fn = copy_cell(loss_fn)
        self.loss_fn.__dict__.update(reduction="none")

    def construct(self, output, label):
        values = self.loss_fn(cast(output, ms.float32), label)
        values = reshape(values, (values.shape[0], -1))
        if self.reduction == "sum":
            return add_up(values, 1)
        if self.reduction == "none" or label.ndim == output.ndim:  # or probabilities, which are all counted
            return average(values, 1)
        counted = add_up(reshape(cast(label != self.ignored, ms.float32), values.shape), 1)
        return add_up(values, 1) / larger(counted, 1.0)


def class_weights_kept(loss_fn: Optional[nn.Cell]) -> Optional[nn.Cell]:
    """The loss as every engine asks it row by row: one whose class weights would cancel there keeps them."""
    if inherits_construct(loss_fn, BY_CLASS) and loss_fn.weight is not None and loss_fn.reduction == "mean":
        return ClassLoss(loss_fn)
    return loss_fn
