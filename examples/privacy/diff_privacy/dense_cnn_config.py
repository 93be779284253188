"""Settings of dpsgd_dense_cnn.py."""
from easydict import EasyDict as edict

dense_cnn_cfg = edict({
    "data_path": None,  # folder with train/ and test/ in IDX format; None: the embedded 5,000 digits
    "device_target": "CPU",
    "validation_share": 10,  # every tenth training image is held out to choose settings by
    "batch_size": 512,  # expected size of a Poisson batch
    "norm_bound": 1.0,
    "momentum": 0.9,
    "step_eps": 1.0,  # budget of one step, as published
    "step_delta": 1e-7,
    "smoke_steps": 2,
    # the published rows: what they reached, and the total budget that ours must keep
    "rows": [
        {"network": "DENSE", "eps": 13.99, "delta": 3.7e-4, "published": 0.4889, "max_epochs": 100},
        {"network": "CNN", "eps": 2.29, "delta": 1.3e-4, "published": 0.7106, "max_epochs": 100},
        {"network": "CNN", "eps": 3.23, "delta": 2.5e-4, "published": 0.7683, "max_epochs": 200},
    ],
    # 'published': the noise of step_eps and step_delta; 'calibrated': as much noise as the total budget asks for
    "parameters": {
        "published": {"epochs": 80, "learning_rate": 0.05},
        "calibrated": {"epochs": 40, "learning_rate": 0.1},
    },
})
