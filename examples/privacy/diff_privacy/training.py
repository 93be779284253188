"""What the documented LeNet-5 scripts share: data, callbacks, training, loading the checkpoint, evaluation."""
from pathlib import Path

from mindspore import load_checkpoint, load_param_into_net
from mindspore.train import CheckpointConfig, LossMonitor, ModelCheckpoint

from examples.common.arguments import example_arguments
from examples.common.dataset.data_processing import generate_mnist_dataset, mnist_folder, mnist_images
from mindarmour.privacy.diff_privacy import PrivacyMonitorFactory, PrivacyProgress

CHECKPOINT_FOLDER = Path("trained_ckpt_file")


def parse(description, cfg, arguments=None):
    """Command line over the settings: returns `cfg` with data_path, device_target and epoch_size replaced."""
    args = example_arguments(description, cfg.epoch_size, arguments)
    cfg = type(cfg)({**cfg, "data_path": str(mnist_folder(args.data_path)), "device_target": args.device_target,
                     "epoch_size": args.epochs})
    if cfg.batch_size % cfg.micro_batches:
        raise ValueError(f"micro_batches must divide batch_size, but {cfg.micro_batches} does not divide "
                         f"{cfg.batch_size}.")
    return cfg


def train_and_evaluate(cfg, network, model):
    """Train with checkpoints, losses and the RDP monitor, load the last checkpoint, evaluate.

    Returns:
        tuple, (epsilon, accuracy).
    """
    ds_train = generate_mnist_dataset(Path(cfg.data_path) / "train", cfg.batch_size)
    steps = ds_train.get_dataset_size()
    num_samples = mnist_images(Path(cfg.data_path) / "train").get_dataset_size()
    rdp = PrivacyMonitorFactory.create("rdp", num_samples=num_samples, batch_size=cfg.batch_size,
                                       initial_noise_multiplier=cfg.initial_noise_multiplier,
                                       target_delta=cfg.target_delta, per_print_times=steps)
    checkpoints = ModelCheckpoint(prefix="checkpoint_lenet", directory=str(CHECKPOINT_FOLDER),
                                  config=CheckpointConfig(save_checkpoint_steps=min(cfg.save_checkpoint_steps, steps),
                                                          keep_checkpoint_max=cfg.keep_checkpoint_max))
    print("============== Starting Training ==============")
    model.train(cfg.epoch_size, ds_train, callbacks=[checkpoints, LossMonitor(steps), rdp, PrivacyProgress(rdp)],
                dataset_sink_mode=cfg.dataset_sink_mode)

    print("============== Starting Testing ==============")
    load_param_into_net(network, load_checkpoint(checkpoints.latest_ckpt_file_name))
    ds_eval = generate_mnist_dataset(Path(cfg.data_path) / "test", cfg.batch_size)
    accuracy = model.eval(ds_eval, dataset_sink_mode=False)["Accuracy"]
    spent = rdp.spent()
    print(f"============== Accuracy: {accuracy:.4f}  eps: {spent.epsilon:.4g}  delta: {spent.delta:g}  ==============")
    return spent.epsilon, accuracy
