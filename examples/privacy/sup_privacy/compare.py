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
from examples.common.tables import markdown, over_seeds, spread
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
# name of a figure, its format
COLUMNS = {"accuracy": ".3f", "zeros in fc1": ".2f", "epsilon": ".2f", "membership AUC": ".3f",
           "TPR at 1 % FPR": ".3f", "SSIM, documented": ".3f", "confidence, documented": ".3f", "SSIM, strong": ".3f",
           "confidence, strong": ".3f"}
MEMORISED_COLUMNS = {"accuracy on its training set": ".3f", "accuracy": ".3f", "membership AUC": ".3f",
                     "TPR at 1 % FPR": ".3f"}


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


def inversion(net, judge, images, labels, weights, iters, seed):
    """Reconstruct images from their features: mean (SSIM, confidence of an independent network)."""
    features = Features(net).set_train(False)
    bound = (float(images.min()), float(images.max()))
    attack = ImageInversionAttack(features, images.shape[1:], bound, weights)
    found = attack.generate(features(Tensor(images)).asnumpy(), iters, seed=seed)
    report = attack.evaluate(images, found, labels, judge).report
    return report["ssim"].mean, report["confidence"].mean


def membership(net, train, test):
    """Attack by the loss: AUC, and true positives at 1 % false positives, None where too few records tell."""
    result = LossAttack()(collect_signals(net, train, test, progress=False))
    return {"membership AUC": result.auc, "TPR at 1 % FPR": result.tpr_at_fpr(0.01)}


def accuracy(net, images, labels):
    """Share of right answers."""
    return float(np.mean(net(Tensor(images)).asnumpy().argmax(axis=1) == labels))


def attacked(net, epsilon, judge, train, test, cfg):
    """Figures of one line of the first table."""
    figures = {"accuracy": accuracy(net, *test), "zeros in fc1": float(np.mean(net.fc1.weight.asnumpy() == 0)),
               "epsilon": epsilon, **membership(net, train, test)}
    for name, attack in ATTACKS.items():
        found = inversion(net, judge, train[0][:IMAGES], train[1][:IMAGES], attack["weights"],
                          2 if cfg.smoke else attack["iters"], cfg.seed)
        figures.update(zip((f"SSIM, {name}", f"confidence, {name}"), found))
    return figures


def networks_of(train, data_path, cfg):
    """(name, network, epsilon or None) of the four networks."""
    yield "ordinary", train_ordinary(datasets(data_path, cfg)[0], cfg)[0], None
    yield "suppressed", train_suppressed(datasets(data_path, cfg)[0], cfg)[0], None
    for suppress in (False, True):
        net, epsilon = train_private(*train, cfg, suppress=suppress)
        yield "DP and suppressed" if suppress else "DP", net, epsilon


def run(data_path, cfg):
    """All networks of one seed; yields ((table, network), figures)."""
    folder = mnist_folder(data_path)
    train, test = mnist_arrays(folder / "train"), mnist_arrays(folder / "test")
    order = np.random.default_rng(cfg.seed).permutation(len(train[1]))  # the digits are stored class by class
    train = train[0][order], train[1][order]
    judge, _ = train_ordinary(datasets(data_path, cfg)[0], EasyDict(cfg, seed=cfg.seed + 1000))
    for name, net, epsilon in networks_of(train, data_path, cfg):
        yield ("all", name), attacked(net, epsilon, judge, train, test, cfg)
    few = {"image": train[0][:MEMORISED], "label": train[1][:MEMORISED]}
    longer = EasyDict(cfg, end_epoch=cfg.end_epoch if cfg.smoke else MEMORISING_EPOCHS)
    for name, train_one in (("ordinary", train_ordinary), ("suppressed", train_suppressed)):
        data = ds.NumpySlicesDataset(few, shuffle=True).batch(cfg.batch_size, drop_remainder=True)
        net = train_one(data, longer)[0]
        yield ("few", name), {"accuracy on its training set": accuracy(net, *few.values()),
                              "accuracy": accuracy(net, *test), **membership(net, tuple(few.values()), test)}


def compare(data_path, cfg, seeds, folder):
    """Train the networks of each seed and attack all of them; returns two tables in Markdown."""
    table = over_seeds(lambda number: run(data_path, EasyDict(cfg, seed=cfg.seed + number)), seeds, folder,
                       {"data_path": data_path, **cfg})
    texts = []
    for kind, columns in (("all", COLUMNS), ("few", MEMORISED_COLUMNS)):
        rows = [[name, *("none" if line[column] == [None] * seeds else spread(line[column], form)
                         for column, form in columns.items())]
                for (of_kind, name), line in table.items() if of_kind == kind]
        texts.append(markdown(["network", *columns], rows))
    return "\n\n".join(texts)
