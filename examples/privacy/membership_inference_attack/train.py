"""Train the network that the membership inference example audits.

    python train.py --data_path CIFAR100 --ckpt_path checkpoints      VGG16 on CIFAR-100 (binary files)
    python train.py                                                   small VGG on 2,500 embedded digits, minutes
"""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

import argparse

import mindspore as ms
from mindspore import nn
from mindspore.train import CheckpointConfig, LossMonitor, Model, ModelCheckpoint

from examples.common.arguments import use_device
from examples.privacy.membership_inference_attack.vgg_data import network_of, settings, training_set


def parse(description, arguments=None, extend=None):
    """The flags that train.py, eval.py and example_vgg_cifar.py share."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_path", help="folder with CIFAR-100's binary files; default: embedded digits")
    parser.add_argument("--device_target", default="CPU", choices=("CPU", "Ascend", "GPU"))
    parser.add_argument("--device_id", type=int, default=0)
    parser.add_argument("--epochs", type=int, help="instead of the number in vgg_config.py")
    parser.add_argument("--batch_size", type=int, help="instead of the size in vgg_config.py")
    parser.add_argument("--image_size", type=int, help="instead of the size in vgg_config.py")
    parser.add_argument("--ckpt_path", default="trained_ckpt_file", help="folder for checkpoints")
    parser.add_argument("--smoke", action="store_true", help="one epoch on few records, to see that it runs")
    if extend is not None:
        extend(parser)
    return parser.parse_args(arguments)


def start(args):
    """Choose device and mode."""
    use_device(args.device_target, args.device_id)
    ms.set_context(mode=ms.GRAPH_MODE)


def train(cfg, ckpt_path):
    """Train with a cosine schedule; returns the network and its last checkpoint."""
    ms.set_seed(1 + cfg.get("seed", 0))
    network, dataset = network_of(cfg), training_set(cfg)
    steps = dataset.get_dataset_size()
    schedule = nn.cosine_decay_lr(cfg.lr_max / 100, cfg.lr_max, steps * cfg.epochs, steps, cfg.epochs)
    optimizer = nn.Momentum(network.trainable_params(), schedule, cfg.momentum, cfg.weight_decay)
    model = Model(network, nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean"), optimizer)
    checkpoints = ModelCheckpoint(prefix="0", directory=str(ckpt_path),
                                  config=CheckpointConfig(save_checkpoint_steps=steps, keep_checkpoint_max=1))
    model.train(cfg.epochs, dataset, callbacks=[LossMonitor(steps), checkpoints], dataset_sink_mode=False)
    return network, checkpoints.latest_ckpt_file_name


def main(arguments=None):
    """Run the example; returns the path of the checkpoint."""
    args = parse(__doc__, arguments)
    start(args)
    _, checkpoint = train(settings(args), args.ckpt_path)
    print(f"Checkpoint: {checkpoint}")
    return checkpoint


if __name__ == "__main__":
    main()
