"""The DENSE and CNN rows of the first DP-SGD system, by its own sanitizer and accountant, beside sound accounting.

Every example's gradient is clipped, the batch's sum gets noise for (eps, delta) per step, and the accountant adds
the steps up. Two settings for each row: the published budget per step, (1.0, 1e-7); and noise calibrated so that the
row's total budget is used up after 40 epochs. Both stay within the total eps and delta of the published row.

    python dpsgd_dense_cnn.py [--data_path MNIST] [--device_target Ascend] [--epochs N] [--seeds N] [--smoke]
"""
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

from examples.common.arguments import example_arguments, use_device
from examples.common.dataset.data_processing import mnist_arrays, mnist_folder
from examples.common.networks.dense_cnn.dense_cnn_net import cnn_net, dense_net
from examples.common.tables import markdown, spread
from examples.privacy.diff_privacy.dense_cnn_config import dense_cnn_cfg
from mindarmour.privacy.accounting.accountant import privacy_spent
from mindarmour.privacy.accounting.calibration import noise_multiplier_for, steps_for
from mindarmour.privacy.accounting.legacy import AmortizedAccountant
from mindarmour.privacy.diff_privacy import PoissonSampler, clipped_gradient_fn
from mindarmour.privacy.diff_privacy.sampling.claims import claim_of
from mindarmour.privacy.release import AmortizedGaussianSanitizer

NETWORKS = {"DENSE": dense_net, "CNN": cnn_net}
HEADER = ("network  parameters  seed  noise  epochs  train   valid   test    published  eps used  delta used  "
          "amortized eps, delta  seconds")
COLUMNS = ("row: published test accuracy at (eps, delta)", "noise", "epochs", "eps used (proven)",
           "amortized eps, delta", "train", "validation", "test", "runs")


def read_digits(data_path, share, smoke):
    """(train, validation, test), each a pair (images [N, 1, 28, 28], labels [N])."""
    folder = mnist_folder(data_path)
    images, labels = mnist_arrays(folder / "train", image_size=28)
    test = mnist_arrays(folder / "test", image_size=28)
    if smoke:
        images, labels, test = images[::8], labels[::8], (test[0][::8], test[1][::8])
    held_out = np.arange(len(images)) % share == 0
    return (images[~held_out], labels[~held_out]), (images[held_out], labels[held_out]), test


def plan(cfg, row, kind, sampling, steps_per_epoch, epochs):
    """(noise multiplier or None for the budget per step, steps) that keep the row's total budget."""
    wanted = epochs * steps_per_epoch
    if kind == "calibrated":
        return noise_multiplier_for(row.eps, row.delta, sampling, wanted, "pld"), wanted
    sigma = AmortizedGaussianSanitizer(AmortizedAccountant(1), cfg.step_eps, cfg.step_delta).sigma
    return None, min(wanted, steps_for(row.eps, row.delta, sampling, sigma))


def train(cfg, network, data, sanitizer, learning_rate, steps):
    """Run `steps` steps; returns the seconds they took."""
    parameters = network.trainable_params()
    optimizer = nn.Momentum(parameters, learning_rate, cfg.momentum)
    loss_fn = nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean")
    clipped_gradients = clipped_gradient_fn(network, loss_fn, cfg.norm_bound)
    expected = claim_of(data).batch_size
    start, left = time.perf_counter(), steps
    while left > 0:
        for images, labels, is_real in data.create_tuple_iterator(num_epochs=1):
            total = sanitizer.sanitize(clipped_gradients(images, labels, is_real=is_real))
            optimizer(tuple(gradient / expected for gradient in total))
            left -= 1
            if left == 0:
                break
    return time.perf_counter() - start


def accuracy(network, images, labels):
    """Share of the images that the network names rightly."""
    network.set_train(False)
    right = [(network(Tensor(images[i:i + 500])).asnumpy().argmax(1) == labels[i:i + 500]).sum()
             for i in range(0, len(images), 500)]
    return sum(right) / len(images)


