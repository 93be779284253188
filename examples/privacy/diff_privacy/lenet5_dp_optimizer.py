"""LeNet-5 with an optimizer that brings the noise, and an adaptive clipping bound.

    python lenet5_dp_optimizer.py [--data_path MNIST] [--device_target Ascend] [--epochs N] [--smoke]
"""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

import mindspore as ms
from mindspore import nn
from mindspore.train import Accuracy

from examples.common.arguments import use_device
from examples.common.networks.lenet5.lenet5_net import LeNet5
from examples.privacy.diff_privacy.lenet5_config import mnist_cfg
from examples.privacy.diff_privacy.training import parse, train_and_evaluate
from mindarmour.privacy.diff_privacy import ClipMechanismsFactory, DPModel, DPOptimizerClassFactory


def main(arguments=None):
    """Run the example; returns (epsilon, accuracy)."""
    cfg = parse(__doc__, mnist_cfg, arguments)
    use_device(cfg.device_target)
    ms.set_context(mode=ms.GRAPH_MODE)
    network = LeNet5()
    net_loss = nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean")
    clip_mech = ClipMechanismsFactory().create(cfg.clip_mechanisms, decay_policy=cfg.clip_decay_policy,
                                               learning_rate=cfg.clip_learning_rate,
                                               target_unclipped_quantile=cfg.target_unclipped_quantile,
                                               fraction_stddev=cfg.fraction_stddev)
    factory = DPOptimizerClassFactory(micro_batches=cfg.micro_batches)
    factory.set_mechanisms(cfg.noise_mechanisms, norm_bound=cfg.norm_bound,
                           initial_noise_multiplier=cfg.initial_noise_multiplier)
    net_opt = factory.create(cfg.optimizer)(params=network.trainable_params(), learning_rate=cfg.lr,
                                            momentum=cfg.momentum)
    model = DPModel(micro_batches=cfg.micro_batches, norm_bound=cfg.norm_bound, clip_mech=clip_mech,
                    network=network, loss_fn=net_loss, optimizer=net_opt, metrics={"Accuracy": Accuracy()})
    return train_and_evaluate(cfg, network, model)


if __name__ == "__main__":
    main()
