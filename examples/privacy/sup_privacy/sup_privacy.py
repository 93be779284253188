"""Suppress-privacy training of LeNet-5 with the documented settings.

    python examples/privacy/sup_privacy/sup_privacy.py                     # the embedded 5,000 digits, about a minute
    python examples/privacy/sup_privacy/sup_privacy.py --data_path MNIST   # a folder with train and test
    python examples/privacy/sup_privacy/sup_privacy.py --compare --seeds 5 # and attack four networks a seed

Writes a checkpoint of each epoch, with masks and position, and a picture of the sparsity to --output_path.
"""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

import mindspore as ms
from easydict import EasyDict
from mindspore.train.callback import CheckpointConfig, ModelCheckpoint

from examples.common.arguments import example_arguments, use_device
from examples.privacy.sup_privacy.sup_privacy_config import mnist_cfg
from examples.privacy.sup_privacy.training import datasets, train_suppressed
from mindarmour.privacy.sup_privacy import plot_sparsity


def add_flags(parser):
    """Flags beyond those that all examples share."""
    parser.add_argument("--mode", default="graph", choices=("graph", "pynative"))
    parser.add_argument("--output_path", default="trained_ckpt_file")
    parser.add_argument("--compare", action="store_true", help="also train ordinary and DP networks, and attack all")
    parser.add_argument("--seeds", type=int, default=1, help="runs of the comparison")


def settings(args):
    """The documented settings, with what the command line changes."""
    start_epoch = min(mnist_cfg.start_epoch, args.epochs)
    return EasyDict(mnist_cfg, end_epoch=args.epochs, start_epoch=start_epoch, smoke=args.smoke)


def main(arguments=None):
    """Train, evaluate, and report; returns the accuracy and the sparsity."""
    args = example_arguments(__doc__, mnist_cfg.end_epoch, arguments, add_flags)
    ms.set_context(mode=ms.GRAPH_MODE if args.mode == "graph" else ms.PYNATIVE_MODE)
    use_device(args.device_target)
    cfg = settings(args)
    folder = Path(args.output_path)
    folder.mkdir(parents=True, exist_ok=True)
    train_data, test_data = datasets(args.data_path, cfg)
    checkpoint = ModelCheckpoint("checkpoint_lenet_sup", str(folder),
                                 CheckpointConfig(train_data.get_dataset_size(), keep_checkpoint_max=cfg.end_epoch))
    _, model, ctrl = train_suppressed(train_data, cfg, [checkpoint], progress=True)
    accuracy = model.eval(test_data)["accuracy"]
    print(ctrl.progress_line())
    print(f"accuracy {accuracy:.4f}, picture {plot_sparsity(ctrl, folder / 'sparsity.png')}")
    if args.compare:
        from examples.privacy.sup_privacy.compare import compare
        print(compare(args.data_path, cfg, args.seeds, folder / "compare"))
    return accuracy, ctrl.history[-1].total


if __name__ == "__main__":
    main()
