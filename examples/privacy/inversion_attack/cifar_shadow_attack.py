"""Query-free inversion: an attacker who knows only the last layers trains a stand-in for the first ones.

python examples/privacy/inversion_attack/cifar_shadow_attack.py [--data_path CIFAR-10-binary] [--seeds N]

Without --data_path the embedded digits and LeNet-5 take the place of CIFAR-10.
"""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

import mindspore as ms
from easydict import EasyDict

from examples.common.tables import markdown, spread
from examples.privacy.inversion_attack import scene as sc
from mindarmour.privacy.evaluation import ImageInversionAttack, ShadowModelAttack

cfg = EasyDict({"epochs": 10, "shadow_epochs": 20, "iterations": 500, "variation_weight": 0.1})


def invert(scene, network, layer, args, seed):
    """Train the stand-in on the victim's own images and invert features it did not make; returns the report."""
    shadow = scene.shadow(layer)
    attack = ShadowModelAttack(network, shadow, Path(args.output) / f"shadow_{seed}", layer)
    history = attack.train_shadow_model(sc.batches(*scene.train),
                                        {"epochs": 1 if args.smoke else args.shadow_epochs})
    print(f"{layer}: loss of the last layers on the stand-in's features {history[-1]:.3g}", flush=True)
    images, labels = sc.one_of_each_class(*scene.test, rank=seed)
    features = scene.front(network, layer)(ms.Tensor(images)).asnumpy()
    inversion = ImageInversionAttack(shadow, images.shape[1:], scene.bound, (1, args.variation_weight, 1e-6))
    found = inversion.generate(features, 5 if args.smoke else cfg.iterations, seed=seed)
    return inversion.evaluate(images, found, labels, network).report


def run(seed, args):
    """One victim; yields ((layer,), figures)."""
    scene = sc.cifar_or_digits(args, seed)
    network = sc.victim(scene, args)
    print(f"victim's accuracy: {sc.accuracy(network, *scene.test):.3f}", flush=True)
    for layer in scene.layers:
        report = invert(scene, network, layer, args, seed)
        sc.save_pictures(report, args, f"shadow_{layer}", f"query-free, behind {layer}")
        yield (layer,), sc.figures(report)


def main(given=None):
    """Run the attack for each layer; returns the rows of the table."""
    more = [("--shadow_epochs", {"type": int, "default": cfg.shadow_epochs}),
            ("--variation_weight", {"type": float, "default": cfg.variation_weight})]
    args = sc.arguments(__doc__, cfg.epochs, given, more)
    table = sc.over_seeds(lambda seed: run(seed, args), args, "query_free")
    rows = [[*key, *sc.measures(line), spread(line["confidence"], ".2f")] for key, line in table.items()]
    print(markdown(["layer", *sc.NAMES, "confidence"], [*rows, ["random pair", *sc.random_pair(table), ""]]))
    return rows


if __name__ == "__main__":
    main()
