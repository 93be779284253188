"""LeNet-5 with differential privacy on several ranks: demo.py, data parallel.

Two processes on CPUs:
    msrun --worker_num=2 --local_worker_num=2 --master_port=8118 --join=True --log_dir=logs \
        examples/privacy/diff_privacy/lenet5_dp_distributed.py
Eight Ascend devices:
    msrun --worker_num=8 --local_worker_num=8 --master_port=8118 --join=True --log_dir=logs \
        examples/privacy/diff_privacy/lenet5_dp_distributed.py --device_target Ascend
Without msrun it runs in one process. The batch size is that of all ranks together, so epsilon and the course of
the training are the same on any number of ranks. After an interruption, pass the last checkpoint in --resume.
"""
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

import mindspore as ms
from easydict import EasyDict as edict
from mindspore import nn
from mindspore.communication import get_rank, init
from mindspore.train import Accuracy, CheckpointConfig, ModelCheckpoint

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
)

cfg = edict({
    "epochs": 40,
    "batch_size": 512,  # of all ranks together
    "learning_rate": 0.5,
    "momentum": 0.9,
    "norm_bound": 0.3,
    "noise_multiplier": 2.83,
    "noise_placement": "every_rank",  # or 'rank0'
    "target_delta": 1e-5,
    "max_eps": 4.0,
    "test_batch_size": 200,
    "smoke_examples": 1024,
})


def join_ranks():
    """Join the job that msrun started, if it did; returns this process's rank."""
    if "MS_ROLE" not in os.environ:
        return 0
    init()
    # rank 0's weights for everybody: the ranks start from their own random ones otherwise
    ms.set_auto_parallel_context(parallel_mode="data_parallel", parameter_broadcast=True)
    return get_rank()


def extra_flags(parser):
    parser.add_argument("--checkpoints", help="folder for checkpoints, written by rank 0; default: none are written")
    parser.add_argument("--resume", help="checkpoint to continue from, with the privacy it has spent")


def callbacks_of(rank, folder, monitor, steps):
    """Monitor and progress bar (which print on rank 0 only); checkpoints from rank 0."""
    callbacks = [monitor, PrivacyProgress(monitor)]
    if folder and rank == 0:
        config = CheckpointConfig(save_checkpoint_steps=steps, keep_checkpoint_max=2)
        callbacks.append(ModelCheckpoint(prefix="lenet5", directory=folder, config=config))
    return callbacks


def main(arguments=None):
    """Train; rank 0 prints the privacy spent and the test accuracy. Returns (epsilon, accuracy)."""
    args = example_arguments(__doc__, cfg.epochs, arguments, extra_flags)
    use_device(args.device_target)
    ms.set_context(mode=ms.GRAPH_MODE)
    rank = join_ranks()
    folder = mnist_folder(args.data_path)
    images, labels = mnist_arrays(folder / "train")
    if args.smoke:
        images, labels = images[:cfg.smoke_examples], labels[:cfg.smoke_examples]
    ds_train = PoissonSampler(cfg.batch_size).dataset((images, labels))  # draws from this rank's shard

    network = LeNet5(activation="tanh")
    noise_mech = NoiseMechanismsFactory.create("Gaussian", norm_bound=cfg.norm_bound,
                                               initial_noise_multiplier=cfg.noise_multiplier)
    model = DPModel(micro_batches=None, norm_bound=cfg.norm_bound, noise_mech=noise_mech, network=network,
                    loss_fn=nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean"),
                    optimizer=nn.Momentum(network.trainable_params(), cfg.learning_rate, cfg.momentum),
                    metrics={"Accuracy": Accuracy()}, noise_placement=cfg.noise_placement)
    if args.resume:
        model.restore(args.resume)
    steps = ds_train.get_dataset_size()
    rdp = PrivacyMonitorFactory.create("rdp", num_samples=len(images), batch_size=cfg.batch_size,
                                       target_delta=cfg.target_delta, max_eps=cfg.max_eps, per_print_times=10 * steps)
    model.train(args.epochs, ds_train, callbacks=callbacks_of(rank, args.checkpoints, rdp, steps))

    accuracy = model.eval(generate_mnist_dataset(folder / "test", cfg.test_batch_size, shuffle=False))["Accuracy"]
    spent = rdp.spent()
    if rank == 0:
        print(f"Privacy spent: epsilon = {spent.epsilon:.3f} at delta = {spent.delta:g} ({spent.kind}: "
              f"{spent.relation}, {spent.sampling} sampling, one unit = one example)\nTest accuracy: {accuracy:.2%}")
    return spent.epsilon, accuracy


if __name__ == "__main__":
    main()
