"""Networks, data and models that the ranks and the tests that judge them must build alike."""
import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

from mindarmour.privacy.diff_privacy import (
    ClipMechanismsFactory,
    DPModel,
    NoiseMechanismsFactory,
    PoissonSampler,
    PrivacyMonitorFactory,
)

BOUND, MULTIPLIER, ROWS, SILENT = 0.5, 1.5, 8, 20000
RECORDS, BATCH, DELTA = 1501, 256, 1e-4
SEEDS = (1, 2, 3)


def loss_fn():
    return nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean")


def mlp(widths=(6, 5, 3), seed=0):
    """A tanh network whose weights follow from `seed` alone."""
    rng = np.random.default_rng(seed)
    layers = []
    for inputs, outputs in zip(widths, widths[1:]):
        weight = Tensor((rng.normal(size=(outputs, inputs)) / inputs ** 0.5).astype(np.float32))
        layers += [nn.Dense(inputs, outputs, weight_init=weight, bias_init="zeros"), nn.Tanh()]
    return nn.SequentialCell(layers[:-1])


class Silent(nn.Cell):
    """A network without gradient: its update is pure noise."""

    def __init__(self):
        super().__init__()
        self.weight = ms.Parameter(Tensor(np.zeros(SILENT), ms.float32), name="weight")

    def construct(self, x):
        return (self.weight.sum() * 0.0) * x


def union_batch(step):
    """16 rows; rank r takes rows 8 r to 8 r + 7. The last row of each half is padding."""
    rng = np.random.default_rng(100 + step)
    inputs = rng.normal(size=(2 * ROWS, 6)).astype(np.float32)
    is_real = np.tile(np.arange(ROWS) < ROWS - 1, 2).astype(np.float32)
    return inputs, rng.integers(0, 3, 2 * ROWS).astype(np.int32), is_real


def half(columns, rank):
    return [Tensor(column[rank * ROWS:(rank + 1) * ROWS]) for column in columns]


def weights(network):
    return np.concatenate([parameter.asnumpy().ravel() for parameter in network.trainable_params()])


def dp_model(network, *, seed=0, clip=None, multiplier=MULTIPLIER, rate=1.0, loss=True, **arguments):
    noise = NoiseMechanismsFactory.create("Gaussian", BOUND, multiplier, seed=seed)
    return DPModel(micro_batches=None, norm_bound=BOUND, noise_mech=noise, clip_mech=clip, network=network,
                   loss_fn=loss_fn() if loss else None, optimizer=nn.SGD(network.trainable_params(), rate), **arguments)


def adaptive():
    return ClipMechanismsFactory.create("Gaussian", learning_rate=0.2, target_unclipped_quantile=0.5,
                                        fraction_stddev=0.05)


def digits():
    """(train images, train labels), (test images, test labels): real 8x8 digits of scikit-learn."""
    from sklearn.datasets import load_digits
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    images, labels = (images[order] / 16 - 0.3).astype(np.float32), labels[order].astype(np.int32)
    return (images[:RECORDS], labels[:RECORDS]), (images[RECORDS:], labels[RECORDS:])


def monitor(**arguments):
    return PrivacyMonitorFactory.create("rdp", RECORDS, BATCH, noise_decay_mode=None, target_delta=DELTA,
                                        per_print_times=18, **arguments)


def train_digits(seed, epochs=6):
    """(model, epsilon, test accuracy) of one run."""
    train, (images, labels) = digits()
    network = mlp((64, 32, 10), seed)
    model = dp_model(network, rate=2.0, clip=adaptive())
    rdp = monitor()
    model.train(epochs, PoissonSampler(BATCH).dataset(train), callbacks=rdp)
    accuracy = float((network(Tensor(images)).asnumpy().argmax(axis=1) == labels).mean())
    return model, rdp.spent().epsilon, accuracy
