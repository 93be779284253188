"""DP optimizers for custom loops: give them gradients, they clip, add noise and update.

They stand here, beside the other releases, and not in `diff_privacy`, because they protect whatever they are given:
no plan and no engine belongs to them. What that protects depends on what they are given, see `DPSGD`.
"""
from typing import Optional

from mindspore import nn

from mindarmour.privacy.accounting import Ledger, Sampling
from mindarmour.privacy.diff_privacy.noise.mechanisms import NoiseGaussianRandom
from mindarmour.privacy.diff_privacy.parallel.ranks import refuse_several_ranks
from mindarmour.privacy.diff_privacy.train.sum_step import SumStep
from mindarmour.utils import _validate


def _sum_step(optimizer, noise_scale, norm_bound, sampling, ledger):
    """Noise, checks and events of one DP optimizer."""
    refuse_several_ranks(type(optimizer).__name__)
    noise_scale = _validate.real("noise_scale", noise_scale, low=0)
    norm_bound = _validate.real("norm_bound", norm_bound, low=0)
    for name, value in (("norm_bound", norm_bound), ("noise_scale * norm_bound", noise_scale * norm_bound)):
        _validate.real(name, value, low=2.0 ** -100, high=2.0 ** 100, closed="both")  # float32 keeps its digits
    return SumStep(optimizer, NoiseGaussianRandom(norm_bound, noise_scale), sampling, ledger=ledger)


_COMPILED = ("A DP optimizer draws its noise on the host: call it outside compiled code with the gradients, or train "
             "with DPModel.")


class DPSGD(nn.SGD):
    """SGD that clips the gradient it is given to `norm_bound` and adds noise before it updates.

    Called with a tuple of gradients, it sees one vector per step, so it clips the BATCH AS ONE UNIT. That bounds
    what one example can do only by the diameter of the ball: the recorded sensitivity is 2 * norm_bound per batch,
    and the same noise hides an example as well as half of it would with per-example clipping.

    Called with the `ClippedSum` of `clipped_gradient_fn`, whose units were clipped one by one, it adds the noise to
    the sum, divides by the expected units, and gives the per-example guarantee with sensitivity `norm_bound`.

    Args:
        params (Union[list[Parameter], list[dict]]): As for nn.SGD, in the order of the gradients.
        learning_rate (Union[float, int, Tensor, Iterable, LearningRateSchedule]): As for nn.SGD.
        momentum (float): As for nn.SGD.
        dampening (float): As for nn.SGD.
        weight_decay (float): As for nn.SGD; applied after the noise, so it costs no privacy.
        nesterov (bool): As for nn.SGD.
        noise_scale (float): Standard deviation of the noise divided by `norm_bound`, above 0.
        norm_bound (float): Clipping bound C in L2 norm, above 0; must equal that of a ClippedSum.
        sampling (Sampling, optional): How batches are drawn; None claims no amplification. Call
            `ledger.start_epoch()` at each epoch for samplers that claim per epoch.
        ledger (Ledger, optional): Where steps are recorded; None continues what the parameters' earlier private
            training spent, see `optimizer.ledger`.

    Inputs:
        gradients (Union[tuple[Tensor], ClippedSum]): Mean gradient of the batch, or the clipped sum.

    Outputs:
        What nn.SGD returns.

    Supported Platforms:
        ``Ascend`` ``GPU`` ``CPU``

    Guarantee:
        That of the recorded `StepEvent`s, see above; ask `privacy_spent(optimizer.ledger.entries, delta)`. Noise
        comes from AES-256-CTR keyed by the operating system. Compiling the optimizer into a graph raises an error
        instead of freezing the noise.

    Raises:
        TypeError: An argument of the wrong type.
        ValueError: A noise scale or bound that is not positive, another bound in the ClippedSum, gradients of other
            shapes than the parameters.

    References:
        Abadi et al. 2016, "Deep learning with differential privacy", algorithm 1.

    Examples:
        >>> import numpy as np
        >>> from mindspore import Tensor, nn
        >>> from mindarmour.privacy.accounting.accountant import privacy_spent
        >>> from mindarmour.privacy.diff_privacy import clipped_gradient_fn
        >>> from mindarmour.privacy.release import DPSGD
        >>> network = nn.Dense(4, 2)
        >>> loss_fn = nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction='mean')
        >>> gradient_fn = clipped_gradient_fn(network, loss_fn, norm_bound=1.0)
        >>> optimizer = DPSGD(network.trainable_params(), 0.1, noise_scale=4.0, norm_bound=1.0)
        >>> success = optimizer(gradient_fn(Tensor(np.ones((8, 4), np.float32)), Tensor(np.zeros(8, np.int32))))
        >>> round(privacy_spent(optimizer.ledger.entries, delta=1e-5).epsilon, 2)
        0.93
    """

    # the base optimizer's own update, for gradients that carry their noise
    apply_noised = nn.SGD.construct

    def __init__(self, params, learning_rate, momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False,
                 noise_scale=1.0, norm_bound=1.0, *, sampling=None, ledger=None):
        super().__init__(params, learning_rate, momentum, dampening, weight_decay, nesterov)
        # in a list: as attributes of a Cell its cells would become children
        self._privacy = [_sum_step(self, noise_scale, norm_bound, sampling, ledger)]

    @property
    def ledger(self) -> Ledger:
        """Ledger of the executed steps, and of what was spent on the parameters before."""
        return self._privacy[0].ledger

    @property
    def sampling(self) -> Optional[Sampling]:
        """How batches are drawn, as told."""
        return self._privacy[0].sampling

    @property
    def _mech(self) -> NoiseGaussianRandom:
        """The noise that a DPModel takes over."""
        return self._privacy[0].mech

    def __call__(self, gradients):
        return self._privacy[0](gradients)

    def construct(self, gradients):
        """Reached only by compiling the optimizer into a train step, which would freeze the noise."""
        raise RuntimeError(_COMPILED)


