"""LOSS against the shadow-model attacks LiRA and RMIA, on an undefended network and on one trained with epsilon 3.

    python membership_inference_lira.py [--output folder] [--num_models 16] [--seeds 5] [--smoke]

Each model trains on a random half of 4,000 embedded digits (10 % of them with a random label); the attacker knows the
recipe. Outputs of finished models are kept in the output folder: a stopped run goes on where it was. Writes roc.png
and results.json of the first seed. Several seeds draw labels, halves and weights anew, and the table has mean and
standard deviation.
"""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

import json

import mindspore as ms
import mindspore.dataset as ds
import numpy as np
from mindspore import nn
from mindspore.train import Model

from examples.common.arguments import example_arguments, use_device
from examples.common.dataset.data_processing import mnist_arrays, mnist_folder
from examples.common.tables import markdown, spread
from examples.privacy.membership_inference_attack.membership_inference_lira_config import cfg
from examples.privacy.membership_inference_attack.private_training import train_private
from mindarmour.privacy.evaluation import (
    RMIA,
    CompiledTraining,
    EntropyAttack,
    LiRA,
    LossAttack,
    MembershipInference,
    ShadowModels,
    collect_signals,
)

ATTACKS = ("LOSS", "Entropy", "Classifier", "LiRA", "RMIA")


def records(data_path, seed=cfg.seed):
    """(audited records, population) as flat images and labels [n], a share of them random."""
    folder, rng, parts = mnist_folder(data_path), np.random.default_rng(seed), []
    for part in ("train", "test"):
        images, labels = mnist_arrays(folder / part, image_size=cfg.image_size)
        wrong = rng.random(len(labels)) < cfg.label_noise
        labels = np.where(wrong, rng.integers(0, 10, len(labels)), labels).astype(np.int32)
        parts.append((images.reshape(len(images), -1), labels))
    return parts


def new_network():
    """A small multilayer perceptron."""
    return nn.SequentialCell(nn.Dense(cfg.image_size ** 2, cfg.hidden, weight_init="HeUniform"), nn.ReLU(),
                             nn.Dense(cfg.hidden, 10, weight_init="HeUniform"))


def train_plain(epochs):
    """Recipe of the undefended network: Adam until it remembers; compiled once for all models."""
    loss_fn = nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean")
    return CompiledTraining(new_network, lambda weights: nn.Adam(weights, cfg.plain.learning_rate), loss_fn,
                            epochs=epochs, batch_size=cfg.plain.batch_size)


def train_dp(epochs):
    """Recipe of the defended network: DP-SGD whose noise is calibrated to the budget."""
    def train(images, labels, seed):
        ms.set_seed(seed)
        return train_private(new_network(), (images, labels), cfg.dp, epochs)
    return train


def documented_attack(target, *sets):
    """`MembershipInference` with logistic regression, each record judged by a classifier that never saw it."""
    members, others = (ds.NumpySlicesDataset(columns, ["image", "label"], shuffle=False).batch(cfg.plain.batch_size)
                       for columns in sets)
    attack = MembershipInference(Model(target), n_jobs=1)
    attack.train(members, others, [{"method": "lr", "params": {}}])
    return attack.scores()[0]


def over_models(store):
    """AUC of each attack on every shadow model, attacked with the others: {attack: [models]}.

    One audited model's AUC has a standard deviation of about 0.01 when nothing leaks; a mean over models shows
    leaks that are smaller than that.
    """
    values = {"LOSS": [], "LiRA": [], "RMIA": []}
    for index in range(store.num_models):
        signals = store.signals(index)
        values["LOSS"].append(LossAttack()(signals).auc)
        values["RMIA"].append(RMIA()(signals, store, store.population_signals(index), exclude=[index]).auc)
        if store.num_models >= 6:
            values["LiRA"].append(LiRA()(signals, store, exclude=[index]).auc)
    return {attack: np.array(areas) for attack, areas in values.items() if areas}


def print_over_models(name, areas_of):
    """One line: mean AUC and its standard error."""
    cells = [f"{attack} {areas.mean():.3f} +- {areas.std(ddof=1) / np.sqrt(len(areas)):.3f}"
             for attack, areas in areas_of.items()]
    print(f"{name}, mean AUC over {len(areas_of['LOSS'])} models: {', '.join(cells)}")


