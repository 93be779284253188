"""Reading audited records: a MindSpore data set or a pair of arrays."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mindarmour.privacy.evaluation.checks import checked_labels
from mindarmour.utils import _validate

# MindSpore's operations after which a row holds several records
_BATCHING = ("BatchDataset", "PaddedBatchDataset", "BucketBatchByLengthDataset")


def read_records(name: str, data: Any) -> tuple[np.ndarray, np.ndarray]:
    """Arrays (inputs [n, ...], labels int64 [n]) of a data set.

    Args:
        name (str): Name of the argument, for errors.
        data (Dataset or tuple): A MindSpore data set with the columns image and label, or with just two columns,
            batched or not; or a tuple or list of two arrays.

    Raises:
        TypeError: If `data` is something else.
        ValueError: If it is empty, its columns are wrong, or its labels are not one class number a record.
    """
    inputs, labels = _arrays(name, data) if isinstance(data, (tuple, list)) else _columns(name, data)
    if len(inputs) == 0:
        raise ValueError(f"{name} must contain at least one record, but it is empty.")
    if len(inputs) != len(labels):
        raise ValueError(f"{name} must have one label per record, but got {len(inputs)} records and {len(labels)} "
                         f"labels.")
    return inputs, checked_labels(labels, len(labels), name=f"labels of {name}")


def _arrays(name: str, data: Sequence) -> tuple[np.ndarray, np.ndarray]:
    if len(data) != 2:
        raise ValueError(f"{name} must be a pair (inputs, labels), but got {len(data)} items.")
    inputs, labels = np.asarray(data[0]), np.asarray(data[1])
    if inputs.ndim == 0 or labels.ndim == 0:
        raise ValueError(f"{name} must be a pair (inputs, labels) of arrays with one row per record, but got shapes "
                         f"{inputs.shape} and {labels.shape}.")
    return inputs, labels


def _columns(name: str, dataset: Any) -> tuple[np.ndarray, np.ndarray]:
    from mindspore.dataset import Dataset
    _validate.instance(name, dataset, Dataset, "mindspore.dataset.Dataset or a pair of arrays")
    image, label = column_names(name, dataset)
    rows = [(row[image], row[label]) for row in dataset.create_dict_iterator(num_epochs=1, output_numpy=True)]
    if not rows:
        raise ValueError(f"{name} must contain at least one record, but it is empty. A batch size above the number "
                         f"of records with drop_remainder=True leaves nothing.")
    inputs, labels = zip(*rows)
    if is_batched(dataset):
        return np.concatenate(inputs), np.concatenate(labels)
    return _stacked(name, inputs), _stacked(name, labels)


def _stacked(name: str, rows: Sequence[np.ndarray]) -> np.ndarray:
    shapes = {row.shape for row in rows}
    if len(shapes) > 1:
        raise ValueError(f"{name} must hold records of one shape, but holds {sorted(shapes)[:3]}. If each row is a "
                         f"batch already, pass the concatenated arrays.")
    return np.stack(rows)


def is_batched(dataset: Any) -> bool:
    """Does a row of the data set hold several records? Asked of its operations: shapes cannot tell.

    An image with three channels and a one-hot label of three classes looks like a batch of three.
    """
    return type(dataset).__name__ in _BATCHING or getattr(dataset, "has_batch_sampler", False) \
        or any(is_batched(child) for child in dataset.children)


def column_names(name: str, dataset: Any) -> tuple[str, str]:
    """Names of the image and the label column."""
    names = dataset.get_col_names()
    if {"image", "label"} <= set(names):
        return "image", "label"
    if len(names) == 2:
        return tuple(names)
    raise ValueError(f"{name} must have the columns 'image' and 'label' (or just two columns), but its columns are "
                     f"{names}. Rename or project them, e.g. dataset.project(['image', 'label']).")