class DPAdam(nn.Adam):
    """Adam that clips the gradient it is given to `norm_bound` and adds noise before it updates.

    Everything that `DPSGD` says about gradients, sensitivity, sampling and the ledger holds here; the moments are
    computed from noised gradients only.

    Args:
        params (Union[list[Parameter], list[dict]]): As for nn.Adam, in the order of the gradients.
        learning_rate (Union[float, int, Tensor, Iterable, LearningRateSchedule]): As for nn.Adam.
        beta1 (float): As for nn.Adam.
        beta2 (float): As for nn.Adam.
        eps (float): As for nn.Adam.
        weight_decay (float): As for nn.Adam; applied after the noise, so it costs no privacy.
        use_amsgrad (bool): As for nn.Adam.
        noise_scale (float): Standard deviation of the noise divided by `norm_bound`, above 0.
        norm_bound (float): Clipping bound C in L2 norm, above 0; must equal that of a ClippedSum.
        sampling (Sampling, optional): As for DPSGD.
        ledger (Ledger, optional): As for DPSGD.

    Inputs:
        gradients (Union[tuple[Tensor], ClippedSum]): Mean gradient of the batch, or the clipped sum.

    Outputs:
        What nn.Adam returns.

    Supported Platforms:
        ``Ascend`` ``GPU`` ``CPU``

    Guarantee: as DPSGD.

    Raises: as DPSGD.

    Examples:
        >>> import mindspore as ms
        >>> from mindspore import nn
        >>> from mindarmour.privacy.release import DPAdam
        >>> network = nn.Dense(4, 2)
        >>> optimizer = DPAdam(network.trainable_params(), noise_scale=4.0, norm_bound=1.0)
        >>> success = optimizer((ms.ops.ones((2, 4)), ms.ops.ones(2)))
        >>> optimizer.ledger.entries[0].event.sensitivity  # the batch was clipped as one unit
        2.0
    """

    # the base optimizer's own update, for gradients that carry their noise
    apply_noised = nn.Adam.construct

    def __init__(self, params, learning_rate=0.001, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.0,
                 use_amsgrad=False, noise_scale=1.0, norm_bound=1.0, *, sampling=None, ledger=None):
        super().__init__(params, learning_rate, beta1, beta2, eps, weight_decay=weight_decay, use_amsgrad=use_amsgrad)
        # in a list: as attributes of a Cell its cells would become children
        self._privacy = [_sum_step(self, noise_scale, norm_bound, sampling, ledger)]

    @property
    def ledger(self) -> Ledger:
        """Ledger of the executed steps, and of what was spent on the parameters before."""
        return self._privacy[0].ledger

    @property
    def sampling(self) -> Optional[Sampling]:
        """How batches are drawn, as told."""
        return self._privacy[0].sampling

    @property
    def _mech(self) -> NoiseGaussianRandom:
        """The noise that a DPModel takes over."""
        return self._privacy[0].mech

    def __call__(self, gradients):
        return self._privacy[0](gradients)

    def construct(self, gradients):
        """Reached only by compiling the optimizer into a train step, which would freeze the noise."""
        raise RuntimeError(_COMPILED)
