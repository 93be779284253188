"""Gradient inversion: the digit behind a gradient that a client of federated learning sends.

python examples/privacy/inversion_attack/gradient_inversion.py [--images 10] [--method idlg|dlg|cosine] [--seeds N]

The same attack on the plain gradient, and on the gradient that DPModel would release for one example: clipped, and
noised with multiplier 1. 'idlg' and 'dlg' attack the untrained sigmoid network of their papers; 'cosine' attacks a
trained LeNet-5 with ReLU and max-pooling.
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
from mindarmour.privacy.diff_privacy import NoiseMechanismsFactory, clipped_gradient_fn
from mindarmour.privacy.evaluation import GradientInversion, reconstruction_report
from mindarmour.privacy.evaluation.inversion.gradient_inversion import infer_labels

cfg = EasyDict({"epochs": 10, "norm_bound": 1.0, "noise_multiplier": 1.0, "noised_iterations": 100, "restarts": 2,
                "iterations": {"idlg": 300, "dlg": 300, "cosine": 600}})


HEAD = 6  # place of the last layer's weight among the gradients: behind noise nothing tells it apart


class SigmoidLeNet(nn.Cell):
    """The network of Zhu et al. 2019: three convolutions with sigmoid, weights uniform in [-0.5, 0.5]."""

    def __init__(self, seed=0):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 12, 5, stride=2, pad_mode="pad", padding=2, has_bias=True)
        self.conv2 = nn.Conv2d(12, 12, 5, stride=2, pad_mode="pad", padding=2, has_bias=True)
        self.conv3 = nn.Conv2d(12, 12, 5, pad_mode="pad", padding=2, has_bias=True)
        self.fc = nn.Dense(12 * 8 * 8, 10)
        self.sigmoid, self.flatten = nn.Sigmoid(), nn.Flatten()
        rng = np.random.default_rng(seed)
        for parameter in self.trainable_params():
            parameter.set_data(ms.Tensor(rng.uniform(-0.5, 0.5, parameter.shape).astype(np.float32)))

    def construct(self, x):
        for convolution in (self.conv1, self.conv2, self.conv3):
            x = self.sigmoid(convolution(x))
        return self.fc(self.flatten(x))


def released_gradients(network, images, labels):
    """For each example (plain gradient, clipped and noised gradient)."""
    loss = nn.CrossEntropyLoss()
    clipped = {bound: clipped_gradient_fn(network, loss, norm_bound=bound) for bound in (1e9, cfg.norm_bound)}
    noise = NoiseMechanismsFactory.create("Gaussian", norm_bound=cfg.norm_bound,
                                          initial_noise_multiplier=cfg.noise_multiplier)
    for image, label in zip(images, labels):
        batch = ms.Tensor(image[None]), ms.Tensor(np.array([label], np.int32))
        plain, bounded = (clipped[bound](*batch).total for bound in (1e9, cfg.norm_bound))
        yield plain, [gradient + noise(gradient) for gradient in bounded]


def attack(network, gradients, shape, bound, args, iterations, seed):
    """One reconstruction, as the image the attacker would show."""
    inversion = GradientInversion(network, nn.CrossEntropyLoss(), args.method)
    found = inversion.reconstruct(gradients, shape, input_bound=bound, iters=iterations, seed=seed,
                                  restarts=1 if args.smoke else cfg.restarts)
    return found.images[0], int(found.labels[0])


def invert(network, images, labels, bound, args):
    """Attack every gradient of the examples, plain and private: two arrays of images, two of labels."""
    plain_steps = 3 if args.smoke else cfg.iterations[args.method]
    noised_steps = 3 if args.smoke else cfg.noised_iterations
    plain, private = [], []
    for seed, pair in enumerate(released_gradients(network, images, labels)):
        for gradients, steps, found in zip(pair, (plain_steps, noised_steps), (plain, private)):
            found.append(attack(network, gradients, images.shape[1:], bound, args, steps, seed))
        print(f"image {seed}: label {labels[seed]}, read off the gradient {infer_labels(pair[0])[0]}, "
              f"off the private one {infer_labels(pair[1], head=HEAD)[0]}", flush=True)
    return [(np.stack([image for image, _ in found]), np.array([label for _, label in found]))
            for found in (plain, private)]


def prepared(seed, args):
    """(network, images, labels, bound, digits for the baseline) of one run."""
    scene = sc.digits(args.data_path, args.smoke, seed)
    trained = args.method == "cosine"
    network = sc.victim(scene, args) if trained else SigmoidLeNet(seed)
    digits, labels = sc.one_of_each_class(*scene.test, rank=seed)
    low, high = scene.bound
    if not trained:  # the papers' network takes pixels in [0, 1]
        digits, (low, high) = (digits - low) / (high - low), (0.0, 1.0)
    return network, digits[:args.images], labels[:args.images], (low, high), digits


def run(seed, args):
    """The attacks of one seed; yields ((kind of gradients,), figures)."""
    network, images, labels, (low, high), digits = prepared(seed, args)
    for name, (found, guesses) in zip(("plain", "private"), invert(network, images, labels, (low, high), args)):
        report = reconstruction_report(images, found, data_range=high - low, references=digits)
        print(f"{name} gradients: {report.outcome}\n{report.summary()}")
        sc.save_pictures(report, args, f"gradient_{args.method}_{name}", f"{args.method}, {name} gradients")
        yield (name,), {**sc.figures(report), "labels": float(np.mean(guesses == labels)),
                        "above 15 dB": float(np.mean(report["psnr"].values > 15))}


def main(given=None):
    """Run the attacks; returns the rows of the table."""
    more = [("--images", {"type": int, "default": 10}),
            ("--method", {"default": "idlg", "choices": list(cfg.iterations)})]
    args = sc.arguments(__doc__, cfg.epochs, given, more)
    table = sc.over_seeds(lambda seed: run(seed, args), args, f"gradient_{args.method}")
    rows = [[*key, spread(line["labels"], ".0%"), *sc.measures(line), spread(line["above 15 dB"], ".0%")]
            for key, line in table.items()]
    print(markdown(["gradients", "labels right", *sc.NAMES, "above 15 dB"],
                   [*rows, ["random pair", "", *sc.random_pair(table), ""]]))
    return rows


if __name__ == "__main__":
    main()
