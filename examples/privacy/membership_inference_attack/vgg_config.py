"""Settings of the VGG examples."""
from easydict import EasyDict as edict

cifar100_cfg = edict({
    "num_classes": 100,
    "image_size": 224,
    "training_records": None,    # all
    "epochs": 100,
    "batch_size": 64,
    "lr_max": 0.01,
    "momentum": 0.9,
    "weight_decay": 5e-4,
    "attack_records": 10000,     # of each kind
    "train_share": 0.8,          # of them to fit the attack, the rest to judge it
    "dp": None,                  # on a CPU a private VGG16 takes days
})

digits_cfg = edict({
    "num_classes": 10,
    "image_size": 32,
    "training_records": None,
    "epochs": 15,
    "batch_size": 100,
    "lr_max": 0.02,
    "momentum": 0.9,
    "weight_decay": 0.0,
    "attack_records": 2500,
    "train_share": 0.6,
    "label_noise": 0.1,          # share of random labels, which the network can only remember
    "seed": 0,
    "dp": edict({"epsilon": 3.0, "delta": 1e-5, "epochs": 2, "batch_size": 32, "learning_rate": 0.03, "momentum": 0.9,
                 "norm_bound": 1.0}),
})
