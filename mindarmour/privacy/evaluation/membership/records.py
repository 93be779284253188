"""Reading audited records: a MindSpore data set or a pair of arrays."""
import numpy as np

from mindarmour.utils import _validate


def read_records(name, data):
    """Arrays (inputs [n, ...], labels [n]) of a data set.

    Args:
        name (str): Name of the argument, for errors.
        data (Dataset or tuple): A MindSpore data set with the columns image and label, or with just two columns,
            batched or not; or a tuple or list of two arrays.

    Raises:
        TypeError: If `data` is something else.
        ValueError: If it is empty, its columns are wrong, or its labels are one-hot.
    """
    inputs, labels = _arrays(name, data) if isinstance(data, (tuple, list)) else _columns(name, data)
    if len(inputs) == 0:
        raise ValueError(f"{name} must contain at least one record, but it is empty.")
    if len(inputs) != len(labels):
        raise ValueError(f"{name} must have one label per record, but got {len(inputs)} records and {len(labels)} "
                         f"labels.")
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise ValueError(f"{name} must have class numbers as labels, one per record, but got shape {labels.shape}, "
                         f"which looks one-hot. Drop the OneHot step or take argmax(axis=1).")
    if labels.dtype.kind not in "iu":
        raise TypeError(f"{name} must have whole numbers as labels, but got dtype {labels.dtype}.")
    return inputs, labels


def _arrays(name, data):
    if len(data) != 2:
        raise ValueError(f"{name} must be a pair (inputs, labels), but got {len(data)} items.")
    return np.asarray(data[0]), np.asarray(data[1])


def _columns(name, dataset):
    from mindspore.dataset import Dataset
    _validate.instance(name, dataset, Dataset, "mindspore.dataset.Dataset or a pair of arrays")
    image, label = column_names(name, dataset)
    rows = [(row[image], row[label]) for row in dataset.create_dict_iterator(num_epochs=1, output_numpy=True)]
    if not rows:
        raise ValueError(f"{name} must contain at least one record, but it is empty. A batch size above the number "
                         f"of records with drop_remainder=True leaves nothing.")
    join = np.concatenate if _is_batch(*rows[0]) else np.stack
    return tuple(join(column) for column in zip(*rows))


def _is_batch(image, label):
    return label.ndim > 0 and image.ndim > 0 and len(label) == len(image)


def column_names(name, dataset):
    """Names of the image and the label column."""
    names = dataset.get_col_names()
    if {"image", "label"} <= set(names):
        return "image", "label"
    if len(names) == 2:
        return tuple(names)
    raise ValueError(f"{name} must have the columns 'image' and 'label' (or just two columns), but its columns are "
                     f"{names}. Rename or project them, e.g. dataset.project(['image', 'label']).")
