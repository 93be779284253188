"""The public tutorial's script as a user has it: only its two removed dataset imports are updated.

    python tutorial_lenet5_dp.py FOLDER graph|pynative      (FOLDER holds train/ and test/ of MNIST: 60,000 images)
"""
import os
import sys

import mindspore.dataset as ds
import mindspore.dataset.transforms as C
import mindspore.dataset.vision as CV
import mindspore.nn as nn
from easydict import EasyDict as edict
from mindspore import context, load_checkpoint, load_param_into_net
from mindspore.common import dtype as mstype
from mindspore.dataset.vision import Inter
from mindspore.nn import Accuracy
from mindspore.train import Model
from mindspore.train.callback import CheckpointConfig, LossMonitor, ModelCheckpoint

from mindarmour.privacy.diff_privacy import (
    ClipMechanismsFactory,
    DPModel,
    NoiseMechanismsFactory,
    PrivacyMonitorFactory,
)
from mindarmour.utils.logger import LogUtil

LOGGER = LogUtil.get_instance()
LOGGER.set_level("INFO")
TAG = "Lenet5_train"

cfg = edict({
    "num_classes": 10, "lr": 0.01, "momentum": 0.9, "epoch_size": 1, "batch_size": 256, "image_height": 32,
    "image_width": 32, "save_checkpoint_steps": 234, "keep_checkpoint_max": 10, "device_target": "CPU",
    "data_path": sys.argv[1], "dataset_sink_mode": False, "micro_batches": 32, "norm_bound": 1.0,
    "initial_noise_multiplier": 0.05, "noise_mechanisms": "Gaussian", "clip_mechanisms": "Gaussian",
    "clip_decay_policy": "Linear", "clip_learning_rate": 0.001, "target_unclipped_quantile": 0.9,
    "fraction_stddev": 0.01, "optimizer": "Momentum"})


def generate_mnist_dataset(data_path, batch_size=32, repeat_size=1, num_parallel_workers=1, sparse=True):
    mnist = ds.MnistDataset(data_path)
    size = (32, 32)
    mnist = mnist.map(operations=C.TypeCast(mstype.int32), input_columns="label",
                      num_parallel_workers=num_parallel_workers)
    if not sparse:
        mnist = mnist.map(operations=C.OneHot(10), input_columns="label")
    mnist = mnist.map(operations=[CV.Resize(size, interpolation=Inter.LINEAR), CV.Rescale(1.0 / 255.0, 0.0),
                                  CV.HWC2CHW()],
                      input_columns="image", num_parallel_workers=num_parallel_workers)
    mnist = mnist.shuffle(buffer_size=10000)
    return mnist.batch(batch_size, drop_remainder=True).repeat(repeat_size)


class LeNet5(nn.Cell):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5, pad_mode="valid", weight_init="Uniform")
        self.conv2 = nn.Conv2d(6, 16, 5, pad_mode="valid")
        self.fc1 = nn.Dense(16 * 5 * 5, 120)
        self.fc2 = nn.Dense(120, 84)
        self.fc3 = nn.Dense(84, 10)
        self.relu = nn.ReLU()
        self.max_pool2d = nn.MaxPool2d(kernel_size=2, stride=2)
        self.flatten = nn.Flatten()

    def construct(self, x):
        x = self.max_pool2d(self.relu(self.conv1(x)))
        x = self.max_pool2d(self.relu(self.conv2(x)))
        x = self.flatten(x)
        return self.fc3(self.relu(self.fc2(self.relu(self.fc1(x)))))


if __name__ == "__main__":
    mode = context.GRAPH_MODE if sys.argv[2] == "graph" else context.PYNATIVE_MODE
    context.set_context(mode=mode, device_target=cfg.device_target)
    network = LeNet5()
    net_loss = nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean")
    config_ck = CheckpointConfig(save_checkpoint_steps=cfg.save_checkpoint_steps,
                                 keep_checkpoint_max=cfg.keep_checkpoint_max)
    ckpoint_cb = ModelCheckpoint(prefix="checkpoint_lenet", directory="./trained_ckpt_file/", config=config_ck)
    ds_train = generate_mnist_dataset(os.path.join(cfg.data_path, "train"), cfg.batch_size)
    if cfg.micro_batches and cfg.batch_size % cfg.micro_batches != 0:
        raise ValueError("Number of micro_batches should divide evenly batch_size")

    noise_mech = NoiseMechanismsFactory().create(cfg.noise_mechanisms, norm_bound=cfg.norm_bound,
                                                 initial_noise_multiplier=cfg.initial_noise_multiplier,
                                                 decay_policy=None)
    clip_mech = ClipMechanismsFactory().create(cfg.clip_mechanisms, decay_policy=cfg.clip_decay_policy,
                                               learning_rate=cfg.clip_learning_rate,
                                               target_unclipped_quantile=cfg.target_unclipped_quantile,
                                               fraction_stddev=cfg.fraction_stddev)
    net_opt = nn.Momentum(params=network.trainable_params(), learning_rate=cfg.lr, momentum=cfg.momentum)
    rdp_monitor = PrivacyMonitorFactory.create("rdp", num_samples=60000, batch_size=cfg.batch_size,
                                               initial_noise_multiplier=cfg.initial_noise_multiplier,
                                               per_print_times=234, noise_decay_mode=None)
    model = DPModel(micro_batches=cfg.micro_batches, norm_bound=cfg.norm_bound, noise_mech=noise_mech,
                    clip_mech=clip_mech, network=network, loss_fn=net_loss, optimizer=net_opt,
                    metrics={"Accuracy": Accuracy()})
    assert isinstance(model, Model)

    LOGGER.info(TAG, "============== Starting Training ==============")
    model.train(cfg["epoch_size"], ds_train, callbacks=[ckpoint_cb, LossMonitor(), rdp_monitor],
                dataset_sink_mode=cfg.dataset_sink_mode)

    LOGGER.info(TAG, "============== Starting Testing ==============")
    ckpt_file_name = "trained_ckpt_file/checkpoint_lenet-1_234.ckpt"
    param_dict = load_checkpoint(ckpt_file_name)
    load_param_into_net(network, param_dict)
    ds_eval = generate_mnist_dataset(os.path.join(cfg.data_path, "test"), batch_size=cfg.batch_size)
    acc = model.eval(ds_eval, dataset_sink_mode=False)
    LOGGER.info(TAG, "============== Accuracy: %s  ==============", acc)
    print("accuracy", acc["Accuracy"])
