"""Data and networks of the VGG examples: CIFAR-100 with VGG16, or the embedded digits with a small VGG."""
import mindspore.dataset as ds
import numpy as np

from examples.common.dataset.cifar import cifar_images
from examples.common.dataset.data_processing import mnist_arrays, mnist_folder
from examples.common.networks.vgg.vgg import vgg16, vgg_small
from examples.privacy.membership_inference_attack.vgg_config import cifar100_cfg, digits_cfg


def settings(args):
    """Settings of the data set that `--data_path` chooses, changed by the flags."""
    cfg = type(cifar100_cfg)({**(cifar100_cfg if args.data_path else digits_cfg), "data_path": args.data_path})
    if args.epochs:
        cfg.epochs = args.epochs
    if args.image_size:
        cfg.image_size = args.image_size
    if args.batch_size:
        cfg.batch_size = args.batch_size
    if args.smoke:
        cfg.update(epochs=1, attack_records=200, training_records=2 * cfg.batch_size)
        if cfg.dp:
            cfg.dp = type(cfg)({**cfg.dp, "epochs": 1})
    return cfg


def network_of(cfg, **options):
    """The network to audit."""
    build = vgg16 if cfg.data_path else vgg_small
    return build(num_classes=cfg.num_classes, image_size=cfg.image_size, **options)


def training_set(cfg):
    """Shuffled batches of the members, augmented where the data set is."""
    if cfg.data_path:
        rows = cifar_images(cfg.data_path, "train", image_size=cfg.image_size, augment=True)
    else:
        rows = noisy_digits(cfg, members=True)
    if cfg.training_records:
        rows = rows.take(cfg.training_records)
    return rows.shuffle(10000).batch(cfg.batch_size, drop_remainder=True)


def audited_rows(cfg, members):
    """Members or non-members, one image a row, as they are."""
    if cfg.data_path:
        rows = cifar_images(cfg.data_path, "train" if members else "test", image_size=cfg.image_size)
    else:
        rows = noisy_digits(cfg, members=members)
    return rows.take(cfg.attack_records)


def noisy_digits(cfg, members):
    """`digits_half` as a data set, one image a row."""
    return ds.NumpySlicesDataset(digits_half(cfg, members), ["image", "label"], shuffle=False)


def digits_half(cfg, members):
    """Images and labels of one half of the 5,000 embedded digits; a share of the labels is random, always the same."""
    folder = mnist_folder()
    parts = [mnist_arrays(folder / part, image_size=cfg.image_size) for part in ("train", "test")]
    images, labels = (np.concatenate(columns) for columns in zip(*parts))
    rng = np.random.default_rng(cfg.seed)
    order = rng.permutation(len(labels))
    wrong = rng.random(len(labels)) < cfg.label_noise
    labels = np.where(wrong, rng.integers(0, cfg.num_classes, len(labels)), labels).astype(np.int32)
    half = len(order) // 2
    chosen = order[:half] if members else order[half:]
    chosen = chosen[:cfg.training_records]
    return images[chosen], labels[chosen]
