"""What suppression protects against: four LeNet-5 networks trained on the same digits, and attacked alike.

Membership inference by the loss (every training image against every test image), and white-box inversion of the
features behind conv1, conv2 and fc1: with the documented weights of the loss, and with weights that trust the
features, which is the stronger attack there. A second table has two networks that memorise: trained on few digits for
many epochs, so that membership inference has something to find.
"""
import mindspore.dataset as ds
import numpy as np
from easydict import EasyDict
from mindspore import Tensor, nn

from examples.common.dataset.data_processing import mnist_arrays, mnist_folder
from examples.privacy.sup_privacy.training import (
    controller,
    datasets,
    loss_fn,
    new_net,
    train_ordinary,
    train_suppressed,
)
from mindarmour.privacy.diff_privacy import DPModel, NoiseMechanismsFactory, PoissonSampler, PrivacyMonitorFactory
from mindarmour.privacy.evaluation import ImageInversionAttack, LossAttack, collect_signals
from mindarmour.privacy.sup_privacy import SuppressMasker

# epsilon 4 on 4,000 examples
dp_cfg = EasyDict({"epochs": 15, "batch_size": 128, "lr": 0.25, "momentum": 0.9, "norm_bound": 0.3,
                   "noise_multiplier": 1.12, "delta": 1e-5})
IMAGES = 30
ATTACKS = {"documented": {"weights": (1, 0.1, 5), "iters": 100}, "strong": {"weights": (1, 1e-3, 1e-3), "iters": 300}}
MEMORISED, MEMORISING_EPOCHS = 500, 80
COLUMNS = ("network", "accuracy", "zeros in fc1", "epsilon", "membership AUC", "TPR at 1 % FPR",
           "SSIM, documented", "confidence, documented", "SSIM, strong", "confidence, strong")


class Features(nn.Cell):
    """The client's part of a split LeNet-5: the output of fc1."""

    def __init__(self, net):
        super().__init__(auto_prefix=False)
        self.net = net

    def construct(self, images):
        net = self.net
        images = net.max_pool2d(net.activation(net.conv1(images)))
        images = net.max_pool2d(net.activation(net.conv2(images)))
        return net.fc1(net.flatten(images))


def train_private(images, labels, cfg, *, suppress):
    """LeNet-5 trained with differential privacy, suppressed or not; returns (network, epsilon)."""
    net = new_net(cfg)
    mechanism = NoiseMechanismsFactory.create("Gaussian", norm_bound=dp_cfg.norm_bound,
                                              initial_noise_multiplier=dp_cfg.noise_multiplier)
    model = DPModel(micro_batches=None, norm_bound=dp_cfg.norm_bound, noise_mech=mechanism, network=net,
                    loss_fn=loss_fn(), optimizer=nn.Momentum(net.trainable_params(), dp_cfg.lr, dp_cfg.momentum))
    data = PoissonSampler(dp_cfg.batch_size).dataset((images, labels))
    epochs = 1 if cfg.smoke else dp_cfg.epochs
    monitor = PrivacyMonitorFactory.create("rdp", num_samples=len(images), batch_size=dp_cfg.batch_size,
                                           target_delta=dp_cfg.delta, per_print_times=10**6)
    callbacks = [monitor]
    if suppress:
        plan = EasyDict(cfg, end_epoch=epochs, start_epoch=min(cfg.start_epoch, epochs))
        callbacks.insert(0, SuppressMasker(model, controller(net, plan, data.get_dataset_size(), lr=dp_cfg.lr)))
    model.train(epochs, data, callbacks=callbacks)
    return net, monitor.spent().epsilon


def interval(values):
    """Mean with its 95 % interval."""
    half = 1.96 * np.std(values, ddof=1) / np.sqrt(len(values))
    return f"{np.mean(values):.3f} ± {half:.3f}"


def inversion(net, judge, images, labels, weights, iters):
    """Reconstruct images from their features: (SSIM, confidence of an independent network), with intervals."""
    features = Features(net).set_train(False)
    bound = (float(images.min()), float(images.max()))
    attack = ImageInversionAttack(features, images.shape[1:], bound, weights)
    found = attack.generate(features(Tensor(images)).asnumpy(), iters, seed=1)
    report = attack.evaluate(images, found, labels, judge).report
    return interval(report["ssim"].values), interval(report["confidence"].values)


def membership(net, train, test):
    """Attack by the loss: (AUC, true positives at 1 % false positives), with intervals."""
    result = LossAttack()(collect_signals(net, train, test, progress=False))
    return tuple(_with_interval(result.metric(name), result.ci(name)) for name in ("auc", "tpr@1%fpr"))


def _with_interval(value, bounds):
    """A figure and its interval; n/a where so few records say nothing about it."""
    shown = "n/a" if value is None else f"{value:.3f}"
    return shown if bounds is None else f"{shown} [{bounds[0]:.3f}, {bounds[1]:.3f}]"


def attack_row(name, net, epsilon, judge, train, test, smoke):
    """One line of the table."""
    accuracy = np.mean(net(Tensor(test[0])).asnumpy().argmax(axis=1) == test[1])
    zeros = np.mean(net.fc1.weight.asnumpy() == 0)
    row = [name, f"{accuracy:.3f}", f"{zeros:.3f}", epsilon, *membership(net, train, test)]
    for attack in ATTACKS.values():
        iters = 2 if smoke else attack["iters"]
        row += inversion(net, judge, train[0][:IMAGES], train[1][:IMAGES], attack["weights"], iters)
    return row


def memorising_rows(train, test, cfg):
    """Lines of the second table: ordinary and suppressed, trained on few digits for many epochs."""
    few = {"image": train[0][:MEMORISED], "label": train[1][:MEMORISED]}
    cfg = EasyDict(cfg, end_epoch=cfg.end_epoch if cfg.smoke else MEMORISING_EPOCHS)
    rows = []
    for name, train_one in (("ordinary", train_ordinary), ("suppressed", train_suppressed)):
        data = ds.NumpySlicesDataset(few, shuffle=True).batch(cfg.batch_size, drop_remainder=True)
        net = train_one(data, cfg)[0]
        accuracies = [np.mean(net(Tensor(images)).asnumpy().argmax(axis=1) == labels)
                      for images, labels in (tuple(few.values()), test)]
        rows.append([name, *(f"{value:.3f}" for value in accuracies), *membership(net, tuple(few.values()), test)])
    return rows


def markdown(columns, rows):
    """A table in Markdown."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def compare(data_path, cfg, suppressed):
    """Train the other networks, attack all of them; returns two tables."""
    folder = mnist_folder(data_path)
    train, test = mnist_arrays(folder / "train"), mnist_arrays(folder / "test")
    order = np.random.default_rng(0).permutation(len(train[1]))  # the digits are stored class by class
    train = train[0][order], train[1][order]
    ordinary, _ = train_ordinary(datasets(data_path, cfg)[0], cfg)
    judge, _ = train_ordinary(datasets(data_path, cfg)[0], EasyDict(cfg, seed=cfg.seed + 1))
    networks = [("ordinary", ordinary, "none"), ("suppressed", suppressed, "none")]
    for suppress in (False, True):
        net, epsilon = train_private(*train, cfg, suppress=suppress)
        networks.append(("DP and suppressed" if suppress else "DP", net, f"{epsilon:.2f}"))
    rows = [attack_row(*network, judge, train, test, cfg.smoke) for network in networks]
    few_columns = ("network", "accuracy on its training set", *COLUMNS[1:2], *COLUMNS[4:6])
    return markdown(COLUMNS, rows) + "\n\n" + markdown(few_columns, memorising_rows(train, test, cfg))
