"""Documented utilities: gradients with respect to inputs, distances between images, boxes.

`compute_ssim` and `compute_psnr` live in `mindarmour.utils.image_metrics`, which needs no MindSpore.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from mindarmour.utils import _validate as check
from mindarmour.utils.image_metrics import compute_psnr, compute_ssim

__all__ = ["GradWrap", "GradWrapWithLoss", "WithLossCell", "calculate_iou", "calculate_lp_distance",
           "compute_psnr", "compute_ssim", "jacobian_matrix", "jacobian_matrix_for_detection",
           "to_tensor_tuple"]


class WithLossCell(nn.Cell):
    """A network followed by its loss.

    Args:
        network (Cell): The network.
        loss_fn (Cell): The loss, called as loss_fn(output, label).

    Inputs:
        data (Tensor): Input of the network.
        label (Tensor): Labels.

    Outputs:
        Tensor, the loss.

    Supported Platforms:
        ``Ascend`` ``GPU`` ``CPU``

    Examples:
        >>> from mindspore import nn
        >>> from mindarmour.utils.util import WithLossCell
        >>> cell = WithLossCell(nn.Dense(4, 3), nn.CrossEntropyLoss())
    """

    def __init__(self, network: nn.Cell, loss_fn: nn.Cell) -> None:
        super().__init__(auto_prefix=False)
        self._network = network
        self._loss_fn = loss_fn

    def construct(self, data, label):
        return self._loss_fn(self._network(data), label)


class GradWrapWithLoss(nn.Cell):
    """Gradient of the loss with respect to the inputs.

    Args:
        network (Cell): A network with its loss, such as `WithLossCell`.

    Inputs:
        inputs (Tensor): Input of the network.
        labels (Tensor): Labels.

    Outputs:
        Tensor, the gradient, with the shape of `inputs`.

    Supported Platforms:
        ``Ascend`` ``GPU`` ``CPU``

    Examples:
        >>> import mindspore as ms
        >>> import numpy as np
        >>> from mindspore import nn
        >>> from mindarmour.utils.util import GradWrapWithLoss, WithLossCell
        >>> cell = GradWrapWithLoss(WithLossCell(nn.Dense(4, 3), nn.CrossEntropyLoss()))
        >>> data, label = ms.Tensor(np.ones((2, 4), np.float32)), ms.Tensor([0, 1], ms.int32)
        >>> print(cell(data, label).shape)
        (2, 4)
    """

    def __init__(self, network: nn.Cell) -> None:
        super().__init__(auto_prefix=False)
        self.network = network
        self._gradient = ms.grad(network, 0)

    def construct(self, inputs, labels):
        return self._gradient(inputs, labels)


class GradWrap(nn.Cell):
    """Gradient of a network's output, weighted by a sensitivity, with respect to its first input.

    Args:
        network (Cell): A network with one output.

    Inputs:
        *data (Tensor): The inputs of the network, then the sensitivity: a Tensor of the output's shape.

    Outputs:
        Tensor, the gradient, with the shape of the first input.

    Supported Platforms:
        ``Ascend`` ``GPU`` ``CPU``

    Examples:
        >>> import mindspore as ms
        >>> import numpy as np
        >>> from mindspore import nn
        >>> from mindarmour.utils.util import GradWrap
        >>> data, sens = ms.Tensor(np.ones((2, 4), np.float32)), ms.Tensor(np.ones((2, 3), np.float32))
        >>> print(GradWrap(nn.Dense(4, 3))(data, sens).shape)
        (2, 4)
    """

    def __init__(self, network: nn.Cell) -> None:
        super().__init__(auto_prefix=False)
        self.network = network
        self._gradient = ops.GradOperation(sens_param=True)

    def construct(self, *data):
        return self._gradient(self.network)(*data)


def to_tensor_tuple(inputs_ori: Any) -> tuple:
    """Arrays as a tuple of Tensors.

    Args:
        inputs_ori (Union[numpy.ndarray, tuple, list]): One array, or several; numbers and Tensors too.

    Returns:
        tuple[Tensor].

    Examples:
        >>> import numpy as np
        >>> from mindarmour.utils.util import to_tensor_tuple
        >>> len(to_tensor_tuple(np.zeros(3)))
        1
    """
    several = inputs_ori if isinstance(inputs_ori, (tuple, list)) else (inputs_ori,)
    return tuple(item if isinstance(item, Tensor) else Tensor(np.asarray(item)) for item in several)


def jacobian_matrix(grad_wrap_net: nn.Cell, inputs: Any, num_classes: int) -> np.ndarray:
    """Gradient of each class score of a classifier with respect to its inputs.

    Args:
        grad_wrap_net (Cell): `GradWrap` around the classifier.
        inputs (numpy.ndarray): Inputs [B, ...].
        num_classes (int): Classes.

    Returns:
        numpy.ndarray, [num_classes, B, prod(...)].

    Examples:
        >>> import numpy as np
        >>> from mindspore import nn
        >>> from mindarmour.utils.util import GradWrap, jacobian_matrix
        >>> jacobian_matrix(GradWrap(nn.Dense(4, 3)), np.ones((2, 4), np.float32), 3).shape
        (3, 2, 4)
    """
    check.instance("inputs", inputs, np.ndarray)
    check.integer("num_classes", num_classes, low=1)
    rows = []
    for label in range(num_classes):
        sens = np.zeros((len(inputs), num_classes), np.float32)
        sens[:, label] = 1
        gradient = grad_wrap_net(*to_tensor_tuple(inputs), Tensor(sens))
        rows.append(gradient.asnumpy().reshape(len(inputs), -1))
    return np.asarray(rows)


def jacobian_matrix_for_detection(grad_wrap_net: nn.Cell, inputs: Any, num_boxes: int,
                                  num_classes: int) -> np.ndarray:
    """Gradient of each box's class scores of a detector with respect to its first input.

    Args:
        grad_wrap_net (Cell): `GradWrap` around a detector whose output is [B, num_boxes, num_classes].
        inputs (Union[numpy.ndarray, tuple]): One input [B, ...], or several of which the first is meant.
        num_boxes (int): Boxes of one image.
        num_classes (int): Classes.

    Returns:
        numpy.ndarray, [num_boxes, num_classes, B, prod(...)].
    """
    check.integer("num_boxes", num_boxes, low=1)
    check.integer("num_classes", num_classes, low=1)
    tensors = to_tensor_tuple(inputs)
    batch = tensors[0].shape[0]
    rows = []
    for box, label in np.ndindex(num_boxes, num_classes):
        sens = np.zeros((batch, num_boxes, num_classes), np.float32)
        sens[:, box, label] = 1
        rows.append(grad_wrap_net(*tensors, Tensor(sens)).asnumpy().reshape(batch, -1))
    return np.asarray(rows).reshape(num_boxes, num_classes, batch, -1)


def calculate_iou(box_i: Sequence, box_j: Sequence) -> float:
    """Intersection over union of two boxes (y1, x1, y2, x2), 0 where both are empty.

    Examples:
        >>> import numpy as np
        >>> from mindarmour.utils.util import calculate_iou
        >>> calculate_iou(np.array([0, 0, 2, 2]), np.array([0, 1, 2, 3])) == 1 / 3
        True
    """
    low, high = np.maximum(box_i[:2], box_j[:2]), np.minimum(box_i[2:4], box_j[2:4])
    common = float(np.prod(np.maximum(high - low, 0)))
    area_i, area_j = (float(np.prod(np.maximum(box[2:4] - box[:2], 0)))
                      for box in (np.asarray(box_i), np.asarray(box_j)))
    union = area_i + area_j - common
    return common / union if union else 0.0


def calculate_lp_distance(original_image: np.ndarray, compared_image: np.ndarray) -> tuple:
    """Relative distances of an image from its original.

    Args:
        original_image (numpy.ndarray): The original.
        compared_image (numpy.ndarray): The image compared, of the same shape.

    Returns:
        tuple of three floats: share of changed values (l0), |difference|_2 / |original|_2 and
        max|difference| / max|original|; the last two are infinite for a changed all-zero original.

    Raises:
        TypeError: If an image is not an array.
        ValueError: If the shapes differ.

    Examples:
        >>> import numpy as np
        >>> from mindarmour.utils.util import calculate_lp_distance
        >>> calculate_lp_distance(np.array([3.0, 4.0]), np.array([3.0, 3.0]))
        (0.5, 0.2, 0.25)
    """
    check.instance("original_image", original_image, np.ndarray)
    check.instance("compared_image", compared_image, np.ndarray)
    if original_image.shape != compared_image.shape:
        raise ValueError(f"compared_image must have the shape {original_image.shape} of original_image, but "
                         f"has {compared_image.shape}.")
    original = original_image.astype(np.float64).ravel()
    difference = compared_image.astype(np.float64).ravel() - original
    share = np.count_nonzero(difference) / max(difference.size, 1)
    return share, _ratio(difference, original, 2), _ratio(difference, original, np.inf)


def _ratio(difference, original, order):
    distance, length = np.linalg.norm(difference, order), np.linalg.norm(original, order)
    if length == 0:
        return 0.0 if distance == 0 else float("inf")
    return float(distance / length)
