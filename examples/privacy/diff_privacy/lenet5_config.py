"""Settings of lenet5_dp.py and lenet5_dp_optimizer.py, as in the public tutorial.

They show the documented interface. Their units are micro-batches of 8 examples in a shuffled partition, which
gives next to no protection: the monitor says so. demo.py has settings with a real guarantee.
"""
from easydict import EasyDict as edict

mnist_cfg = edict({
    "num_classes": 10,  # classes of the data set
    "lr": 0.01,  # learning rate
    "momentum": 0.9,
    "epoch_size": 10,
    "batch_size": 256,
    "image_height": 32,
    "image_width": 32,
    "save_checkpoint_steps": 234,
    "keep_checkpoint_max": 10,
    "device_target": "CPU",
    "data_path": None,  # folder with train/ and test/ in IDX format; None: the embedded 5,000 digits
    "dataset_sink_mode": False,
    "micro_batches": 32,  # units per batch
    "norm_bound": 1.0,  # clipping bound of the first step
    "initial_noise_multiplier": 1.0,  # standard deviation of the noise divided by the bound
    "noise_mechanisms": "Gaussian",
    "clip_mechanisms": "Gaussian",
    "clip_decay_policy": "Linear",  # how the bound adapts: 'Linear' or 'Geometric'
    "clip_learning_rate": 0.001,
    "target_unclipped_quantile": 0.9,
    "fraction_stddev": 0.01,  # noise on the fraction of unclipped units
    "optimizer": "Momentum",
    "target_delta": 1e-5,
})
