"""Noise and clipping mechanisms, and the factories of the public documentation."""
import math

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from mindarmour.privacy.diff_privacy.noise import NoiseSource
from mindarmour.privacy.diff_privacy.parallel import Ranks
from mindarmour.privacy.errors import UnknownMechanismError
from mindarmour.utils import _validate

# Whatever the unclipped fraction does, the adaptive bound stays a positive finite float32.
MIN_NORM_BOUND, MAX_NORM_BOUND = 1e-6, 1e6

_ALONE = Ranks()
_DECAY = {
    "Time": lambda start, rate, step: start / (1 + rate * step),
    "Step": lambda start, rate, step: start * (1 - rate) ** step,
    "Exp": lambda start, rate, step: start * math.exp(-rate * step),
}


def decayed_multiplier(policy, start, rate, step):
    """Noise multiplier after `step` steps; `policy` None keeps `start`."""
    return start if policy is None else _DECAY[policy](start, rate, step)


class NoiseMechanismsFactory:
    """Creates noise mechanisms by name."""

    @staticmethod
    def create(mech_name, norm_bound=1.0, initial_noise_multiplier=1.0, seed=0, noise_decay_rate=6e-6,
               decay_policy=None):
        """Create a noise mechanism.

        Args:
            mech_name (str): 'Gaussian' for a constant noise multiplier, 'AdaGaussian' for a decaying one.
            norm_bound (float): Clipping bound C, > 0.
            initial_noise_multiplier (float): Standard deviation of the noise divided by the bound, > 0.
            seed (int): 0 draws from operating-system entropy; another seed is reproducible and protects nobody who
                does not know it from anybody who does.
            noise_decay_rate (float): Decay rate in (0, 1); 'AdaGaussian' only.
            decay_policy (str): None for 'Gaussian'; 'Time', 'Step' or 'Exp' for 'AdaGaussian'.

        Raises:
            UnknownMechanismError: Unknown `mech_name` or decay policy (a NameError and a ValueError).

        Examples:
            >>> from mindarmour.privacy.diff_privacy import NoiseMechanismsFactory
            >>> noise_mech = NoiseMechanismsFactory.create('Gaussian', norm_bound=1.0,
            ...                                            initial_noise_multiplier=1.5)
        """
        if mech_name == "Gaussian":
            return NoiseGaussianRandom(norm_bound, initial_noise_multiplier, seed, decay_policy)
        if mech_name == "AdaGaussian":
            return NoiseAdaGaussianRandom(norm_bound, initial_noise_multiplier, seed, noise_decay_rate, decay_policy)
        raise UnknownMechanismError(f"mech_name must be 'Gaussian' or 'AdaGaussian', but got {mech_name!r}.")


class ClipMechanismsFactory:
    """Creates clipping mechanisms by name."""

    @staticmethod
    def create(mech_name, decay_policy="Linear", learning_rate=0.001, target_unclipped_quantile=0.9,
               fraction_stddev=0.01, seed=0):
        """Create the mechanism that adapts the clipping bound; see `AdaClippingWithGaussianRandom`.

        Raises:
            UnknownMechanismError: `mech_name` is not 'Gaussian' (a NameError and a ValueError).
        """
        if mech_name == "Gaussian":
            return AdaClippingWithGaussianRandom(decay_policy, learning_rate, target_unclipped_quantile,
                                                 fraction_stddev, seed)
        raise UnknownMechanismError(f"mech_name must be 'Gaussian', but got {mech_name!r}.")

    @staticmethod
    def recommended(seed=0):
        """The setting that Andrew et al. recommend: geometric updates towards the median, almost free.

        The noise on the count is a twentieth of the batch. With batches of 256 units it costs as much as lowering a
        noise multiplier of 1 by 0.08 percent; with batches of 32, by 5 percent.

        Args:
            seed (int): See `NoiseMechanismsFactory.create`.

        Returns:
            AdaClippingWithGaussianRandom.

        Examples:
            >>> from mindarmour.privacy.diff_privacy import ClipMechanismsFactory
            >>> ClipMechanismsFactory.recommended().fraction_stddev
            0.05
        """
        return AdaClippingWithGaussianRandom("Geometric", learning_rate=0.2, target_unclipped_quantile=0.5,
                                             fraction_stddev=0.05, seed=seed)


