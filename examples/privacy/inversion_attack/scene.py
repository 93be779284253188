"""What the inversion examples share: images, a network trained on half of them, and the attacker's networks."""
from dataclasses import dataclass
from pathlib import Path

import mindspore as ms
import mindspore.dataset as ds
import numpy as np
from mindspore import nn
from tqdm import tqdm

from examples.common import tables
from examples.common.arguments import example_arguments, use_device
from examples.common.dataset.data_processing import mnist_arrays, mnist_folder
from examples.common.networks.cifar10cnn.cifar10cnn_net import CIFAR10CNN, CIFAR10CNNFront, cifar10cnn_decoder
from examples.common.networks.lenet5.lenet5_split import (
    Conv1Decoder,
    LeNet5Front,
    Relu2Decoder,
    ShadowFront,
    SplitLeNet5,
)

SMOKE_IMAGES = 256
MEASURES = {"psnr": ".1f", "ssim": ".2f", "correlation": ".2f", "recognised": ".0%"}
NAMES = ("PSNR dB", "SSIM", "correlation", "recognised")


@dataclass(frozen=True)
class Scene:
    """Images as the network takes them, and the networks.

    Args:
        train (tuple): Images float32 and labels int32 the victim was trained on.
        auxiliary (tuple): As many of the same kind that only the attacker has.
        test (tuple): Images nobody trained on.
        bound (tuple): (low, high) of the images' values.
        layers (tuple): Where the network is split.
        new_network (Callable): () to an untrained victim.
        front (Callable): (network, layer) to the layers up to it.
        decoder (Callable): layer to an untrained decoder.
        shadow (Callable): layer to an untrained stand-in.
    """

    train: tuple
    auxiliary: tuple
    test: tuple
    bound: tuple
    layers: tuple
    new_network: object
    front: object
    decoder: object
    shadow: object


def arguments(description, epochs, given=None, more=()):
    """The command line of the inversion examples; `more` holds pairs (flag, options)."""
    def extend(parser):
        parser.add_argument("--checkpoint", help="weights of the victim; without it a victim is trained")
        parser.add_argument("--output", default="inversion_output", help="folder for pictures and checkpoints")
        parser.add_argument("--seeds", type=int, default=1, help="runs, each with its own networks, halves, images")
        for flag, options in more:
            parser.add_argument(flag, **options)

    args = example_arguments(description, epochs, given, extend)
    ms.set_context(mode=ms.GRAPH_MODE)
    use_device(args.device_target)
    return args


def over_seeds(run, args, name):
    """Figures of one run per seed: key of a line -> {name: figures}. `run` takes a seed, from 0, and yields them."""
    def seeded(seed):
        ms.set_seed(seed + 1)
        return run(seed)

    settings = {flag: value for flag, value in vars(args).items() if flag not in ("seeds", "output")}
    return tables.over_seeds(seeded, args.seeds, Path(args.output) / name, settings)


def _halves(images, labels, seed=0):
    order = np.random.default_rng(seed).permutation(len(images))
    middle = len(order) // 2
    return tuple((images[part], labels[part]) for part in (order[:middle], order[middle:2 * middle]))


def digits(data_path=None, smoke=False, seed=0):
    """MNIST, or the embedded digits, with LeNet-5 split at conv1 and ReLU2; the seed draws the halves."""
    folder = mnist_folder(data_path)
    images, labels = mnist_arrays(folder / "train")
    test = mnist_arrays(folder / "test")
    bound = (float(images.min()), float(images.max()))
    train, auxiliary = _halves(images, labels, seed)
    if smoke:
        train, auxiliary = ((images[:SMOKE_IMAGES], labels[:SMOKE_IMAGES]) for images, labels in (train, auxiliary))
    decoders = {"conv1": Conv1Decoder, "relu2": Relu2Decoder}
    return Scene(train, auxiliary, test, bound, ("conv1", "relu2"), SplitLeNet5, LeNet5Front,
                 lambda layer: decoders[layer](), ShadowFront)


