"""Membership inference against a VGG network: the public tutorial.

    python example_vgg_cifar.py --data_path CIFAR100 --pre_trained checkpoints/0-100_781.ckpt
    python example_vgg_cifar.py                  trains a small VGG on embedded digits first, minutes in all

Without --pre_trained, the digits' network is trained once more with DP-SGD at epsilon 3, and the same attacks judge
both: the last lines show them side by side. --seeds N does so for as many choices of members and random labels.
"""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

import mindspore as ms
import numpy as np
from mindspore import load_checkpoint, load_param_into_net
from mindspore.train import Model

from examples.common.tables import markdown, over_seeds, spread
from examples.privacy.membership_inference_attack.private_training import train_private
from examples.privacy.membership_inference_attack.train import parse, start, train
from examples.privacy.membership_inference_attack.vgg_data import audited_rows, digits_half, network_of, settings
from mindarmour import MembershipInference
from mindarmour.privacy.evaluation import collect_signals

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


def undefended(cfg, args):
    """The network of the tutorial: from its checkpoint, or trained now."""
    if not args.pre_trained:
        return train(cfg, args.ckpt_path)[0]
    network = network_of(cfg)
    load_param_into_net(network, load_checkpoint(args.pre_trained))
    return network


def defended(cfg):
    """The same network with group normalisation, trained on the same records with differential privacy."""
    return train_private(network_of(cfg, norm="group"), digits_half(cfg, members=True), cfg.dp, cfg.dp.epochs)


def audit(network, cfg, attacks, n_jobs=-1):
    """Fit and judge the attacks on one network, print the documented metrics; returns (metrics, AttackResults)."""
    attack = MembershipInference(Model(network), n_jobs)
    members, others = split_rows(cfg, True), split_rows(cfg, False)
    attack.train(members[0], others[0], attacks)
    metrics = attack.eval(members[1], others[1], METRICS)
    signals = collect_signals(network, members[1], others[1], progress=False)
    print(f"accuracy {signals.correct[signals.is_member].mean():.3f} on members, "
          f"{signals.correct[~signals.is_member].mean():.3f} on others")
    for config, entry in zip(attacks, metrics):
        values = ", ".join(f"{name} {value if isinstance(value, str) else format(value, '.4f')}"
                           for name, value in entry.items())
        print(f"Method: {config['method']}, {values}")
    return metrics, attack.results(members[1], others[1])


def compare(attacks, results_of):
    """Print the AUC of each attack and its 95 % interval, one column per network."""
    print(f"{'AUC':<8}" + "".join(f"{name:>28}" for name in results_of))
    for index, config in enumerate(attacks):
        cells = []
        for results in results_of.values():
            cells.append(_with_interval(results[index].auc, results[index].ci("auc")))
        print(f"{config['method']:<8}" + "".join(f"{cell:>28}" for cell in cells))


def _with_interval(value, bounds):
    """An AUC, its interval where one is known to cover, and whether that holds chance."""
    if bounds is None:
        return f"{value:.3f}"
    low, high = bounds
    return f"{value:.3f} [{low:.3f}, {high:.3f}]" + (" chance" if low <= 0.5 <= high else "")


def networks_of(cfg, args):
    """(name, network): the undefended one, and where the example trains itself, a private one."""
    yield "undefended", undefended(cfg, args)
    if cfg.dp and not args.pre_trained:
        ms.set_seed(cfg.get("seed", 0) + 1)
        yield f"epsilon {cfg.dp.epsilon:g}", defended(cfg)


def run(cfg, args, attacks):
    """One choice of members; yields ((attack, network), {metric: value})."""
    results_of = {}
    for name, network in networks_of(cfg, args):
        print(f"== {name}")
        metrics, results_of[name] = audit(network, cfg, attacks, 1 if args.smoke else -1)
        for config, entry in zip(attacks, metrics):
            yield (f"{config['method']}, {name}",), {metric: None if isinstance(value, str) else float(value)
                                                     for metric, value in entry.items()}
    compare(attacks, results_of)


def add_flags(parser):
    """Flags of this example alone."""
    parser.add_argument("--pre_trained", help="checkpoint of train.py; without it the network is trained first")
    parser.add_argument("--seeds", type=int, default=1, help="choices of members and random labels")


def main(arguments=None):
    """Run the example; returns (attack and network,) -> {metric: [value of each seed]}."""
    args = parse(__doc__, arguments, add_flags)
    start(args)
    attacks = ATTACKS[:2] if args.smoke else ATTACKS
    cfg = settings(args)

    def seeded(seed):
        return run(type(cfg)({**cfg, "seed": seed}), args, attacks)

    table = over_seeds(seeded, args.seeds, Path(args.ckpt_path) / "example_vgg_cifar", {**cfg, "attacks": str(attacks),
                                                                                     "pre_trained": args.pre_trained})
    rows = [[*key, *(spread(line[metric]) for metric in METRICS)] for key, line in table.items()]
    print(markdown(["attack, network", *METRICS], rows))
    return table


if __name__ == "__main__":
    main()
