"""What the Ascend report compiles: one call per subject, small networks of every kind of layer."""
import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops
from mindspore.common.initializer import Normal

from examples.common.networks.lenet5.lenet5_net import LeNet5
from mindarmour.privacy.diff_privacy import (
    ClipMechanismsFactory,
    DPModel,
    DPOptimizerClassFactory,
    NoiseMechanismsFactory,
    clipped_gradient_fn,
)
from mindarmour.privacy.release import DPSGD, ModelSanitizer
from mindarmour.privacy.sup_privacy import (
    MaskLayerDes,
    SuppressMasker,
    SuppressModel,
    SuppressPrivacyFactory,
)

ROWS = 4


class NormNet(nn.Cell):
    """Convolutions with bias, GroupNorm, a depthwise convolution, pooling."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, has_bias=True)
        self.norm = nn.GroupNorm(2, 4)
        self.depthwise = nn.Conv2d(4, 4, 3, group=4)
        self.pool = nn.AvgPool2d(2, 2)
        self.flatten = nn.Flatten()
        self.head = nn.Dense(4 * 4 * 4, 3)

    def construct(self, x):
        x = self.depthwise(self.norm(self.conv(x)).tanh())
        return self.head(self.flatten(self.pool(x)))


class TextNet(nn.Cell):
    """Embedding, LayerNorm and a dense layer over positions."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(11, 6, embedding_table=Normal(1.0))
        self.norm = nn.LayerNorm((6,))
        self.dense = nn.Dense(6, 6, activation="relu")
        self.head = nn.Dense(6, 3)

    def construct(self, tokens):
        return self.head(self.dense(self.norm(self.embedding(tokens))).mean(axis=1))


def images(channels, size):
    rng = np.random.default_rng(0)
    return Tensor(rng.normal(size=(ROWS, channels, size, size)).astype(np.float32)), labels()


def labels():
    return Tensor(np.arange(ROWS, dtype=np.int32) % 3)


def loss_fn():
    return nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean")


def private_step(network, columns, optimizer, *, engine="ghost", decay=None, **arguments):
    clip = None if decay is None else ClipMechanismsFactory.create("Gaussian", decay, fraction_stddev=0.05)
    model = DPModel(micro_batches=None, norm_bound=1.0, clip_mech=clip, network=network, loss_fn=loss_fn(),
                    noise_mech=NoiseMechanismsFactory.create("Gaussian", 1.0, 1.0), optimizer=optimizer,
                    engine=engine, **arguments)
    model.train_network(*columns).asnumpy()


def ghost_lenet():
    network = LeNet5()
    private_step(network, images(1, 32), nn.Momentum(network.trainable_params(), 0.1, 0.9), decay="Linear")


def ghost_norm():
    network = NormNet()
    private_step(network, images(2, 8), nn.Adam(network.trainable_params()), decay="Geometric")


def ghost_text():
    network = TextNet()
    tokens = Tensor(np.arange(ROWS * 5, dtype=np.int32).reshape(ROWS, 5) % 11)
    private_step(network, (tokens, labels()), nn.SGD(network.trainable_params(), 0.1))


class VolumeNet(nn.Cell):
    """Convolutions in one and three dimensions, PReLU."""

    def __init__(self):
        super().__init__()
        self.volume = nn.Conv3d(1, 2, 3)
        self.prelu = nn.PReLU(2)
        self.line = nn.Conv1d(2, 3, 3, pad_mode="valid")
        self.head = nn.Dense(3 * 14, 3)

    def construct(self, x):
        x = self.prelu(self.volume(x)).mean(axis=4)
        x = self.line(x.reshape(x.shape[0], 2, 16))
        return self.head(x.reshape(x.shape[0], 42))


