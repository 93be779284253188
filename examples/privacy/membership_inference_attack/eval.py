"""Accuracy of a trained network on its training set and on records it never saw.

    python eval.py [--data_path CIFAR100] --pre_trained checkpoints/0-100_781.ckpt
"""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from mindspore import load_checkpoint, load_param_into_net, nn
from mindspore.train import Accuracy, Model

from examples.privacy.membership_inference_attack.train import parse, start
from examples.privacy.membership_inference_attack.vgg_data import audited_rows, network_of, settings


def main(arguments=None):
    """Run the example; returns the accuracies on members and on non-members."""
    args = parse(__doc__, arguments, lambda parser: parser.add_argument("--pre_trained", required=True))
    start(args)
    cfg = settings(args)
    network = network_of(cfg)
    load_param_into_net(network, load_checkpoint(args.pre_trained))
    model = Model(network, nn.SoftmaxCrossEntropyWithLogits(sparse=True), metrics={"Accuracy": Accuracy()})
    members, others = (model.eval(audited_rows(cfg, members=kind).batch(cfg.batch_size, drop_remainder=True),
                                  dataset_sink_mode=False)["Accuracy"] for kind in (True, False))
    print(f"Accuracy: {members:.4f} on the training set, {others:.4f} on other records")
    return members, others


if __name__ == "__main__":
    main()
