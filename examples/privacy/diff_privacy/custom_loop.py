"""A training loop of one's own: one object clips, adds the noise, updates and records each step.

    python custom_loop.py [--data_path MNIST] [--epochs N] [--smoke]
"""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

import mindspore as ms
from easydict import EasyDict as edict
from mindspore import nn
from tqdm import tqdm

from examples.common.arguments import example_arguments, use_device
from examples.common.dataset.data_processing import mnist_arrays, mnist_folder
from examples.common.networks.lenet5.lenet5_net import LeNet5
from mindarmour.privacy.diff_privacy import NoiseMechanismsFactory, PoissonSampler, PrivateLoop

cfg = edict({"epochs": 10, "batch_size": 512, "learning_rate": 0.5, "momentum": 0.9, "norm_bound": 0.3,
             "noise_multiplier": 2.83, "delta": 1e-5})


def main(arguments=None):
    """Train; returns (epsilon, losses)."""
    args = example_arguments(__doc__, cfg.epochs, arguments)
    use_device(args.device_target)
    ms.set_context(mode=ms.GRAPH_MODE)
    dataset = PoissonSampler(cfg.batch_size).dataset(mnist_arrays(mnist_folder(args.data_path) / "train"))
    network = LeNet5(activation="tanh")
    loss_fn = nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean")

    optimizer = nn.Momentum(network.trainable_params(), cfg.learning_rate, cfg.momentum)
    noise_mech = NoiseMechanismsFactory.create("Gaussian", cfg.norm_bound, cfg.noise_multiplier)
    loop = PrivateLoop(network, loss_fn, optimizer, cfg.norm_bound, noise_mech)

    losses = []
    bar = tqdm(total=args.epochs * dataset.get_dataset_size(), unit="step")
    for _ in range(args.epochs):
        for batch in loop.batches(dataset):
            losses.append(float(loop.step(*batch)))
            bar.update(1)
            bar.set_postfix_str(f"loss {losses[-1]:.3f}")
    bar.close()
    spent = loop.spent(cfg.delta)
    print(f"loss {losses[0]:.3f} -> {losses[-1]:.3f}; epsilon = {spent.epsilon:.3f} at delta = {spent.delta:g} "
          f"({spent.kind}: {spent.relation}, {spent.sampling} sampling)")
    return spent.epsilon, losses


if __name__ == "__main__":
    main()