class AttentionNet(nn.Cell):
    """One encoder layer of a transformer."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.TransformerEncoderLayer(8, 2, dim_feedforward=8, dropout=0.0, batch_first=True)
        self.head = nn.Dense(8, 3)

    def construct(self, x):
        return self.head(self.encoder(x).mean(axis=1))


class SequenceNet(nn.Cell):
    """One recurrent layer of each kind."""

    def __init__(self):
        super().__init__()
        # Ascend's recurrent kernels want hidden sizes that 16 divides
        self.layers = nn.CellList([nn.RNN(3, 16), nn.GRU(16, 16), nn.LSTM(16, 16)])
        self.head = nn.Dense(16, 3)

    def construct(self, x):
        x = x.swapaxes(0, 1)
        for layer in self.layers:
            x = layer(x)[0]
        return self.head(x.mean(axis=0))


def ghost_sequence():
    network = SequenceNet()
    columns = Tensor(np.random.default_rng(0).normal(size=(ROWS, 3, 3)).astype(np.float32)), labels()
    private_step(network, columns, nn.SGD(network.trainable_params(), 0.1))


def ghost_volume():
    network = VolumeNet()
    columns = Tensor(np.ones((ROWS, 1, 4, 4, 4), np.float32)), labels()
    private_step(network, columns, nn.SGD(network.trainable_params(), 0.1))


def ghost_attention():
    network = AttentionNet()
    columns = Tensor(np.random.default_rng(0).normal(size=(ROWS, 5, 8)).astype(np.float32)), labels()
    private_step(network, columns, nn.SGD(network.trainable_params(), 0.1))


def vmap_dense():
    network = nn.SequentialCell(nn.Dense(6, 5), nn.Tanh(), nn.Dense(5, 3))
    columns = Tensor(np.ones((ROWS, 6), np.float32)), labels()
    private_step(network, columns, nn.SGD(network.trainable_params(), 0.1), engine="vmap")


def vmap_convolution():
    network = nn.SequentialCell(nn.Conv2d(2, 3, 3), nn.Tanh(), nn.Flatten(), nn.Dense(3 * 36, 3))
    private_step(network, images(2, 6), nn.SGD(network.trainable_params(), 0.1), engine="vmap")


def loop_dense():
    network = nn.SequentialCell(nn.Dense(6, 5), nn.Tanh(), nn.Dense(5, 3))
    columns = Tensor(np.ones((ROWS, 6), np.float32)), labels()
    private_step(network, columns, nn.SGD(network.trainable_params(), 0.1), engine="loop")


def suppress_step():
    network = nn.SequentialCell(nn.Dense(6, 5), nn.Tanh(), nn.Dense(5, 3))
    data = ms.dataset.NumpySlicesDataset((np.ones((8, 6), np.float32), np.zeros(8, np.int32)), ["x", "y"],
                                         shuffle=False).batch(4)
    model = SuppressModel(network, loss_fn(), nn.Momentum(network.trainable_params(), 0.05, 0.9))
    control = SuppressPrivacyFactory.create(network, [MaskLayerDes("0.weight", 0, False, False, -1)], end_epoch=3,
                                            batch_num=2, start_epoch=1, mask_times=5, lr=0.05, sparse_end=0.5)
    model.link_suppress_ctrl(control)
    model.train(3, data, callbacks=[SuppressMasker(model, control)])


def evaluators_forward():
    network = LeNet5()
    network.set_train(False)
    network(images(1, 32)[0]).asnumpy()


class _InputGradient(nn.Cell):
    """What the inversion attacks differentiate: a loss with respect to the input."""

    def __init__(self, network):
        super().__init__()
        self.gradient = ops.grad(network)

    def construct(self, x):
        return self.gradient(x)


def evaluators_gradient():
    _InputGradient(LeNet5())(images(1, 32)[0]).asnumpy()


def custom_loops():
    """A DP optimizer, DPSGD and the sanitizer, called by hand."""
    columns = Tensor(np.ones((ROWS, 6), np.float32)), labels()
    factory = DPOptimizerClassFactory(micro_batches=ROWS)
    factory.set_mechanisms("Gaussian", norm_bound=1.0, initial_noise_multiplier=1.0)
    for make in (factory.create("Momentum"), DPSGD):
        network = nn.Dense(6, 3)
        settings = {"momentum": 0.9} if make is not DPSGD else {}
        optimizer = make(network.trainable_params(), learning_rate=0.1, **settings)
        result = clipped_gradient_fn(network, loss_fn())(*columns)
        optimizer(result.total if make is not DPSGD else result)
    network = nn.Dense(6, 3)
    ModelSanitizer(epochs=1, eps1=1.0, eps3=1.0, base_model=network).sanitize(network)


VMAP_CONVOLUTION = "DPModel, vmap engine: convolution"
SUBJECTS = {
    "DPModel, ghost engine: LeNet-5, Momentum, linear adaptive bound": ghost_lenet,
    "DPModel, ghost engine: convolutions, GroupNorm, Adam, geometric adaptive bound": ghost_norm,
    "DPModel, ghost engine: embedding, LayerNorm, SGD": ghost_text,
    "DPModel, ghost engine: 3-D and 1-D convolutions, PReLU": ghost_volume,
    "DPModel, ghost engine: transformer encoder": ghost_attention,
    "DPModel, ghost engine: RNN, GRU, LSTM": ghost_sequence,
    "DPModel, vmap engine: dense layers": vmap_dense,
    VMAP_CONVOLUTION: vmap_convolution,
    "DPModel, loop engine: dense layers": loop_dense,
    "Custom loops: DP optimizer, DPSGD, sanitizer": custom_loops,
    "SuppressModel": suppress_step,
    "Evaluators: forward pass": evaluators_forward,
    "Evaluators: gradient of the input": evaluators_gradient,
}