def run(cfg, row, kind, seed, digits, epochs, smoke=False):
    """Train one row once; returns everything that the table shows."""
    ms.set_seed(seed)
    train_digits, validation, test = digits
    batch_size = min(cfg.batch_size, len(train_digits[0]) // 4)
    data = PoissonSampler(batch_size).dataset(train_digits)
    sampling, steps_per_epoch = claim_of(data), data.get_dataset_size()
    sigma, steps = plan(cfg, row, kind, sampling, steps_per_epoch, epochs)
    accountant = AmortizedAccountant(len(train_digits[0]))
    step_eps = cfg.step_eps if sigma is None else None  # noise of one's own has a budget of its own
    sanitizer = AmortizedGaussianSanitizer(accountant, step_eps, cfg.step_delta, cfg.norm_bound, sampling, sigma)
    network = NETWORKS[row.network]()
    seconds = train(cfg, network, data, sanitizer, cfg.parameters[kind].learning_rate,
                    cfg.smoke_steps if smoke else steps)
    amortized = accountant.get_privacy_spent() if sigma is None else None
    spent = privacy_spent(sanitizer.ledger.entries, row.delta, "pld")
    return {"row": row, "parameters": kind, "seed": seed, "noise": sanitizer.sigma,
            "epochs": sanitizer.ledger.steps / steps_per_epoch, "seconds": seconds, "spent": spent,
            "amortized": amortized,
            "accuracy": [accuracy(network, *part) for part in (train_digits, validation, test)]}


def line(result):
    """One line of the table."""
    accuracies = "  ".join(f"{100 * value:5.2f}%" for value in result["accuracy"])
    amortized, row = result["amortized"], result["row"]
    # the rule of thumb takes a budget per step, which calibrated noise does not have
    amortized = f"{amortized.epsilon:.2f}, {amortized.delta:.1e}" if amortized else "-"
    return (f"{row.network:7s}  {result['parameters']:10s}  {result['seed']:4d}  {result['noise']:5.2f}  "
            f"{result['epochs']:6.1f}  {accuracies}  {100 * row.published:8.2f}%  {result['spent'].epsilon:8.3f}  "
            f"{row.delta:10.1e}  {amortized:>20s}  {result['seconds']:7.0f}")


def summary(results):
    """One line of the documentation's table, from all runs of one row and setting."""
    first = results[0]
    row, amortized = first["row"], first["amortized"]
    noise = f"({dense_cnn_cfg.step_eps}, {dense_cnn_cfg.step_delta:.0e}) a step" if amortized else "calibrated"
    parts = zip(*(result["accuracy"] for result in results))
    return [f"{row.network}: {row.published:.2%} at ({row.eps}, {row.delta:.1e})", f"{noise}: {first['noise']:.2f}",
            f"{first['epochs']:.0f}", f"{first['spent'].epsilon:.2f}",
            f"{amortized.epsilon:.2f}, {amortized.delta:.1e}" if amortized else "no budget per step",
            *(spread(part, ".1%") for part in parts), len(results)]


def _flags(parser):
    parser.add_argument("--seeds", type=int, default=1, help="runs of each row")
    parser.add_argument("--row", type=int, choices=range(len(dense_cnn_cfg.rows)), help="only this row")
    parser.add_argument("--parameters", choices=tuple(dense_cnn_cfg.parameters), help="only this setting")


def main(arguments=None):
    """Run the example; returns the list of results."""
    cfg = dense_cnn_cfg
    args = example_arguments(__doc__, None, arguments, _flags)
    use_device(args.device_target)
    ms.set_context(mode=ms.GRAPH_MODE)
    digits = read_digits(args.data_path, cfg.validation_share, args.smoke)
    rows = cfg.rows if args.row is None else [cfg.rows[args.row]]
    results, table = [], []
    print(HEADER)
    for row in rows:
        for kind in [args.parameters] if args.parameters else cfg.parameters:
            epochs = min(args.epochs or cfg.parameters[kind].epochs, row.max_epochs)
            for seed in range(args.seeds):
                results.append(run(cfg, row, kind, seed + 1, digits, epochs, args.smoke))
                print(line(results[-1]), flush=True)
            table.append(summary(results[-args.seeds:]))
    print(markdown(COLUMNS, table))
    print("eps used: proven bound (PLD) for Poisson batches, neighbours differ by one record added or removed.\n"
          "amortized: the rule of thumb of the original system, no guarantee.")
    return results


if __name__ == "__main__":
    main()
