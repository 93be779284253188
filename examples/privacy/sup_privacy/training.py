"""Training LeNet-5 with and without suppression; shared by the example and its comparison."""
import mindspore as ms
from mindspore import nn
from mindspore.train import Model

from examples.common.dataset.data_processing import generate_mnist_dataset, mnist_folder
from examples.common.networks.lenet5.lenet5_net import LeNet5
from examples.privacy.sup_privacy.sup_privacy_config import mask_layers, mask_times
from mindarmour.privacy.sup_privacy import SuppressMasker, SuppressModel, SuppressPrivacyFactory


def datasets(data_path, cfg):
    """Shuffled training batches and test batches."""
    folder = mnist_folder(data_path)
    return generate_mnist_dataset(folder / "train", cfg.batch_size), generate_mnist_dataset(folder / "test", 100)


def loss_fn():
    """Cross entropy of integer labels, the mean of the batch."""
    return nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean")


def new_net(cfg):
    """LeNet-5, with the same first weights for the same seed."""
    ms.set_seed(cfg.seed)
    return LeNet5(cfg.num_classes)


def controller(net, cfg, batch_num, *, lr):
    """The controller with the documented settings, its `mask_times` fitted to the data set."""
    times = mask_times(batch_num, cfg.start_epoch, cfg.end_epoch)
    return SuppressPrivacyFactory.create(net, mask_layers(), policy="local_train", end_epoch=cfg.end_epoch,
                                         batch_num=batch_num, start_epoch=cfg.start_epoch, mask_times=times, lr=lr,
                                         sparse_end=cfg.sparse_end, sparse_start=cfg.sparse_start)


def train_ordinary(train_data, cfg, callbacks=()):
    """LeNet-5 trained as usual; returns (network, model)."""
    net = new_net(cfg)
    model = Model(net, loss_fn(), nn.SGD(net.trainable_params(), cfg.lr), metrics={"accuracy"})
    model.train(cfg.end_epoch, train_data, callbacks=list(callbacks), dataset_sink_mode=False)
    return net, model


def train_suppressed(train_data, cfg, callbacks=(), *, progress=False):
    """LeNet-5 trained with suppression; returns (network, model, controller)."""
    net = new_net(cfg)
    model = SuppressModel(net, loss_fn(), nn.SGD(net.trainable_params(), cfg.lr), metrics={"accuracy"})
    ctrl = controller(net, cfg, train_data.get_dataset_size(), lr=cfg.lr)
    model.link_suppress_ctrl(ctrl)
    masker = SuppressMasker(model, ctrl, progress=progress)
    model.train(cfg.end_epoch, train_data, callbacks=[masker, *callbacks], dataset_sink_mode=False)
    return net, model, ctrl
