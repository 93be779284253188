"""What the gradient of the last layer says about labels, without any optimisation."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

import numpy as np
from mindspore import Tensor

from mindarmour.utils import _validate as check

# how far sums of float16 gradients may be from zero
ROUNDING = 1e-3


def gradient_arrays(gradients: Sequence) -> list[np.ndarray]:
    """Gradients float64, given as Tensors or arrays in a list or tuple."""
    check.instance("gradients", gradients, (list, tuple))
    arrays = []
    for position, gradient in enumerate(gradients):
        array = gradient.asnumpy() if isinstance(gradient, Tensor) else gradient
        array = check.instance(f"gradients[{position}]", array, np.ndarray).astype(np.float64)
        arrays.append(array)
        if not np.isfinite(array).all():
            raise ValueError(f"gradients[{position}] must be finite, but holds NaN or infinity.")
    return arrays


def find_head(arrays: Sequence[np.ndarray], batch_size: int = 1) -> int:
    """Position of the last dense layer's weight among gradients, in whatever order the layers were declared.

    Under cross-entropy the gradient of class k's row is the mean of (p_k - y_k) h, and p_k - y_k sums to zero over
    the classes: so do the rows. A layer before a normalisation has rows that sum to zero too; its bias has more
    negative entries than a batch has labels.

    Raises:
        ValueError: If no layer or more than one is like that: noise, or another loss.
    """
    found = [position for position in range(len(arrays)) if _is_head(*_layer_at(arrays, position), batch_size)]
    if len(found) != 1:
        raise ValueError(f"gradients must hold one weight [classes, features] of a last dense layer, whose rows sum to "
                         f"zero under cross-entropy, but {len(found)} of the shapes "
                         f"{[array.shape for array in arrays]} are like that. With noise on the gradients, or another "
                         f"loss, nothing is exact: say which array it is with head=.")
    return found[0]


def _layer_at(arrays: Sequence[np.ndarray], position: int) -> tuple[np.ndarray, Optional[np.ndarray]]:
    """(weight, bias or None) of the dense layer whose weight stands there."""
    weight = arrays[position]
    after = arrays[position + 1] if position + 1 < len(arrays) else None
    return weight, after if after is not None and after.shape == (len(weight),) else None


def _is_head(weight: np.ndarray, bias: Optional[np.ndarray], batch_size: int) -> bool:
    if weight.ndim != 2 or len(weight) < 2 or not weight.any() or not _sums_to_zero(weight):
        return False
    if bias is None or not _sums_to_zero(bias):
        return True
    return 1 <= int((bias < -ROUNDING * np.abs(bias).max()).sum()) <= batch_size


def _sums_to_zero(rows: np.ndarray) -> bool:
    lengths = np.linalg.norm(rows.reshape(len(rows), -1), axis=1)
    return bool(np.linalg.norm(rows.sum(axis=0)) <= ROUNDING * lengths.sum())


def _label_without_bias(weight: np.ndarray, exact: bool) -> int:
    """The label of one example from the signs of (p_k - y_k) h: its row points against all others.

    Raises:
        ValueError: If only two rows are there: they are equally long and point against each other, so either could be
            the label's.
    """
    lengths = np.linalg.norm(weight, axis=1)
    longest = int(lengths.argmax())
    others = np.flatnonzero((lengths > 0) & (np.arange(len(weight)) != longest))
    if len(others) < 2:
        raise ValueError(f"gradients must have three classes or more in a last layer without bias, but "
                         f"{1 + len(others)} rows are not zero: both labels of two classes give such gradients.")
    against = weight[others] @ weight[longest] < 0
    if against.all():
        return longest
    if against.sum() == 1:
        return int(others[against][0])
    if exact:
        raise ValueError("gradients must be of one example: the rows of the last layer point in more than two "
                         "directions.")
    return longest


def infer_labels(gradients: Sequence, batch_size: int = 1, *, head: Optional[int] = None) -> np.ndarray:
    """Labels of the examples behind a cross-entropy gradient, read off the last dense layer.

    The gradient of its bias is mean(p_k - y_k): negative only for a class that occurs. For one example the answer
    is exact for every class, whatever the activations (without a bias, and with three classes at least, the row of
    the weight's gradient that points against all others). For several examples labels are assigned one at a time to
    the most negative class, a label being worth 1 / batch_size; this assumes that the network gives each class about
    equal probability, and is exact only for untrained networks and distinct labels.

    Threat model: the attacker sees one mean gradient of a client, as a server in federated learning does.

    Args:
        gradients (Union[list, tuple]): Gradients, Tensors or arrays, in any order of the layers, each bias after its
            weight.
        batch_size (int): Examples in the batch.
        head (int): Position of the last dense layer's weight [classes, features] in `gradients`; None finds it, which
            noise on the gradients prevents. With it, labels are guessed from noisy gradients too.

    Returns:
        numpy.ndarray, int64 [batch_size], sorted.

    Raises:
        TypeError: If an argument has another type.
        ValueError: If no layer can be the last one, a gradient is not finite, batch_size is below 1, or the labels
            cannot be told: two classes, or several examples, without a bias.

    References:
        Zhao, Mopuri and Bilen (2020), "iDLG: improved deep leakage from gradients", section 3.1.
        Wainakh et al. (2022), "User-level label leakage from gradients in federated learning", algorithm 1.

    Examples:
        >>> import numpy as np
        >>> from mindarmour.privacy.evaluation.inversion.gradient_inversion import infer_labels
        >>> probability, features = np.array([0.2, 0.5, 0.3]), np.array([1.0, -2.0])
        >>> slope = probability - np.eye(3)[2]
        >>> print(infer_labels([np.outer(slope, features), slope]))
        [2]
    """
    check.integer("batch_size", batch_size, low=1)
    arrays = gradient_arrays(gradients)
    exact = head is None
    position = find_head(arrays, batch_size) if head is None else check.integer("head", head, low=0,
                                                                                high=len(arrays) - 1)
    weight, bias = _layer_at(arrays, position)
    if weight.ndim != 2:
        raise ValueError(f"head must be the position of a weight [classes, features], but gradients[{head}] has shape "
                         f"{weight.shape}.")
    if bias is None or (exact and not _sums_to_zero(bias)):
        if batch_size > 1:
            raise ValueError("batch_size must be 1 for a last layer without bias: its rows do not separate the "
                             "labels.")
        return np.array([_label_without_bias(weight, exact)], np.int64)
    excess, labels = bias.copy(), []
    for _ in range(batch_size):
        labels.append(int(excess.argmin()))
        excess[labels[-1]] += 1 / batch_size
    return np.sort(labels).astype(np.int64)


def analytic_inputs(gradients: Sequence[np.ndarray], names: Sequence[str], input_shape: tuple) -> list[np.ndarray]:
    """What the input is if it enters a dense layer with bias whole, one candidate [1, ...] for each layer it fits.

    Row i of the weight's gradient is (dL/db_i) x, exactly; the row with the largest |dL/db_i| has the smallest
    rounding error (Geiping et al. 2020, proposition 3.1).
    """
    size, found = int(np.prod(input_shape)), []
    for position in range(len(gradients)):
        weight, bias = _layer_at(gradients, position)
        if weight.ndim == 2 and weight.shape[1] == size and bias is not None and bias.any():
            row = int(np.abs(bias).argmax())
            found.append((weight[row] / bias[row]).reshape(1, *input_shape))
    if not found:
        shapes = dict(zip(names, (gradient.shape for gradient in gradients)))
        raise ValueError(f"method 'analytic' needs a network that begins with a dense layer for the whole input, with "
                         f"a weight [n, {size}] and a bias [n] whose gradient is not zero, but the gradients are "
                         f"{shapes}. Use 'idlg' or 'cosine'.")
    return found
