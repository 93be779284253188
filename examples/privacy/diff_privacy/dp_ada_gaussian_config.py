"""Settings of lenet5_dp_ada_gaussian.py, as in the public documentation: noise that decays with the steps."""
from easydict import EasyDict as edict

from examples.privacy.diff_privacy.lenet5_config import mnist_cfg

ada_gaussian_cfg = edict({
    **mnist_cfg,
    "epoch_size": 5,
    "initial_noise_multiplier": 1.5,
    "noise_mechanisms": "AdaGaussian",
    "noise_decay_rate": 6e-4,
    "decay_policy": "Exp",
})
