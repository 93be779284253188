"""Augmentation multiplicity: several views of one example in one unit, clipped together.

The gradients of an example's views are averaged before clipping, so an example still contributes at most C: the
guarantee is that of units of one example, while the gradient is less noisy.

References:
    De, Berrada, Hayes, Smith, Balle 2022, "Unlocking high-accuracy differentially private image classification
    through scale", section 3.2.
"""
from dataclasses import replace

import mindspore.dataset as ds
import numpy as np

from mindarmour.privacy.diff_privacy.sampling.claims import claim_of
from mindarmour.utils import _validate


def augmented_views(dataset, views, augment):
    """A sampler's dataset with `views` rows for each example, next to each other.

    `DPModel` reads the number of views from the dataset and makes one unit of each example's rows; leave its
    `micro_batches` None.

    Args:
        dataset (Dataset): From a sampler of this package, unchanged.
        views (int): Views of an example, >= 1.
        augment (Callable): Called with the first column's rows, an array [rows, ...], and a NumPy generator; returns
            the augmented rows in the same shape. Each row must depend on itself only.

    Returns:
        Dataset, whose physical batch holds `views` times the rows.

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
    batches = getattr(dataset, "source", None)
    if not hasattr(batches, "sampling"):
        raise ValueError("dataset must come straight from a sampler such as PoissonSampler: the views of an example "
                         "belong to one unit.")
    source = _ViewBatches(batches, views, augment, replace(claim_of(dataset), views=views))
    return ds.GeneratorDataset(source, dataset.get_col_names(), shuffle=False)


class _ViewBatches:
    """Batches whose rows are repeated, the first column's copies augmented."""

    def __init__(self, batches, views, augment, sampling):
        self.sampling = sampling
        self.columns = batches.columns
        self._batches = batches
        self._views = views
        self._augment = augment

    def __len__(self):
        return len(self._batches)

    def __iter__(self):
        generator = np.random.default_rng()  # augmentation is no part of the guarantee
        for batch in self._batches:
            first, *others = (np.repeat(column, self._views, axis=0) for column in batch)
            yield (np.ascontiguousarray(self._augment(first, generator), first.dtype), *others)


def random_shift(pixels):
    """An `augment` that moves each image [C, H, W] by up to `pixels` in both directions, edges repeated."""
    _validate.integer("pixels", pixels, low=0)

    def shift(images, generator):
        height, width = images.shape[-2:]
        padded = np.pad(images, [(0, 0)] * (images.ndim - 2) + [(pixels, pixels)] * 2, mode="edge")
        tops, lefts = generator.integers(0, 2 * pixels + 1, (2, len(images)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(-2, -1))
        return np.stack([windows[i, ..., top, left, :, :] for i, (top, left) in enumerate(zip(tops, lefts))])

    return shift


def random_flip(images, generator):
    """An `augment` that mirrors each image [C, H, W] left to right with probability one half."""
    flipped = generator.random(len(images)) < 0.5
    return np.where(flipped.reshape(-1, *[1] * (images.ndim - 1)), images[..., ::-1], images)
