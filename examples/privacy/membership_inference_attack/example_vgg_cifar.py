"""Membership inference against a VGG network: the public tutorial.

    python example_vgg_cifar.py --data_path CIFAR100 --pre_trained checkpoints/0-100_781.ckpt
    python example_vgg_cifar.py                  trains a small VGG on embedded digits first, minutes in all
"""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

import numpy as np
from mindspore import load_checkpoint, load_param_into_net
from mindspore.train import Model

from examples.privacy.membership_inference_attack.train import parse, start, train
from examples.privacy.membership_inference_attack.vgg_data import audited_rows, network_of, settings
from mindarmour import MembershipInference

METRICS = ("precision", "accuracy", "recall", "auc", "tpr@1%fpr", "tpr@0.1%fpr")
ATTACKS = [
    {"method": "lr", "params": {"C": np.logspace(-4, 2, 10)}},
    {"method": "knn", "params": {"n_neighbors": [3, 5, 7]}},
    {"method": "mlp", "params": {"hidden_layer_sizes": [(64,), (32, 32)], "solver": ["adam"],
                                 "alpha": [0.0001, 0.001, 0.01]}},
    {"method": "rf", "params": {"n_estimators": [100], "max_features": ["auto", "sqrt"],
                                "max_depth": [5, 10, 20, None], "min_samples_split": [2, 5, 10],
                                "min_samples_leaf": [1, 2, 4]}},
]


def split_rows(cfg, members):
    """Rows to fit the attack on, and rows to judge it on."""
    rows = audited_rows(cfg, members)
    count = rows.get_dataset_size()
    first = int(cfg.train_share * count)
    return [part.batch(cfg.batch_size) for part in rows.split([first, count - first], randomize=False)]


def main(arguments=None):
    """Run the example; returns the metrics of each attack."""
    args = parse(__doc__, arguments, lambda parser: parser.add_argument(
        "--pre_trained", help="checkpoint of train.py; without it the network is trained first"))
    start(args)
    cfg = settings(args)
    if args.pre_trained:
        network = network_of(cfg)
        load_param_into_net(network, load_checkpoint(args.pre_trained))
    else:
        network, _ = train(cfg, args.ckpt_path)
    attacks = ATTACKS[:2] if args.smoke else ATTACKS
    attack = MembershipInference(Model(network), n_jobs=-1)
    members, others = split_rows(cfg, True), split_rows(cfg, False)
    attack.train(members[0], others[0], attacks)
    results = attack.eval(members[1], others[1], METRICS)
    for config, metrics in zip(attacks, results):
        values = ", ".join(f"{name} {value if isinstance(value, str) else format(value, '.4f')}"
                           for name, value in metrics.items())
        print(f"Method: {config['method']}, {values}")
    return results


if __name__ == "__main__":
    main()
