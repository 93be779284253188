"""The main job: LeNet-5 trained with a real guarantee on real digits, in minutes on a laptop.

Poisson sampling and units of one example, so the printed epsilon is a guarantee under add-or-remove.
    make demo            or            python examples/privacy/diff_privacy/demo.py [--data_path MNIST]
"""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

import mindspore as ms
from easydict import EasyDict as edict
from mindspore import nn
from mindspore.train import Accuracy

from examples.common.arguments import example_arguments, use_device
from examples.common.dataset.data_processing import (
    generate_mnist_dataset,
    mnist_arrays,
    mnist_folder,
)
from examples.common.networks.lenet5.lenet5_net import LeNet5
from mindarmour.privacy.diff_privacy import (
    DPModel,
    NoiseMechanismsFactory,
    PoissonSampler,
    PrivacyMonitorFactory,
    PrivacyProgress,
    TrainingCurve,
)

cfg = edict({
    "epochs": 40,
    "batch_size": 512,
    "learning_rate": 0.5,
    "momentum": 0.9,
    "norm_bound": 0.3,
    "noise_multiplier": 2.83,
    "target_delta": 1e-5,
    "max_eps": 4.0,
    "test_batch_size": 200,
})


def main(arguments=None):
    """Train, print the privacy spent and the test accuracy; returns (epsilon, accuracy)."""
    args = example_arguments(__doc__, cfg.epochs, arguments, lambda parser: parser.add_argument(
        "--curve", metavar="FILE", help="draw loss and epsilon by epoch into this .png, .svg or .html file"))
    use_device(args.device_target)
    ms.set_context(mode=ms.GRAPH_MODE)
    folder = mnist_folder(args.data_path)
    images, labels = mnist_arrays(folder / "train")
    if args.smoke:
        images, labels = images[:1024], labels[:1024]
    ds_train = PoissonSampler(cfg.batch_size).dataset((images, labels))

    network = LeNet5(activation="tanh")
    noise_mech = NoiseMechanismsFactory.create("Gaussian", norm_bound=cfg.norm_bound,
                                               initial_noise_multiplier=cfg.noise_multiplier)
    model = DPModel(micro_batches=None, norm_bound=cfg.norm_bound, noise_mech=noise_mech, network=network,
                    loss_fn=nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean"),
                    optimizer=nn.Momentum(network.trainable_params(), cfg.learning_rate, cfg.momentum),
                    metrics={"Accuracy": Accuracy()})
    rdp = PrivacyMonitorFactory.create("rdp", num_samples=len(images), batch_size=cfg.batch_size,
                                       target_delta=cfg.target_delta, max_eps=cfg.max_eps,
                                       per_print_times=10 * ds_train.get_dataset_size())
    curve = [TrainingCurve(args.curve, rdp)] if args.curve else []
    model.train(args.epochs, ds_train, callbacks=[rdp, PrivacyProgress(rdp), *curve])

    ds_test = generate_mnist_dataset(folder / "test", cfg.test_batch_size, shuffle=False)
    accuracy = model.eval(ds_test)["Accuracy"]
    spent = rdp.spent()
    print(f"Privacy spent: epsilon = {spent.epsilon:.3f} at delta = {spent.delta:g} "
          f"({spent.kind}: {spent.relation}, {spent.sampling} sampling, one unit = one example)")
    print(f"Test accuracy: {accuracy:.2%}")
    return spent.epsilon, accuracy


if __name__ == "__main__":
    main()
