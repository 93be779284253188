"""Masks on the device: the parts of the compiled step."""
import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops


class GradMaskInCell(nn.Cell):
    """Holds the mask of one parameter and applies it to a gradient.

    The mask is a Parameter, so that a compiled step sees it change and a checkpoint of the step holds it.

    Args:
        weight (Parameter): The parameter whose mask this is. Its name stays as it is.

    Inputs:
        gradient (Tensor): Gradient of `weight`, of the same shape.

    Outputs:
        Tensor, the gradient, 0 where the weight is suppressed.

    Supported Platforms:
        ``Ascend`` ``CPU``
    """

    def __init__(self, weight):
        super().__init__(auto_prefix=False)
        self.mask = Parameter(Tensor(np.ones(weight.shape, bool)), name=f"suppress_mask.{weight.name}",
                              requires_grad=False)
        # a constant: a scalar would be spread out anew at each step
        self.zero = Tensor(np.zeros(weight.shape), weight.dtype)

    def construct(self, gradient):
        return ops.select(self.mask, gradient, self.zero)


class DeWeightInCell(nn.Cell):
    """Sets the suppressed weights of one parameter to exactly 0, whatever the optimizer made of them.

    Args:
        weight (Parameter): The parameter.
        grad_mask (GradMaskInCell): Its mask.

    Outputs:
        Parameter, the weight.

    Supported Platforms:
        ``Ascend`` ``CPU``
    """

    def __init__(self, weight, grad_mask):
        super().__init__(auto_prefix=False)
        self.weight = weight
        self.grad_mask = grad_mask

    def construct(self):
        # select and not a product: 0 * NaN is NaN, and a suppressed weight stays 0 even in a diverging run
        return ops.assign(self.weight, self.grad_mask(self.weight))


class ApplyMasks(nn.Cell):
    """Sets every suppressed weight to exactly 0.

    Args:
        de_weights (list[DeWeightInCell]): One per suppressed parameter.

    Outputs:
        bool, True.

    Supported Platforms:
        ``Ascend`` ``CPU``
    """

    def __init__(self, de_weights):
        super().__init__(auto_prefix=False)
        self.de_weights = nn.CellList(de_weights, auto_prefix=False)

    def construct(self):
        for de_weight in self.de_weights:
            de_weight()
        return True


def progress_parameter():
    """int32 [1]: the steps behind us, kept where a checkpoint finds it."""
    return Parameter(Tensor(np.zeros(1), ms.int32), name="suppress_progress", requires_grad=False)
