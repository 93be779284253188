"""Augmentation multiplicity: several views of one example in one unit, clipped together.

The gradients of an example's views are averaged before clipping, so an example still contributes at most C: the
guarantee is that of units of one example, while the gradient is less noisy.

References:
    De, Berrada, Hayes, Smith, Balle 2022, "Unlocking high-accuracy differentially private image classification
    through scale", section 3.2.
"""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Callable

import numpy as np

from mindarmour.privacy.diff_privacy.sampling.batches import SamplerDataset
from mindarmour.utils import _validate

Augment = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def augmented_views(dataset: SamplerDataset, views: int, augment: Augment) -> SamplerDataset:
    """A sampler's dataset with `views` rows for each example, next to each other.

    `DPModel` reads the number of views from the dataset and makes one unit of each example's rows; leave its
    `micro_batches` None.

    Args:
        dataset (SamplerDataset): From a sampler of this package, also after its `map`.
        views (int): Views of an example, >= 1.
        augment (Callable): Called with the first column's rows, an array [rows, ...], and a NumPy generator; returns
            the augmented rows in the same shape. Each row must depend on itself only.

    Returns:
        SamplerDataset, whose physical batch holds `views` times the rows.

    Examples:
        >>> import numpy as np
        >>> from mindarmour.privacy.diff_privacy import PoissonSampler, augmented_views, random_shift
        >>> arrays = np.zeros((100, 1, 8, 8), np.float32), np.zeros(100, np.int32)
        >>> dataset = augmented_views(PoissonSampler(10).dataset(arrays), views=4, augment=random_shift(2))
        >>> next(dataset.create_tuple_iterator(output_numpy=True))[0].shape[0] % 4
        0
    """
    _validate.integer("views", views, low=1)
    if not callable(augment):
        raise TypeError(f"augment must be callable, but got {type(augment).__name__}.")
    if not isinstance(dataset, SamplerDataset):
        raise ValueError("dataset must come straight from a sampler such as PoissonSampler: the views of an example "
                         "belong to one unit.")
    return SamplerDataset(_ViewBatches(dataset.source, views, augment))


class _ViewBatches:
    """Batches whose rows are repeated, the first column's copies augmented."""

    def __init__(self, batches: Any, views: int, augment: Augment) -> None:
        self.sampling = replace(batches.sampling, views=views)
        self.records = batches.records
        self._batches = batches
        self._views = views
        self._augment = augment

    def __len__(self) -> int:
        return len(self._batches)

    def continue_at(self, step: int) -> None:
        """See `PaddedBatches.continue_at`."""
        self._batches.continue_at(step)

    def over(self, records: Any) -> _ViewBatches:
        """See `PaddedBatches.over`."""
        return _ViewBatches(self._batches.over(records), self._views, self._augment)

    def each_record_once(self) -> Any:
        """See `PaddedBatches.each_record_once`; one row a record, not augmented."""
        return self._batches.each_record_once()

    def rows_by_name(self) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
        """See `PaddedBatches.rows_by_name`."""
        return self._batches.rows_by_name()

    def __iter__(self) -> Iterator[tuple[np.ndarray, ...]]:
        generator = np.random.default_rng()  # augmentation is no part of the guarantee
        for batch in self._batches:
            first, *others = (np.repeat(column, self._views, axis=0) for column in batch)
            yield (np.ascontiguousarray(self._augment(first, generator), first.dtype), *others)


def random_shift(pixels: int) -> Augment:
    """An `augment` that moves each image [C, H, W] by up to `pixels` in both directions, edges repeated."""
    _validate.integer("pixels", pixels, low=0)

    def shift(images: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        height, width = images.shape[-2:]
        padded = np.pad(images, [(0, 0)] * (images.ndim - 2) + [(pixels, pixels)] * 2, mode="edge")
        tops, lefts = generator.integers(0, 2 * pixels + 1, (2, len(images)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(-2, -1))
        return np.stack([windows[i, ..., top, left, :, :] for i, (top, left) in enumerate(zip(tops, lefts))])

    return shift


def random_flip(images: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """An `augment` that mirrors each image [C, H, W] left to right with probability one half."""
    flipped = generator.random(len(images)) < 0.5
    return np.where(flipped.reshape(-1, *[1] * (images.ndim - 1)), images[..., ::-1], images)
