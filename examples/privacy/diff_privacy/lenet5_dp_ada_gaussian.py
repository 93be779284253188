"""LeNet-5 with Gaussian noise that decays with the steps, in PyNative mode.

    python lenet5_dp_ada_gaussian.py [--data_path MNIST] [--device_target Ascend] [--epochs N] [--smoke]
"""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

import mindspore as ms
from mindspore import nn
from mindspore.train import Accuracy

from examples.common.arguments import use_device
from examples.common.networks.lenet5.lenet5_net import LeNet5
from examples.privacy.diff_privacy.dp_ada_gaussian_config import ada_gaussian_cfg
from examples.privacy.diff_privacy.training import parse, train_and_evaluate
from mindarmour.privacy.diff_privacy import DPModel, NoiseMechanismsFactory


def main(arguments=None):
    """Run the example; returns (epsilon, accuracy)."""
    cfg = parse(__doc__, ada_gaussian_cfg, arguments)
    use_device(cfg.device_target)
    ms.set_context(mode=ms.PYNATIVE_MODE)
    network = LeNet5()
    net_loss = nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean")
    noise_mech = NoiseMechanismsFactory().create(cfg.noise_mechanisms, norm_bound=cfg.norm_bound,
                                                 initial_noise_multiplier=cfg.initial_noise_multiplier,
                                                 noise_decay_rate=cfg.noise_decay_rate,
                                                 decay_policy=cfg.decay_policy)
    net_opt = nn.Momentum(params=network.trainable_params(), learning_rate=cfg.lr, momentum=cfg.momentum)
    model = DPModel(micro_batches=cfg.micro_batches, norm_bound=cfg.norm_bound, noise_mech=noise_mech,
                    network=network, loss_fn=net_loss, optimizer=net_opt, metrics={"Accuracy": Accuracy()})
    return train_and_evaluate(cfg, network, model)


if __name__ == "__main__":
    main()
