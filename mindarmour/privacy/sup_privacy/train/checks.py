"""Comparing a controller with the optimizer it is to work with."""
import math

import mindspore as ms
from mindspore import Parameter, Tensor


def check_optimizer(suppress_ctrl, optimizer):
    """Refuse an optimizer that contradicts the controller.

    Raises:
        ValueError: The optimizer lacks a described parameter, a `grad_idx` is not its index, or `lr` is not
            the learning rate of the first step.
    """
    index = {id(item): position for position, item in enumerate(optimizer.parameters)}
    for des, weight in suppress_ctrl.masked_parameters:
        right = index.get(id(weight))
        if right is None:
            raise ValueError(f"the optimizer must train {weight.name}, which mask_layers describes, but does "
                             f"not. Build SuppressCtrl and the optimizer from the same network.")
        if des.grad_idx not in (None, right):
            raise ValueError(f"grad_idx of '{des.layer_name}' must be {right}, the index of {weight.name} in "
                             f"optimizer.parameters, but got {des.grad_idx}. Pass {right}, or None to derive it.")
    _check_learning_rate(suppress_ctrl.lr, optimizer)


def _check_learning_rate(learning_rate, optimizer):
    if learning_rate is None:
        return
    rates = optimizer.learning_rate if optimizer.is_group_lr else [optimizer.learning_rate]
    first = sorted({_first_value(rate) for rate in rates})
    if not any(math.isclose(learning_rate, value, rel_tol=1e-5) for value in first):
        values = ", ".join(f"{value:.6g}" for value in first)
        raise ValueError(f"lr must be the optimizer's learning rate of the first step, {values}, but got "
                         f"{learning_rate}. Pass that, or None to leave it out.")


def _first_value(rate):
    if isinstance(rate, Parameter):
        return float(rate.asnumpy())
    return float(rate(Tensor(0, ms.int32)).asnumpy().reshape(()))
