"""Labels that a class loss cannot read, named before the first step instead of deep inside a compiled graph."""
from __future__ import annotations

from typing import Any

import numpy as np
from mindspore import nn

from mindarmour.privacy.diff_privacy.sampling import pipelines
from mindarmour.privacy.diff_privacy.sampling.batches import SamplerDataset


def check_labels(dataset: Any, loss_fn: Any) -> None:
    """Raise unless the label of a sampler's data set suits the loss.

    Args:
        dataset (Dataset): As handed to `DPModel.train`.
        loss_fn (Cell, optional): Its loss.

    Raises:
        ValueError: A loss of classes gets numbers that are no classes, or several of them for a record.
    """
    chain = pipelines.chain_of(dataset)
    if not chain or not isinstance(chain[-1], SamplerDataset):
        return
    for name, (shape, dtype) in chain[-1].source.rows_by_name().items():
        if name != dataset.get_col_names()[-2]:
            continue
        sparse = isinstance(loss_fn, nn.SoftmaxCrossEntropyWithLogits) and loss_fn.sparse
        if sparse and shape != ():
            raise ValueError(f"Labels of {type(loss_fn).__name__}(sparse=True) must be one class a record, but column "
                             f"{name!r} has shape {shape} a record. Write .map(lambda x: x.reshape(()), {name!r}) "
                             f"before the sampler, or sparse=False for rows of probabilities.")
        classes = sparse or isinstance(loss_fn, nn.CrossEntropyLoss) and shape == ()
        if classes and not np.issubdtype(dtype, np.integer):
            raise ValueError(f"Labels of {type(loss_fn).__name__} must be classes, whole numbers, but column {name!r} "
                             f"holds {dtype} of shape {shape} a record. Write .map(TypeCast(mindspore.int32), "
                             f"{name!r}) before the sampler, with TypeCast of mindspore.dataset.transforms.")
