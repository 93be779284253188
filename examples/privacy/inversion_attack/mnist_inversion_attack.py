"""White-box inversion of LeNet-5: trained as usual, and with a defence (differential privacy or suppression).

python examples/privacy/inversion_attack/mnist_inversion_attack.py [--defence dp|suppress] [--seeds N]

Reconstructs held-out digits from the features behind conv1, ReLU2 and fc1, judged by pixels and by an independent
classifier, then images of whole classes from the classifier alone.
"""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

import mindspore as ms
import numpy as np
from easydict import EasyDict
from mindspore import nn

from examples.common.tables import markdown, spread
from examples.privacy.inversion_attack import scene as sc
from mindarmour.privacy.diff_privacy import DPModel, NoiseMechanismsFactory, PoissonSampler, PrivacyMonitorFactory
from mindarmour.privacy.evaluation import ClassInversion, ImageInversionAttack

# layer, weights of the loss, iterations; (1, 0.2, 5) are the documented weights
SEARCHES = (("conv1", (1, 1e-6, 1e-6), 100), ("conv1", (1, 1e-6, 1e-6), 300), ("conv1", (1, 0.2, 5), 300),
            ("relu2", (1, 1e-2, 1e-6), 300), ("relu2", (1, 1e-2, 1e-6), 1000), ("fc1", (1, 1e-2, 1e-3), 300))
cfg = EasyDict({"epochs": 10, "class_iterations": 200, "class_restarts": 4,
                "dp": {"batch_size": 128, "lr": 0.25, "momentum": 0.9, "norm_bound": 0.3, "noise_multiplier": 1.0,
                       "delta": 1e-5},
                "suppress": {"num_classes": 10, "lr": 0.1, "batch_size": 32, "end_epoch": 10, "start_epoch": 3,
                             "sparse_start": 0.0, "sparse_end": 0.95, "seed": 1}})

COLUMNS = ("network", "layer", "weights", "iterations", *sc.NAMES, "confidence")


def loss_fn():
    """Mean cross-entropy of integer labels."""
    return nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean")


def train_private(scene, epochs):
    """LeNet-5 trained with differential privacy: (network, epsilon)."""
    network, settings = scene.new_network(), cfg.dp
    noise = NoiseMechanismsFactory.create("Gaussian", norm_bound=settings.norm_bound,
                                          initial_noise_multiplier=settings.noise_multiplier)
    model = DPModel(micro_batches=None, norm_bound=settings.norm_bound, noise_mech=noise, network=network,
                    loss_fn=loss_fn(),
                    optimizer=nn.Momentum(network.trainable_params(), settings.lr, settings.momentum))
    monitor = PrivacyMonitorFactory.create("rdp", num_samples=len(scene.train[0]), batch_size=settings.batch_size,
                                           target_delta=settings.delta, per_print_times=10**6)
    model.train(epochs, PoissonSampler(settings.batch_size).dataset(scene.train), callbacks=[monitor])
    return network.set_train(False), f"DP, epsilon {monitor.spent().epsilon:.1f}"


def train_suppressed(scene, smoke):
    """LeNet-5 trained with suppression, with the settings of its own example."""
    from examples.privacy.sup_privacy.training import controller
    from mindarmour.privacy.sup_privacy import SuppressMasker, SuppressModel
    settings = EasyDict(cfg.suppress, **({"end_epoch": 3} if smoke else {}))
    network = scene.new_network()
    data = sc.batches(*scene.train, settings.batch_size)
    model = SuppressModel(network, loss_fn(), nn.SGD(network.trainable_params(), settings.lr))
    control = controller(network, settings, data.get_dataset_size(), lr=settings.lr)
    model.link_suppress_ctrl(control)
    model.train(settings.end_epoch, data, callbacks=[SuppressMasker(model, control)], dataset_sink_mode=False)
    return network.set_train(False), "suppressed"


def defended(scene, args):
    """(network, what was done), from --defended_checkpoint or trained now."""
    if args.defended_checkpoint:
        network = scene.new_network()
        ms.load_param_into_net(network, ms.load_checkpoint(args.defended_checkpoint))
        return network.set_train(False), "defended"
    if args.defence == "suppress":
        return train_suppressed(scene, args.smoke)
    return train_private(scene, args.epochs)


def invert_features(scene, network, judge, search, smoke, seed):
    """Reconstruct one image of each class from the features behind one layer; returns the report."""
    layer, weights, iterations = search
    images, labels = sc.one_of_each_class(*scene.test, rank=seed)
    front = scene.front(network, layer)
    attack = ImageInversionAttack(front, images.shape[1:], scene.bound, weights)
    found = attack.generate(front(ms.Tensor(images)).asnumpy(), 5 if smoke else iterations, seed=seed)
    return attack.evaluate(images, found, labels, judge).report


def invert_classes(scene, network, judge, args, seed):
    """Images of each class from the classifier alone."""
    attack = ClassInversion(network, scene.train[0].shape[1:], scene.bound)
    labels = np.arange(10)
    images = attack.reconstruct(labels, iters=5 if args.smoke else cfg.class_iterations,
                                restarts=cfg.class_restarts, seed=seed)
    others = min(len(scene.train[0]), len(scene.test[0]))
    return attack.evaluate(images, labels, judge, scene.train[0][:others], scene.test[0][:others])


def networks_of(scene, args):
    """(name, network): the ordinary and the defended one."""
    yield "ordinary", sc.victim(scene, args)
    network, name = defended(scene, args)
    yield name, network


def run(seed, args):
    """Both networks of one seed, printed; yields ((network, layer, weights, iterations), figures)."""
    scene = sc.digits(args.data_path, args.smoke, seed)
    judge = sc.train(scene.new_network(), *scene.auxiliary, args.epochs)
    for name, network in networks_of(scene, args):
        print(f"seed {seed}, {name}: accuracy {sc.accuracy(network, *scene.test):.3f}", flush=True)
        for search in SEARCHES[::5] if args.smoke else SEARCHES:
            report = invert_features(scene, network, judge, search, args.smoke, seed)
            layer, weights, iterations = search
            sc.save_pictures(report, args, f"mnist_{name.split(',')[0]}_{layer}", f"LeNet-5 ({name}), behind {layer}")
            yield (name, layer, str(weights), iterations), sc.figures(report)
        print(f"seed {seed}, class inversion, {name}: {invert_classes(scene, network, judge, args, seed).summary()}")


def main(given=None):
    """Run the comparison; returns the rows of the table."""
    more = [("--defence", {"default": "dp", "choices": ["dp", "suppress"]}),
            ("--defended_checkpoint", {"help": "weights of a LeNet-5 trained with a defence"})]
    args = sc.arguments(__doc__, cfg.epochs, given, more)
    table = sc.over_seeds(lambda seed: run(seed, args), args, "white_box")
    rows = [[*key, *sc.measures(line), spread(line["confidence"], ".2f")] for key, line in table.items()]
    rows.append(["random pair", "", "", "", *sc.random_pair(table), ""])
    print(markdown(COLUMNS, rows))
    return rows


if __name__ == "__main__":
    main()