def cifar(data_path, smoke=False, seed=0):
    """CIFAR-10 in binary form, with the network of He et al. split at conv11, ReLU22 and ReLU32."""
    parts = []
    for usage in ("train", "test"):
        batches = ds.Cifar10Dataset(str(data_path), usage=usage, shuffle=False).batch(1000)
        columns = list(zip(*batches.create_tuple_iterator(num_epochs=1, output_numpy=True)))
        images = np.concatenate(columns[0]).transpose(0, 3, 1, 2).astype(np.float32) / 255
        parts.append((images, np.concatenate(columns[1]).astype(np.int32)))
    train, auxiliary = _halves(*parts[0], seed)
    if smoke:
        train, auxiliary = ((images[:SMOKE_IMAGES], labels[:SMOKE_IMAGES]) for images, labels in (train, auxiliary))
    return Scene(train, auxiliary, parts[1], (0.0, 1.0), ("conv11", "relu22", "relu32"), CIFAR10CNN,
                 CIFAR10CNNFront, cifar10cnn_decoder, lambda layer: CIFAR10CNNFront(CIFAR10CNN(), layer))


def cifar_or_digits(args, seed=0):
    """CIFAR-10 from --data_path, else the digits."""
    return cifar(args.data_path, args.smoke, seed) if args.data_path else digits(smoke=args.smoke, seed=seed)


def batches(images, labels, size=64):
    """The attacker's images as a shuffled data set."""
    data = ds.NumpySlicesDataset({"image": images, "label": labels.astype(np.int32)}, shuffle=True)
    return data.batch(size, drop_remainder=True)


def train(network, images, labels, epochs, batch_size=64):
    """Train a classifier as usual with Adam."""
    loss = nn.CrossEntropyLoss()
    step = nn.TrainOneStepCell(nn.WithLossCell(network, loss), nn.Adam(network.trainable_params(), 1e-3))
    step.set_train()
    data = batches(images, labels, batch_size)
    for _ in tqdm(range(epochs), desc="Victim", unit="epoch", leave=False):
        for image, label in data.create_tuple_iterator(num_epochs=1):
            step(image, label)
    return network.set_train(False)


def victim(scene, args):
    """The network under attack, from --checkpoint or trained now."""
    network = scene.new_network()
    if args.checkpoint:
        ms.load_param_into_net(network, ms.load_checkpoint(args.checkpoint))
        return network.set_train(False)
    return train(network, *scene.train, args.epochs)


def accuracy(network, images, labels):
    """Share of right answers."""
    guesses = [network(ms.Tensor(images[i:i + 500])).asnumpy().argmax(1) for i in range(0, len(images), 500)]
    return float(np.mean(np.concatenate(guesses) == labels))


def one_of_each_class(images, labels, count=10, rank=0):
    """The first image of each of the first classes, or the one of that rank."""
    index = [int(np.flatnonzero(labels == label)[rank]) for label in np.unique(labels)[:count]]
    return images[index], labels[index]


def figures(report):
    """Means of a report, and those of random pairs of images."""
    names = [name for name in ("psnr", "ssim", "correlation", "confidence") if name in report]
    pairs = {f"{name}, random pair": report[name].baseline_mean for name in names}
    return {**{name: report[name].mean for name in names}, **pairs, "recognised": float(report.recognised.mean())}


def measures(line):
    """MEASURES of a line of several seeds as text."""
    return [tables.spread(line[name], form) for name, form in MEASURES.items()]


def random_pair(table):
    """The same measures of random pairs, as text."""
    first = next(iter(table.values()))
    return [tables.spread(first[f"{name}, random pair"], form) for name, form in list(MEASURES.items())[:3]] + [""]


def save_pictures(report, args, name, title):
    """Write the picture grid and say where."""
    path = report.save_figure(Path(args.output) / f"{name}.png", title=title)
    print(f"picture: {path}", flush=True)
