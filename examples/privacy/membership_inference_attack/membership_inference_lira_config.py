"""Settings of the LiRA example."""
from easydict import EasyDict as edict

cfg = edict({
    "num_models": 16,
    "image_size": 14,
    "hidden": 64,
    "label_noise": 0.1,          # share of random labels, which a network can only remember
    "seed": 0,
    "tpr_at": (0.1, 0.01, 0.001),
    "plain": edict({"epochs": 60, "batch_size": 100, "learning_rate": 0.003}),
    "dp": edict({"epsilon": 3.0, "delta": 1e-5, "epochs": 3, "batch_size": 50, "learning_rate": 0.03,
                 "momentum": 0.9, "norm_bound": 2.0}),
})