class NoiseGaussianRandom(nn.Cell):
    """Gaussian noise of standard deviation `norm_bound * initial_noise_multiplier`, drawn on the host.

    Inside a DPModel only the multiplier counts: the noise follows the bound that clipped the same step. The cell's
    own `norm_bound` serves calls of the mechanism alone, and is compared with the model's.

    Args:
        norm_bound (float): Clipping bound C, > 0.
        initial_noise_multiplier (float): Standard deviation of the noise divided by the bound, > 0.
        seed (int): See `NoiseMechanismsFactory.create`.
        decay_policy (None): Must be None; decay is `NoiseAdaGaussianRandom`.

    Inputs:
        gradients (Tensor): Only its shape is used.

    Outputs:
        Tensor, float32 noise of that shape.

    Supported Platforms:
        ``Ascend`` ``GPU`` ``CPU``

    Guarantee:
        With seed 0 every value comes from AES-256-CTR keyed by the operating system: `mindspore.set_seed` does not
        influence it and no two calls repeat a draw. Calls inside a compiled graph fail instead of being frozen.

    Examples:
        >>> import mindspore as ms
        >>> from mindarmour.privacy.diff_privacy import NoiseGaussianRandom
        >>> noise = NoiseGaussianRandom(norm_bound=1.0, initial_noise_multiplier=1.5)(ms.ops.zeros((3, 2)))
        >>> noise.shape
        (3, 2)
    """

    decay_policy = None

    def __init__(self, norm_bound=1.0, initial_noise_multiplier=1.0, seed=0, decay_policy=None):
        super().__init__()
        self.norm_bound = _validate.real("norm_bound", norm_bound, low=0, strict_float=True)
        self.initial_noise_multiplier = _validate.real("initial_noise_multiplier", initial_noise_multiplier, low=0,
                                                       strict_float=True)
        self.seed = _validate.integer("seed", seed, low=0)
        if decay_policy is not None:
            raise ValueError(f"decay_policy must be None for constant Gaussian noise, but got {decay_policy!r}. "
                             f"Use 'AdaGaussian' for decaying noise.")
        self.source = NoiseSource(seed)
        self._calls = 0

    def multiplier_at(self, step):
        """Noise multiplier of step `step`, counted from 0."""
        return self.initial_noise_multiplier

    def current_multiplier(self):
        """Noise multiplier that the next call of the mechanism alone uses."""
        return self.initial_noise_multiplier

    def __call__(self, gradients):
        noise, = self.source.normals(self._calls, [gradients.shape])
        self._calls += 1
        return Tensor(noise * np.float32(self.norm_bound * self.current_multiplier()))

    def construct(self, gradients):
        """Reached only by compiling the mechanism into a graph, which would freeze its noise."""
        raise RuntimeError("Noise is drawn on the host: call the mechanism outside compiled code, or train with "
                           "DPModel, which passes fresh noise into the compiled step.")


class NoiseAdaGaussianRandom(NoiseGaussianRandom):
    """Gaussian noise whose multiplier decays with the steps t = 0, 1, ... of a fixed, public schedule.

    'Time': m / (1 + r t); 'Step': m (1 - r)^t; 'Exp': m exp(-r t). Calling the mechanism does not advance t; the
    train step or DP optimizer does, after each update.

    Args:
        norm_bound (float): Clipping bound C, > 0.
        initial_noise_multiplier (float): Multiplier m of the first step, > 0.
        seed (int): See `NoiseMechanismsFactory.create`.
        noise_decay_rate (float): r in (0, 1).
        decay_policy (str): 'Time', 'Step' or 'Exp'.

    Raises:
        UnknownMechanismError: Unknown decay policy (a NameError and a ValueError).

    Supported Platforms:
        ``Ascend`` ``GPU`` ``CPU``
    """

    def __init__(self, norm_bound=1.0, initial_noise_multiplier=1.0, seed=0, noise_decay_rate=6e-6,
                 decay_policy="Exp"):
        super().__init__(norm_bound, initial_noise_multiplier, seed)
        self.noise_decay_rate = _validate.real("noise_decay_rate", noise_decay_rate, low=0, high=1, strict_float=True)
        self.decay_policy = _validate.choice("decay_policy", decay_policy, tuple(_DECAY), UnknownMechanismError)
        self.noise_multiplier = Parameter(Tensor(self.initial_noise_multiplier, ms.float32), name="noise_multiplier",
                                          requires_grad=False)

    def multiplier_at(self, step):
        """Noise multiplier of step `step`, counted from 0."""
        return decayed_multiplier(self.decay_policy, self.initial_noise_multiplier, self.noise_decay_rate, step)

    def current_multiplier(self):
        """Noise multiplier that the next call of the mechanism alone uses."""
        return float(self.noise_multiplier)

    def advance_to(self, step):
        """Set the parameter `noise_multiplier` to the value of step `step`."""
        self.noise_multiplier.set_data(Tensor(self.multiplier_at(step), ms.float32))


