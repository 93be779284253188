"""What is compiled besides the steps of `tools.ascend_subjects`: whole trainings, attacks, several ranks, and
operators that must be refused."""
from __future__ import annotations

import tempfile
from typing import Callable

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from examples.common.networks.lenet5.lenet5_net import LeNet5
from examples.common.networks.lenet5.lenet5_split import Conv1Decoder, LeNet5Front, ShadowFront, SplitLeNet5
from mindarmour.privacy.diff_privacy import (
    DPModel,
    DPOptimizerClassFactory,
    NoiseMechanismsFactory,
    PoissonSampler,
    clipped_gradient_fn,
)
from mindarmour.privacy.evaluation import ImageInversionAttack, ModelInversionAttack, ShadowModelAttack
from mindarmour.privacy.evaluation.inversion.gradient_matching import GradientMatcher, cosine_distance
from tools.ascend_subjects import SUBJECTS, ghost_lenet, images, loop_dense, loss_fn


def training() -> None:
    """Three epochs of DPModel.train on a Poisson sampler: new noise at each step must not compile again."""
    rng = np.random.default_rng(0)
    data = PoissonSampler(batch_size=16).dataset(
        (rng.normal(size=(64, 1, 32, 32)).astype(np.float32), (np.arange(64) % 10).astype(np.int32)))
    network = LeNet5()
    model = DPModel(micro_batches=None, norm_bound=1.0, network=network, loss_fn=loss_fn(),
                    noise_mech=NoiseMechanismsFactory.create("Gaussian", 1.0, 1.0),
                    optimizer=nn.Momentum(network.trainable_params(), 0.1, 0.9))
    model.train(3, data)


def _pictures() -> ms.dataset.Dataset:
    arrays = np.zeros((8, 1, 32, 32), np.float32), np.zeros(8, np.int32)
    return ms.dataset.NumpySlicesDataset(arrays, ["image", "label"], shuffle=False).batch(4)


def inversion_by_decoder() -> None:
    """Train the decoder of `ModelInversionAttack`."""
    with tempfile.TemporaryDirectory() as folder:
        attack = ModelInversionAttack(SplitLeNet5(), Conv1Decoder(), (1, 32, 32), ckpoint_path=folder,
                                      split_layer="conv1")
        attack.train_inversion_model(_pictures(), epochs=1)


def inversion_by_shadow() -> None:
    """Train the shadow of `ShadowModelAttack`."""
    with tempfile.TemporaryDirectory() as folder:
        attack = ShadowModelAttack(SplitLeNet5(), ShadowFront("conv1"), folder, "conv1")
        attack.train_shadow_model(_pictures(), {"epochs": 1})


def inversion_of_features() -> None:
    """Descend on images for `ImageInversionAttack`."""
    network = SplitLeNet5()
    network.set_train(False)
    front = LeNet5Front(network, "conv1")
    features = front(images(1, 32)[0]).asnumpy()
    ImageInversionAttack(front, (1, 32, 32), (-1.0, 1.0)).generate(features, iters=2, seed=0)


def inversion_of_gradients() -> None:
    """Distance and derivative of `GradientInversion`; its search would first check them by their values."""
    network = nn.SequentialCell(nn.Flatten(), nn.Dense(64, 8, activation="sigmoid"), nn.Dense(8, 3))
    gradients = [np.full(parameter.shape, 0.01) for parameter in network.trainable_params()]
    matcher = GradientMatcher(network, loss_fn(), gradients, cosine_distance, soft_labels=False)
    matcher.value_and_grad(np.zeros((1, 1, 8, 8), np.float32), np.zeros(1, np.int32))


def dp_optimizer() -> None:
    """A clipped sum over the ranks, handed to a DP optimizer."""
    factory = DPOptimizerClassFactory(micro_batches=4)
    factory.set_mechanisms("Gaussian", norm_bound=1.0, initial_noise_multiplier=1.0)
    network = LeNet5()
    optimizer = factory.create("Momentum")(network.trainable_params(), learning_rate=0.1, momentum=0.9)
    optimizer(clipped_gradient_fn(network, loss_fn())(*images(1, 32)).total)


class _Network(nn.Cell):
    def __init__(self, operator: Callable):
        super().__init__()
        self.operator = operator

    def construct(self, *inputs):
        return self.operator(*inputs)


def operator_without_kernel() -> None:
    """Ascend has no Quantile."""
    quantile = ops.operations.math_ops.Quantile(0)
    _Network(quantile)(Tensor(np.ones(4, np.float32)), Tensor(np.ones(1, np.float32))).asnumpy()


def dtype_without_kernel() -> None:
    """Ascend's MaxPool does not take bfloat16."""
    _Network(ops.MaxPool(2, 2))(Tensor(np.ones((1, 1, 4, 4)), ms.bfloat16)).asnumpy()


def recurrent_size_without_kernel() -> None:
    """Ascend's GRU wants a hidden size that 16 divides."""
    nn.GRU(3, 4)(Tensor(np.ones((5, 2, 3), np.float32)))


TRAINING = {"DPModel.train: LeNet-5, Poisson sampling": training}
CONTROLS = {"Quantile, which has no kernel": operator_without_kernel,
            "MaxPool of bfloat16, which has no kernel": dtype_without_kernel,
            "GRU of hidden size 4": recurrent_size_without_kernel}
ATTACKS = {"ModelInversionAttack: training of the decoder": inversion_by_decoder,
           "ShadowModelAttack: training of the shadow": inversion_by_shadow,
           "ImageInversionAttack": inversion_of_features,
           "GradientInversion: distance and derivative": inversion_of_gradients}
RANKS = {"Rank 0 of 8: ghost engine": ghost_lenet, "Rank 0 of 8: DP optimizer": dp_optimizer,
         "Rank 0 of 8: loop engine": loop_dense}
GROUPS = {"steps": SUBJECTS, "training": TRAINING, "attacks": ATTACKS, "ranks": RANKS, "controls": CONTROLS}
