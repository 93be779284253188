"""Forward passes of any kind of model, in batches of one fixed size."""
from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from mindarmour.privacy.evaluation.checks import one_row_each
from mindarmour.utils import _validate

# the smallest positive float64: log of a probability that a classifier rounded to zero
_TINY = np.finfo(np.float64).tiny


def predict_queries(model: Any, inputs: np.ndarray, augmentations: Sequence[Callable] = (), *, batch_size: int = 256,
                    progress: bool = False, classes: int = 0) -> np.ndarray:
    """Logits of each record and of its augmented copies.

    Args:
        model (object): As in `collect_signals`.
        inputs (numpy.ndarray): Records [n, ...].
        augmentations (Sequence[Callable]): Functions from a batch to the augmented batch.
        batch_size (int): Records per forward pass; the last batch is filled up, so that shapes stay static.
        progress (bool): Show a progress bar.
        classes (int): Least number of columns of a classifier with `predict_proba`, which knows the classes it saw.

    Returns:
        numpy.ndarray, logits [n, 1 + augmentations, classes].
    """
    batch_size = _validate.integer("batch_size", batch_size, low=1)
    for augment in augmentations:
        if not callable(augment):
            raise TypeError(f"augmentations must be functions from a batch to a batch, but got "
                            f"{type(augment).__name__}.")
    variants = [lambda batch: batch, *augmentations]
    with evaluation_state(model), tqdm(total=len(inputs) * len(variants), desc="Signals", unit="record",
                                       disable=not progress) as bar:
        forward = forward_function(model, classes)
        batches = [inputs[start:start + batch_size] for start in range(0, len(inputs), batch_size)]
        rows = [[_padded_forward(forward, np.asarray(variant(batch)), min(batch_size, len(inputs)), bar)
                 for variant in variants] for batch in batches]
    return np.concatenate([np.stack(row, axis=1) for row in rows])


def _padded_forward(forward: Callable, batch: np.ndarray, size: int, bar: Any) -> np.ndarray:
    filled = batch if len(batch) == size else np.concatenate([batch, np.repeat(batch[-1:], size - len(batch), axis=0)])
    outputs = one_row_each(forward(filled), len(filled))[:len(batch)]
    bar.update(len(batch))
    return outputs


def forward_function(model: Any, classes: int = 0) -> Callable[[np.ndarray], np.ndarray]:
    """Function from inputs [B, ...] to logits [B, classes] as an array."""
    if hasattr(model, "predict_proba"):
        return lambda batch: class_log_probabilities(model, batch, classes)
    if _is_mindspore(model):
        import mindspore as ms
        call = model if isinstance(model, ms.nn.Cell) else model.predict
        return lambda batch: _as_array(_single_output(call(ms.Tensor(single_precision(batch)))))
    if _comes_from(model, "torch"):
        raise TypeError("model_or_cell must be wrapped in a function that takes and returns arrays if it is a PyTorch "
                        "module: lambda batch: network(torch.from_numpy(batch)).detach().numpy().")
    if callable(model):
        return lambda batch: _single_output(model(batch))
    raise TypeError(f"model_or_cell must be a mindspore.train.Model, a Cell, a classifier with predict_proba, or a "
                    f"function from inputs to logits, but got {type(model).__name__}.")


def _as_array(tensor: Any) -> np.ndarray:
    import mindspore as ms
    return (tensor.astype(ms.float32) if tensor.dtype == ms.bfloat16 else tensor).asnumpy()


def single_precision(batch: np.ndarray) -> np.ndarray:
    """The batch, float64 as float32: Ascend has no float64, and a network's weights are float32 anyway."""
    return batch.astype(np.float32) if batch.dtype == np.float64 else batch


def _single_output(output: Any) -> Any:
    return output[0] if isinstance(output, (tuple, list)) else output


def class_log_probabilities(classifier: Any, batch: np.ndarray, classes: int = 0) -> np.ndarray:
    """Log probabilities of a scikit-learn style classifier, one column per class number, `classes` at least.

    A class the classifier never saw gets the smallest probability there is.
    """
    known = np.asarray(classifier.classes_)
    known = known.astype(np.int64) if known.dtype.kind == "b" else known
    if known.dtype.kind not in "iu":
        raise TypeError(f"classes_ of the classifier must be whole numbers, but got dtype {known.dtype}.")
    probabilities = np.asarray(classifier.predict_proba(batch), np.float64)
    full = np.full((len(batch), max(known.max() + 1, classes)), _TINY)
    full[:, known] = np.maximum(probabilities, _TINY)
    return np.log(full)


def _is_mindspore(model: Any) -> bool:
    return _comes_from(model, "mindspore")


def _comes_from(model: Any, package: str) -> bool:
    # asked by name, so that judging a scikit-learn model or an array does not import MindSpore
    return any(base.__module__.partition(".")[0] == package for base in type(model).__mro__)


@contextlib.contextmanager
def evaluation_state(model: Any) -> Iterator[None]:
    """Put a MindSpore network into evaluation state, and each of its cells back into its own afterwards."""
    network = _network(model)
    if network is None:
        yield
        return
    states = [(cell, cell.training) for _, cell in network.cells_and_names()]
    network.set_train(False)
    try:
        yield
    finally:
        # parents first, so that a child with a state of its own gets it back
        for cell, training in states:
            if cell.training != training:
                cell.set_train(training)


def _network(model: Any) -> Any:
    if not _is_mindspore(model):
        return None
    import mindspore as ms
    if isinstance(model, ms.nn.Cell):
        return model
    return _validate.instance("model_or_cell", model, ms.train.Model).predict_network
