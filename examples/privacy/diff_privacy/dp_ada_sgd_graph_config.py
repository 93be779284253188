"""Settings of lenet5_dp_ada_sgd_graph.py, as in the public documentation: SGD with step-wise decaying noise."""
from easydict import EasyDict as edict

from examples.privacy.diff_privacy.dp_ada_gaussian_config import ada_gaussian_cfg

ada_sgd_cfg = edict({
    **ada_gaussian_cfg,
    "epoch_size": 20,
    "lr": 0.1,
    "micro_batches": 16,
    "noise_decay_rate": 6e-6,
    "decay_policy": "Step",
    "optimizer": "SGD",
})
