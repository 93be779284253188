"""Three places for the noise at equal epsilon, and the local model: odd or even digits, a linear model.

The 1,797 real 8x8 digits that scikit-learn ships, one in five for the test. The same (epsilon, delta), with one
record replaced as the neighbour, is spent on the weights (output perturbation), inside the objective (objective
perturbation), on the gradients of every step (DPModel), or on every record before anybody collects it (local).

    python three_placements.py [--epsilons 0.5 1 2 4] [--repeats N] [--device_target Ascend] [--smoke]
"""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

import mindspore as ms
import numpy as np
from easydict import EasyDict as edict
from mindspore import Tensor, nn

from examples.common.arguments import example_arguments, use_device
from examples.common.tables import markdown, spread
from mindarmour.privacy.accounting import Ledger
from mindarmour.privacy.accounting.accountant import privacy_spent
from mindarmour.privacy.accounting.calibration import noise_multiplier_for
from mindarmour.privacy.accounting.events import REPLACE_ONE
from mindarmour.privacy.accounting.planning import plan_sampling
from mindarmour.privacy.diff_privacy import DPModel, NoiseMechanismsFactory, PoissonSampler
from mindarmour.privacy.release import (
    GaussianMechanism,
    ObjectivePerturbation,
    OutputPerturbation,
    RandomizedResponse,
)
from mindarmour.privacy.release.convex import LinearProblem, margin_loss, minimise

cfg = edict({
    "epsilons": [0.5, 1.0, 2.0, 4.0],
    "delta": 1e-5,
    "repeats": 10,
    "centre": 0.3,  # public guesses: mean of the scaled pixels, and a norm that most centred images keep
    "norm_bound": 3.0,
    "output_regularization": 0.03,
    "objective_regularization": 0.003,
    "plain_regularization": 0.001,
    "batch_size": 360,
    "epochs": 15,
    "learning_rate": 0.3,
    "momentum": 0.9,
    "gradient_bound": 1.0,
    "label_share": 0.2,  # of the local budget; the pixels get the rest
})


def read_digits():
    """(features, labels) for training and for test: centred pixels [N, 64], 1 for odd digits."""
    from sklearn.datasets import load_digits
    pixels, digits = load_digits(return_X_y=True)
    features, labels = pixels / 16 - cfg.centre, digits % 2
    is_test = np.arange(len(labels)) % 5 == 4
    return features[~is_test], labels[~is_test], features[is_test], labels[is_test]


def plain(features, labels, epsilon):
    """No protection."""
    problem = LinearProblem(model := nn.Dense(64, 1), features, labels, cfg.norm_bound)
    strength = cfg.plain_regularization * len(features)
    problem.assign(minimise(margin_loss("logistic", 0.5), problem.rows, strength, np.zeros(65)))
    return model, None


def output(features, labels, epsilon):
    """Noise on the weights."""
    mechanism = OutputPerturbation(epsilon, cfg.delta, cfg.output_regularization, norm_bound=cfg.norm_bound)
    return mechanism.fit(nn.Dense(64, 1), features, labels), mechanism.ledger


def objective(features, labels, epsilon):
    """Noise inside the objective."""
    mechanism = ObjectivePerturbation(epsilon, cfg.delta, cfg.objective_regularization, norm_bound=cfg.norm_bound)
    return mechanism.fit(nn.Dense(64, 1), features, labels), mechanism.ledger


def gradient(features, labels, epsilon):
    """Noise on the gradients of every step."""
    columns = (features.astype(np.float32), labels.astype(np.int32))
    dataset = PoissonSampler(cfg.batch_size).dataset(columns)
    sampling = plan_sampling("poisson", len(features), cfg.batch_size, REPLACE_ONE)
    multiplier = noise_multiplier_for(epsilon, cfg.delta, sampling, cfg.epochs * dataset.get_dataset_size())
    network = nn.Dense(64, 2, weight_init="zeros", bias_init="zeros")
    model = DPModel(micro_batches=None, norm_bound=cfg.gradient_bound, network=network,
                    noise_mech=NoiseMechanismsFactory.create("Gaussian", cfg.gradient_bound, multiplier),
                    loss_fn=nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean"),
                    optimizer=nn.Momentum(network.trainable_params(), cfg.learning_rate, cfg.momentum))
    model.train(cfg.epochs, dataset, dataset_sink_mode=False)
    return network, model.ledger


def local(features, labels, epsilon):
    """Noise on every record: Gaussian on the pixels, randomised response on the label."""
    ledger = Ledger()
    share = cfg.label_share * epsilon
    pixels = GaussianMechanism(epsilon - share, cfg.delta, clip_norm=cfg.norm_bound, ledger=ledger)
    noised = pixels.randomize(features)
    model, _ = plain(noised, RandomizedResponse(share, ledger=ledger).randomize(labels), epsilon)
    return model, ledger


PLACEMENTS = {"none": plain, "output": output, "objective": objective, "gradients": gradient, "records": local}
NAMES = {"output": "the weights (output)", "objective": "the objective", "gradients": "every gradient (DPModel)",
         "records": "every record (local)"}


def accuracy(model, features, labels):
    """Share of right predictions."""
    outputs = model(Tensor(features.astype(np.float32))).asnumpy()
    # one output is the log-odds of 1; of two outputs, the larger one decides
    odds = outputs[:, 0] if outputs.shape[1] == 1 else outputs[:, 1] - outputs[:, 0]
    return ((odds > 0) == labels).mean()


def compare(placement, epsilon, repeats):
    """(accuracies of the runs, the statement of what one run spent)."""
    train_features, train_labels, test_features, test_labels = read_digits()
    accuracies, ledger = [], None
    for _ in range(repeats):
        model, ledger = PLACEMENTS[placement](train_features, train_labels, epsilon)
        accuracies.append(accuracy(model, test_features, test_labels))
    spent = privacy_spent(ledger.entries, cfg.delta * (1 + 1e-9), relation=REPLACE_ONE) if ledger else None
    return np.array(accuracies), spent


def _flags(parser):
    parser.add_argument("--epsilons", type=float, nargs="+", default=cfg.epsilons)
    parser.add_argument("--repeats", type=int, default=cfg.repeats)


def main(arguments=None):
    """Run the example; returns {(placement, epsilon): (accuracies, PrivacySpent)}."""
    args = example_arguments(__doc__, cfg.epochs, arguments, _flags)
    use_device(args.device_target)
    ms.set_context(mode=ms.GRAPH_MODE)
    cfg.epochs = args.epochs
    repeats = 2 if args.smoke else args.repeats
    results, rows = {("none", None): compare("none", None, 1)}, []
    for placement, name in NAMES.items():
        for epsilon in args.epsilons:
            results[placement, epsilon] = compare(placement, epsilon, repeats)
        rows.append([name, *(spread(results[placement, epsilon][0], ".1%") for epsilon in args.epsilons)])
    print(markdown(["noise on", *(f"eps {epsilon:g}" for epsilon in args.epsilons)], rows))
    print(f"{results['none', None][0].mean():.1%} without protection; delta {cfg.delta:g}; the neighbour has one "
          f"record replaced; mean and standard deviation of {repeats} runs.")
    return results


if __name__ == "__main__":
    main()