class AdaClippingWithGaussianRandom(nn.Cell):
    """Adapts the clipping bound so that a given fraction of the units stays unclipped.

    With the noised fraction f and target q: 'Linear' C - lr (f - q), 'Geometric' C exp(-lr (f - q)), kept inside
    [1e-6, 1e6]. The fraction is private: its noise has standard deviation `fraction_stddev`, and a DPModel accounts
    for this release at each step.

    Args:
        decay_policy (str): 'Linear' or 'Geometric'.
        learning_rate (float): Step size lr, > 0.
        target_unclipped_quantile (float): Target q in [0, 1].
        fraction_stddev (float): Standard deviation of the noise on the fraction, > 0. Small values cost most of the
            privacy budget, see `ClipMechanismsFactory.recommended`.
        seed (int): See `NoiseMechanismsFactory.create`.

    Inputs:
        empirical_fraction (Tensor): Fraction of unclipped units.
        norm_bound (Tensor): Current bound.

    Outputs:
        Tensor, the next bound, of the shape of `norm_bound`.

    Supported Platforms:
        ``Ascend`` ``GPU`` ``CPU``

    References:
        Andrew, Thakkar, McMahan, Ramaswamy 2021, "Differentially private learning with adaptive clipping",
        section 2.
    """

    def __init__(self, decay_policy="Linear", learning_rate=0.001, target_unclipped_quantile=0.9,
                 fraction_stddev=0.01, seed=0):
        super().__init__()
        self.decay_policy = _validate.choice("decay_policy", decay_policy, ("Linear", "Geometric"))
        self.learning_rate = _validate.real("learning_rate", learning_rate, low=0, strict_float=True)
        self.target_unclipped_quantile = _validate.real("target_unclipped_quantile", target_unclipped_quantile, low=0,
                                                        high=1, closed="both", strict_float=True)
        self.fraction_stddev = _validate.real("fraction_stddev", fraction_stddev, low=0, strict_float=True)
        self.seed = _validate.integer("seed", seed, low=0)
        self.source = NoiseSource(seed, "fraction")
        self._calls = 0

    def next_bound(self, noised_fraction, norm_bound):
        """The next bound; usable inside compiled code."""
        step = self.learning_rate * (noised_fraction - self.target_unclipped_quantile)
        if self.decay_policy == "Linear":
            bound = norm_bound - step
        else:
            bound = norm_bound * ops.exp(-step)
        return ops.clamp(bound, MIN_NORM_BOUND, MAX_NORM_BOUND)

    def fraction_noise(self, step, ranks=_ALONE):
        """This rank's share of the noise of one step's fraction, a float."""
        noise, = ranks.normals(self.source, step, [(1,)])
        return float(noise[0]) * ranks.noise_share * self.fraction_stddev

    def __call__(self, empirical_fraction, norm_bound):
        noised = empirical_fraction.reshape(norm_bound.shape) + self.fraction_noise(self._calls)
        self._calls += 1
        return self.next_bound(noised, norm_bound)

    def construct(self, empirical_fraction, norm_bound):
        """Reached only by compiling the mechanism into a graph, which would freeze its noise."""
        raise RuntimeError("Noise is drawn on the host: call the mechanism outside compiled code, or train with "
                           "DPModel, which passes fresh noise into the compiled step.")
