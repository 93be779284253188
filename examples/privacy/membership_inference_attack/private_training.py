"""Differentially private training to a given epsilon, shared by the membership inference examples."""
from mindspore import nn

from mindarmour.privacy.accounting.calibration import noise_multiplier_for
from mindarmour.privacy.diff_privacy import DPModel, NoiseMechanismsFactory, PoissonSampler
from mindarmour.privacy.diff_privacy.sampling.claims import claim_of


def train_private(network, records, settings, epochs):
    """DP-SGD with Poisson sampling, units of one example, and the noise that the budget asks for.

    Args:
        network (Cell): To train, in place.
        records (tuple): Images and labels.
        settings (EasyDict): epsilon, delta, batch_size, learning_rate, momentum, norm_bound.
        epochs (int): Expected passes over the records.

    Returns:
        Cell, `network`.
    """
    batches = PoissonSampler(min(settings.batch_size, len(records[1]) // 4)).dataset(records)
    multiplier = noise_multiplier_for(settings.epsilon, settings.delta, claim_of(batches),
                                      epochs * batches.get_dataset_size())
    noise_mech = NoiseMechanismsFactory.create("Gaussian", norm_bound=settings.norm_bound,
                                               initial_noise_multiplier=multiplier)
    model = DPModel(micro_batches=None, norm_bound=settings.norm_bound, noise_mech=noise_mech, network=network,
                    loss_fn=nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean"),
                    optimizer=nn.Momentum(network.trainable_params(), settings.learning_rate, settings.momentum))
    model.train(epochs, batches)
    return network.set_train(False)
