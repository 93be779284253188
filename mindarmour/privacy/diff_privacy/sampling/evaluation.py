"""A sampler's data set as metrics need it: without holes, and every record once."""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import mindspore.dataset as ds
import numpy as np

from mindarmour.privacy.diff_privacy.sampling import pipelines
from mindarmour.privacy.diff_privacy.sampling.batches import MASK_COLUMN, SamplerDataset


def for_metrics(dataset: Any) -> Any:
    """The data set that metrics are computed on.

    Args:
        dataset (Dataset): Any; only one with a mask column is changed.

    Returns:
        Dataset without mask and holes. A sampler's shows each of its records once, in their order, in batches of the
        physical size, and draws nothing; another keeps its rows, put together to batches of the same size.

    Examples:
        >>> import numpy as np
        >>> from mindarmour.privacy.diff_privacy import PoissonSampler
        >>> from mindarmour.privacy.diff_privacy.sampling.evaluation import for_metrics
        >>> dataset = PoissonSampler(10).dataset((np.zeros((35, 2), np.float32), np.arange(35)))
        >>> sum(len(labels) for _, labels in for_metrics(dataset).create_tuple_iterator(output_numpy=True))
        35
    """
    names = dataset.get_col_names() if isinstance(dataset, ds.Dataset) else []
    if MASK_COLUMN not in names:
        return dataset
    kind, chain = _RealRows, pipelines.chain_of(dataset)
    if chain and isinstance(chain[-1], SamplerDataset):
        once = SamplerDataset(chain[-1].source.each_record_once())
        for node in reversed(chain[:-1]):
            once = pipelines.onto(node, once)
        kind, dataset = _AllRows, once
    return ds.GeneratorDataset(kind(dataset, names.index(MASK_COLUMN)),
                               [name for name in names if name != MASK_COLUMN], shuffle=False)


class _RealRows:
    """Batches without the rows that the mask calls holes; all but the last are as large as before."""

    def __init__(self, dataset: Any, mask: int) -> None:
        self._dataset = dataset
        self._mask = mask

    def __iter__(self) -> Iterator[tuple[np.ndarray, ...]]:
        held = None
        for columns in self._dataset.create_tuple_iterator(num_epochs=1, output_numpy=True):
            mask, size = columns.pop(self._mask) > 0, len(columns[0])
            rows = [column[mask] for column in columns]
            held = rows if held is None else [np.concatenate(pair) for pair in zip(held, rows)]
            if len(held[0]) >= size:
                yield tuple(column[:size] for column in held)
                held = [column[size:] for column in held]
        if held is not None and len(held[0]):
            yield tuple(held)


class _AllRows(_RealRows):
    """The same, where holes stand in the last batch only and the number of batches stays."""

    def __len__(self) -> int:
        return self._dataset.get_dataset_size()
