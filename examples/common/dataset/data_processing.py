"""Reading and preparing data sets, shared by all examples."""
from pathlib import Path

import mindspore as ms
import mindspore.dataset as ds
import numpy as np
from mindspore.dataset import transforms, vision
from mindspore.dataset.vision import Inter

from examples.common.dataset.digits import digits_folder

MNIST_MEAN, MNIST_STDDEV = 0.1307, 0.3081


def mnist_folder(data_path=None):
    """Folder that holds `train` and `test` in IDX format: `data_path`, or the embedded 5,000 digits."""
    folder = Path(data_path) if data_path else digits_folder()
    for part in ("train", "test"):
        if not (folder / part).is_dir():
            raise FileNotFoundError(f"--data_path must be a folder with the sub-folders train and test in MNIST's "
                                    f"IDX format, but '{folder}' has no '{part}'.")
    return folder


def mnist_images(data_path, *, sparse=True, image_size=32):
    """One image a row, as the network takes it: image float32 [1, S, S], label int32 [] or one-hot [10]."""
    dataset = ds.MnistDataset(str(data_path), shuffle=False)
    dataset = dataset.map(transforms.TypeCast(ms.int32), "label")
    if not sparse:
        dataset = dataset.map([transforms.OneHot(10), transforms.TypeCast(ms.float32)], "label")
    scale = [vision.Resize((image_size, image_size), interpolation=Inter.LINEAR),
             vision.Rescale(1 / 255, 0.0),
             vision.Rescale(1 / MNIST_STDDEV, -MNIST_MEAN / MNIST_STDDEV),
             vision.HWC2CHW()]
    return dataset.map(scale, "image")


def generate_mnist_dataset(data_path, batch_size=32, repeat_size=1, sparse=True, *, shuffle=True):
    """Shuffled batches of MNIST: (image float32 [B, 1, 32, 32], label), the last partial batch dropped."""
    dataset = mnist_images(data_path, sparse=sparse)
    if shuffle:
        dataset = dataset.shuffle(10000)
    return dataset.batch(batch_size, drop_remainder=True).repeat(repeat_size)


def mnist_arrays(data_path, *, image_size=32):
    """The whole data set in memory: images float32 [N, 1, S, S], labels int32 [N]."""
    batches = mnist_images(data_path, image_size=image_size).batch(1000)
    columns = list(zip(*batches.create_tuple_iterator(num_epochs=1, output_numpy=True)))
    return np.concatenate(columns[0]), np.concatenate(columns[1])
