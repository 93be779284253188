"""What the gradient of the last layer says about labels, without any optimisation."""
from __future__ import annotations

import numpy as np
from mindspore import Tensor

from mindarmour.utils import _validate as check


def gradient_arrays(gradients):
    """Gradients float64, given as Tensors or arrays in a list or tuple."""
    check.instance("gradients", gradients, (list, tuple))
    arrays = [g.asnumpy() if isinstance(g, Tensor) else g for g in gradients]
    for position, array in enumerate(arrays):
        check.instance(f"gradients[{position}]", array, np.ndarray)
        if not np.isfinite(array).all():
            raise ValueError(f"gradients[{position}] must be finite, but holds NaN or infinity.")
    return [array.astype(np.float64) for array in arrays]


def _last_layer(arrays):
    """(weight [K, d], bias [K] or None) of the last dense layer."""
    position = max((i for i, array in enumerate(arrays) if array.ndim == 2), default=None)
    if position is None:
        raise ValueError(f"gradients must hold the weight [classes, features] of a last dense layer, but have shapes "
                         f"{[array.shape for array in arrays]}.")
    weight = arrays[position]
    after = arrays[position + 1] if position + 1 < len(arrays) else None
    return weight, after if after is not None and after.shape == (len(weight),) else None


def _excess(weight, bias):
    """For each class a number that is most negative where its label occurs: p_k - y_k, up to a factor."""
    if bias is not None:
        return bias
    # row k is (p_k - y_k) h: the row of the label points against all others and is as long as their sum
    lengths = np.linalg.norm(weight, axis=1)
    label = lengths.argmax()
    return np.where(np.arange(len(weight)) == label, -lengths, lengths)


def infer_labels(gradients, batch_size=1):
    """Labels of the examples behind a cross-entropy gradient, read off the last dense layer.

    The gradient of its bias is mean(p_k - y_k): negative only for a class that occurs. For one example the answer
    is exact for every class, whatever the activations (without a bias, the longest row of the weight's gradient).
    For several examples labels are assigned one at a time to the most negative class, a label being worth
    1 / batch_size; this assumes that the network gives each class about equal probability, and is exact only for
    untrained networks and distinct labels.

    Threat model: the attacker sees one mean gradient of a client, as a server in federated learning does.

    Args:
        gradients (Union[list, tuple]): Gradients, Tensors or arrays, in the order of the network's parameters.
        batch_size (int): Examples in the batch.

    Returns:
        numpy.ndarray, int64 [batch_size], sorted.

    Raises:
        TypeError: If an argument has another type.
        ValueError: If no gradient is that of a dense layer, a gradient is not finite, or batch_size is below 1.

    References:
        Zhao, Mopuri and Bilen (2020), "iDLG: improved deep leakage from gradients", section 3.1.
        Wainakh et al. (2022), "User-level label leakage from gradients in federated learning", algorithm 1.

    Examples:
        >>> import numpy as np
        >>> from mindarmour.privacy.evaluation import infer_labels
        >>> probability, features = np.array([0.2, 0.5, 0.3]), np.array([1.0, -2.0])
        >>> slope = probability - np.eye(3)[2]
        >>> print(infer_labels([np.outer(slope, features), slope]))
        [2]
    """
    check.integer("batch_size", batch_size, low=1)
    weight, bias = _last_layer(gradient_arrays(gradients))
    excess = _excess(weight, bias).astype(np.float64)
    if bias is None and batch_size > 1:
        raise ValueError("batch_size must be 1 for a last layer without bias: its rows do not separate the labels.")
    labels = []
    for _ in range(batch_size):
        labels.append(int(excess.argmin()))
        excess[labels[-1]] += 1 / batch_size
    return np.sort(labels).astype(np.int64)


def analytic_input(gradients, parameters, input_shape):
    """The input of a first dense layer with bias: a row of its weight's gradient divided by the bias's.

    Row i of the weight's gradient is (dL/db_i) x, exactly; the row with the largest |dL/db_i| has the smallest
    rounding error (Geiping et al. 2020, proposition 3.1).
    """
    size = int(np.prod(input_shape))
    weight, bias = gradients[0], gradients[1] if len(gradients) > 1 else None
    if weight.ndim != 2 or weight.shape[1] != size or bias is None or bias.shape != (len(weight),):
        names = [parameter.name for parameter in parameters[:2]]
        raise ValueError(f"method 'analytic' needs a network whose first parameters are the weight [n, {size}] and the "
                         f"bias [n] of a dense layer that takes the whole input, but {names} have shapes "
                         f"{[gradient.shape for gradient in gradients[:2]]}. Use 'idlg' or 'cosine'.")
    row = int(np.abs(bias).argmax())
    if bias[row] == 0:
        raise ValueError("method 'analytic' needs a bias gradient other than zero: this gradient holds no trace of "
                         "the input.")
    return (weight[row] / bias[row]).reshape(1, *input_shape)
