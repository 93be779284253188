"""Cross-entropy of classes, for networks that return logits and for those that end in Softmax."""
from mindspore import ops

# the smallest probability that is told from zero in float32, with room for its gradient
SMALLEST = 1e-30


def class_entropy(outputs, labels, probabilities):
    """Cross-entropy of each row [B].

    Args:
        outputs (Tensor): Logits, or probabilities, float32 [B, K].
        labels (Tensor): Probabilities of the classes, such as one-hot rows, float32 [B, K].
        probabilities (bool): The outputs are probabilities: taken for logits, their slope would all but vanish.
    """
    if probabilities:
        outputs = ops.log(ops.maximum(outputs, SMALLEST))
    return ((ops.logsumexp(outputs, 1, True) - outputs) * labels).sum(axis=1)