def audit(name, train, audited, population, folder, num_models, seed):
    """Shadow models, one more model as the target, every attack on it: (attack -> AttackResult, AUCs over models)."""
    print(f"== {name}, seed {seed}")
    store = ShadowModels(train, audited, num_models, seed, folder, population=population, tag=name).fit()
    members, others = store.split(seed=0)
    target = train(*store.subset(members), seed=seed + 1)
    signals = collect_signals(target, store.subset(members), store.subset(others), ids=(members, others),
                              path=folder / "target.npz")
    reference = collect_signals(target, None, population)
    print(f"accuracy {signals.correct[signals.is_member].mean():.3f} on members, "
          f"{signals.correct[~signals.is_member].mean():.3f} on non-members")
    over = over_models(store)
    print_over_models(name, over)
    classifier = documented_attack(target, store.subset(members), store.subset(others))
    results = (LossAttack()(signals), EntropyAttack()(signals), classifier, LiRA()(signals, store),
               RMIA()(signals, store, reference))
    return dict(zip(ATTACKS, results)), over


def print_table(name, results):
    """One line per attack."""
    print(f"{name:<12} {'attack':<11} {'AUC':>6} {'95 % interval':>16}" +
          "".join(f"  {'TPR@' + format(100 * rate, 'g') + '%':>8}" for rate in cfg.tpr_at))
    for attack, result in results.items():
        interval = result.ci("auc")  # none for out-of-fold scores
        shown = "n/a" if interval is None else f"[{interval[0]:.3f}, {interval[1]:.3f}]"
        rates = [result.tpr_at_fpr(rate) for rate in cfg.tpr_at]
        print(f"{'':<12} {attack:<11} {result.auc:6.3f} {shown:>16}" +
              "".join(f"  {'n/a' if rate is None else format(rate, '8.2%'):>8}" for rate in rates))


def draw(all_results, path):
    """One panel per network, the same axes."""
    from matplotlib.figure import Figure
    figure = Figure(figsize=(10, 4.6), layout="constrained")
    panels = figure.subplots(1, len(all_results), sharex=True, sharey=True)
    for axes, (name, results) in zip(panels, all_results.items()):
        for attack, result in results.items():
            result.plot_roc(axes, label=f"{attack} (AUC {result.auc:.3f})")
        axes.set_title(name)
        axes.label_outer()
    figure.savefig(path, dpi=120)


def add_flags(parser):
    """Flags of this example alone."""
    parser.add_argument("--output", default="outputs/membership_inference", help="folder for shadow models and results")
    parser.add_argument("--num_models", type=int, default=cfg.num_models)
    parser.add_argument("--seeds", type=int, default=1, help="choices of random labels, halves and weights")


def one_seed(args, seed):
    """Every attack on both networks: name of the network -> (attack -> AttackResult, AUCs over models)."""
    audited, population = records(args.data_path, seed)
    output, num_models, dp_epochs = Path(args.output) / f"seed_{seed}", args.num_models, cfg.dp.epochs
    if args.smoke:
        audited, population = [[part[:400] for part in data] for data in (audited, population)]
        num_models, dp_epochs = 4, 1
    recipes = {"undefended": train_plain(args.epochs), f"epsilon {cfg.dp.epsilon:g}": train_dp(dp_epochs)}
    return {name: audit(name, train, audited, population, output / name.replace(" ", "_"), num_models, seed)
            for name, train in recipes.items()}


def table_of(seeds):
    """The documentation's table: mean and standard deviation over the seeds."""
    rows = []
    for name in seeds[0]:
        for attack in ATTACKS:
            results = [networks[name][0][attack] for networks in seeds]
            rates = [spread([result.tpr_at_fpr(rate) for result in results], ".1%") for rate in cfg.tpr_at[1:]]
            over = [networks[name][1].get(attack) for networks in seeds]
            means = "" if over[0] is None else spread([areas.mean() for areas in over])
            rows.append([f"{name}: {attack}", spread([result.auc for result in results]), *rates, means])
    columns = ["network: attack", "AUC", *(f"TPR at {100 * rate:g} % FPR" for rate in cfg.tpr_at[1:]),
               "mean AUC over the shadow models"]
    return markdown(columns, rows)


def main(arguments=None):
    """Run the example; returns name of the network -> attack -> AttackResult, of the first seed."""
    args = example_arguments(__doc__, cfg.plain.epochs, arguments, add_flags)
    use_device(args.device_target)
    ms.set_context(mode=ms.GRAPH_MODE)
    seeds = [one_seed(args, cfg.seed + number) for number in range(args.seeds)]
    all_results, output = {name: results for name, (results, _) in seeds[0].items()}, Path(args.output)
    for name, results in all_results.items():
        print_table(name, results)
    print(table_of(seeds))
    draw(all_results, output / "roc.png")
    content = {name: {attack: result.to_dict() for attack, result in results.items()}
               for name, results in all_results.items()}
    (output / "results.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    print(f"Written: {output / 'roc.png'}, {output / 'results.json'}")
    return all_results


if __name__ == "__main__":
    main()
