"""Reading CIFAR-10 and CIFAR-100 in their binary format through mindspore.dataset."""
from pathlib import Path

import mindspore as ms
import mindspore.dataset as ds
from mindspore.dataset import transforms, vision

MEAN = (0.4914, 0.4822, 0.4465)
STDDEV = (0.2470, 0.2435, 0.2616)


def cifar_folder(data_path, usage):
    """Folder with the binaries of `usage` ('train' or 'test'): `data_path/usage`, or `data_path` itself."""
    for folder in (Path(data_path) / usage, Path(data_path)):
        if any(folder.glob("*.bin")):
            return folder
    raise FileNotFoundError(f"--data_path must be a folder with CIFAR's binary files (*.bin), in itself or in its "
                            f"sub-folder {usage}, but '{data_path}' has none.")


def cifar_images(data_path, usage, *, classes=100, image_size=32, augment=False):
    """One image a row: image float32 [3, S, S], label int32 [].

    Args:
        data_path (str): Folder of the binaries, see `cifar_folder`.
        usage (str): 'train' or 'test'.
        classes (int): 10 for CIFAR-10; 100 for CIFAR-100, whose fine labels are used.
        image_size (int): Height and width after resizing.
        augment (bool): Random crops and flips, for training.
    """
    reader = {10: ds.Cifar10Dataset, 100: ds.Cifar100Dataset}[classes]
    dataset = reader(str(cifar_folder(data_path, usage)), usage=usage, shuffle=False)
    if classes == 100:
        dataset = dataset.project(["image", "fine_label"]).rename("fine_label", "label")
    steps = [vision.RandomCrop(32, padding=4), vision.RandomHorizontalFlip()] if augment else []
    steps += [vision.Resize((image_size, image_size))] if image_size != 32 else []
    steps += [vision.Rescale(1 / 255, 0.0), vision.Normalize(MEAN, STDDEV), vision.HWC2CHW()]
    dataset = dataset.map(steps, "image")
    return dataset.map(transforms.TypeCast(ms.int32), "label")


def generate_dataset_cifar(data_path, batch_size, usage, repeat_num=1):
    """Shuffled batches of CIFAR-10: (image float32 [B, 3, 32, 32], label int32 [B]), the partial batch dropped."""
    dataset = cifar_images(data_path, usage, classes=10).shuffle(10000)
    return dataset.batch(batch_size, drop_remainder=True).repeat(repeat_num)


def vgg_create_dataset100(data_home, image_size, batch_size, *, repeat_num=1, training=True, shuffle=True,
                          augment=None):
    """Batches of CIFAR-100, augmented in training unless `augment` says otherwise; the partial batch is dropped."""
    dataset = cifar_images(data_home, "train" if training else "test", image_size=image_size,
                           augment=training if augment is None else augment)
    if shuffle:
        dataset = dataset.shuffle(10000)
    return dataset.batch(batch_size, drop_remainder=True).repeat(repeat_num)
