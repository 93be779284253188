"""Adaptive clipping: the bound follows a noised quantile of the gradient norms."""
from __future__ import annotations

from mindspore import Tensor, nn, ops

from mindarmour.privacy.accounting.events import sensitivity_of
from mindarmour.privacy.diff_privacy.noise.source import NoiseSource
from mindarmour.privacy.diff_privacy.parallel.ranks import Ranks
from mindarmour.privacy.errors import UnknownMechanismError
from mindarmour.utils import _validate

# Whatever the unclipped fraction does, the adaptive bound stays a positive finite float32.
MIN_NORM_BOUND, MAX_NORM_BOUND = 1e-6, 1e6
_ALONE = Ranks()


class ClipMechanismsFactory:
    """Creates clipping mechanisms by name."""

    @staticmethod
    def create(mech_name: str, decay_policy: str = "Linear", learning_rate: float = 0.001,
               target_unclipped_quantile: float = 0.9, fraction_stddev: float = 0.01,
               seed: int = 0) -> AdaClippingWithGaussianRandom:
        """Create the mechanism that adapts the clipping bound; see `AdaClippingWithGaussianRandom`.

        Raises:
            UnknownMechanismError: `mech_name` is not 'Gaussian' (a NameError and a ValueError).
        """
        if mech_name == "Gaussian":
            return AdaClippingWithGaussianRandom(decay_policy, learning_rate, target_unclipped_quantile,
                                                 fraction_stddev, seed)
        raise UnknownMechanismError(f"mech_name must be 'Gaussian', but got {mech_name!r}.")

    @staticmethod
    def recommended(seed: int = 0) -> AdaClippingWithGaussianRandom:
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

    def __init__(self, decay_policy: str = "Linear", learning_rate: float = 0.001,
                 target_unclipped_quantile: float = 0.9, fraction_stddev: float = 0.01, seed: int = 0) -> None:
        super().__init__()
        self.decay_policy = _validate.choice("decay_policy", decay_policy, ("Linear", "Geometric"))
        self.learning_rate = _validate.real("learning_rate", learning_rate, low=0, strict_float=True)
        self.target_unclipped_quantile = _validate.real("target_unclipped_quantile", target_unclipped_quantile, low=0,
                                                        high=1, closed="both", strict_float=True)
        self.fraction_stddev = _validate.real("fraction_stddev", fraction_stddev, low=0, strict_float=True)
        self.seed = _validate.integer("seed", seed, low=0)
        self.source = NoiseSource(seed, "fraction")
        self._calls = 0

    def count_multiplier(self, expected_units: float, examples_per_unit: int, relation: str) -> float:
        """Noise on the count of unclipped units, divided by the count's sensitivity.

        The count is centred (each unit contributes +1/2 or -1/2), so a vanishing unit moves it by 1/2; a unit that
        changes sides, by 1.

        Args:
            expected_units (float): What the count is divided by to become the fraction.
            examples_per_unit (int): Examples of one unit.
            relation (str): Neighbouring relation.
        """
        return self.fraction_stddev * expected_units / (0.5 * sensitivity_of(examples_per_unit, relation))

    def next_bound(self, noised_fraction: Tensor, norm_bound: Tensor) -> Tensor:
        """The next bound; usable inside compiled code."""
        step = self.learning_rate * (noised_fraction - self.target_unclipped_quantile)
        if self.decay_policy == "Linear":
            bound = norm_bound - step
        else:
            bound = norm_bound * ops.exp(-step)
        return ops.clamp(bound, MIN_NORM_BOUND, MAX_NORM_BOUND)

    def fraction_noise(self, step: int, ranks: Ranks = _ALONE) -> float:
        """This rank's share of the noise of one step's fraction, a float."""
        noise, = ranks.normals(self.source, step, [(1,)])
        return float(noise[0]) * ranks.noise_share * self.fraction_stddev

    def __call__(self, empirical_fraction: Tensor, norm_bound: Tensor) -> Tensor:
        noised = empirical_fraction.reshape(norm_bound.shape) + self.fraction_noise(self._calls)
        self._calls += 1
        return self.next_bound(noised, norm_bound)

    def construct(self, empirical_fraction, norm_bound):
        """Reached only by compiling the mechanism into a graph, which would freeze its noise."""
        raise RuntimeError("Noise is drawn on the host: call the mechanism outside compiled code, or train with "
                           "DPModel, which passes fresh noise into the compiled step.")
