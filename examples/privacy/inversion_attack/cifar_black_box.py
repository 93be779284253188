"""Black-box inversion: an attacker who can query the first layers trains a decoder for their features.

python examples/privacy/inversion_attack/cifar_black_box.py [--data_path CIFAR-10-binary] [--seeds N]

Without --data_path the embedded digits and LeNet-5 take the place of CIFAR-10. The attacker queries with the
victim's training images, with others of the same kind, and with noise.
"""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

import mindspore as ms
import numpy as np
from easydict import EasyDict

from examples.common.tables import markdown
from examples.privacy.inversion_attack import scene as sc
from mindarmour.privacy.evaluation import ModelInversionAttack, reconstruction_report

cfg = EasyDict({"epochs": 10, "decoder_epochs": 20, "learning_rate": 2e-3, "test_images": 100})


def queries(scene):
    """The three sets of images the attacker may have."""
    low, high = scene.bound
    noise = np.random.default_rng(0).uniform(low, high, scene.train[0].shape).astype(np.float32)
    return {"same set": scene.train, "same distribution": scene.auxiliary, "random": (noise, scene.train[1])}


def invert(scene, network, layer, images, args, name, seed):
    """Train a decoder and invert the features of test images; returns the report."""
    low, high = scene.bound
    folder = Path(args.output) / f"{name.replace(' ', '_')}_{seed}"
    attack = ModelInversionAttack(network, scene.decoder(layer), images[0].shape[1:], folder, layer)
    attack.train_inversion_model(sc.batches(*images), 1 if args.smoke else args.decoder_epochs, cfg.learning_rate)
    true = sc.one_of_each_class(*scene.test)[0]
    true = np.concatenate([true, scene.test[0][:12 if args.smoke else cfg.test_images]])
    found = attack.inverse(scene.front(network, layer)(ms.Tensor(true))).asnumpy()
    return reconstruction_report(true, np.clip(found, low, high), data_range=high - low)


def run(seed, args):
    """One victim; yields ((layer, queries), figures)."""
    scene = sc.cifar_or_digits(args, seed)
    network = sc.victim(scene, args)
    print(f"victim's accuracy: {sc.accuracy(network, *scene.test):.3f}", flush=True)
    for layer in scene.layers[:1] if args.smoke else scene.layers:
        for name, images in queries(scene).items():
            report = invert(scene, network, layer, images, args, name, seed)
            sc.save_pictures(report, args, f"black_box_{layer}_{name.replace(' ', '_')}",
                             f"decoder behind {layer}, queried with: {name}")
            yield (layer, name), sc.figures(report)


def main(given=None):
    """Run the attack for each layer and each set of queries; returns the rows of the table."""
    more = [("--decoder_epochs", {"type": int, "default": cfg.decoder_epochs})]
    args = sc.arguments(__doc__, cfg.epochs, given, more)
    table = sc.over_seeds(lambda seed: run(seed, args), args, "black_box")
    rows = [[*key, *sc.measures(line)] for key, line in table.items()]
    print(markdown(["layer", "queries", *sc.NAMES], [*rows, ["random pair", "", *sc.random_pair(table)]]))
    return rows


if __name__ == "__main__":
    main()
