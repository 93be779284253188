"""Noise mechanisms of the public documentation: constant and decaying Gaussian noise."""
from __future__ import annotations

import math
from typing import Optional

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn

from mindarmour.privacy.accounting.events import Event, StepEvent
from mindarmour.privacy.accounting.strategies import Strategy
from mindarmour.privacy.diff_privacy.noise.source import NoiseSource
from mindarmour.privacy.errors import UnknownMechanismError
from mindarmour.utils import _validate

_DECAY = {
    "Time": lambda start, rate, step: start / (1 + rate * step),
    "Step": lambda start, rate, step: start * (1 - rate) ** step,
    "Exp": lambda start, rate, step: start * math.exp(-rate * step),
}


def decayed_multiplier(policy: Optional[str], start: float, rate: float, step: int) -> float:
    """Noise multiplier after `step` steps; `policy` None keeps `start`."""
    return start if policy is None else _DECAY[policy](start, rate, step)


class NoiseMechanismsFactory:
    """Creates noise mechanisms by name."""

    @staticmethod
    def create(mech_name: str, norm_bound: float = 1.0, initial_noise_multiplier: float = 1.0, seed: int = 0,
               noise_decay_rate: float = 6e-6, decay_policy: Optional[str] = None,
               strategy: Optional[Strategy] = None) -> NoiseGaussianRandom:
        """Create a noise mechanism.

        Args:
            mech_name (str): 'Gaussian' for a constant noise multiplier, 'AdaGaussian' for a decaying one, 'Correlated'
                for noise that is correlated between steps.
            norm_bound (float): Clipping bound C, > 0.
            initial_noise_multiplier (float): Standard deviation of the noise divided by the bound, > 0.
            seed (int): 0 draws from operating-system entropy; another seed is reproducible and protects nobody who
                does not know it from anybody who does.
            noise_decay_rate (float): Decay rate in (0, 1); 'AdaGaussian' only.
            decay_policy (str): None for 'Gaussian'; 'Time', 'Step' or 'Exp' for 'AdaGaussian'.
            strategy (Strategy): From `mindarmour.privacy.accounting.strategies`; 'Correlated' only.

        Raises:
            ValueError: An argument that the mechanism does not have.
            UnknownMechanismError: Unknown `mech_name` or decay policy (a NameError and a ValueError).

        Examples:
            >>> from mindarmour.privacy.diff_privacy import NoiseMechanismsFactory
            >>> noise_mech = NoiseMechanismsFactory.create('Gaussian', norm_bound=1.0,
            ...                                            initial_noise_multiplier=1.5)
        """
        if mech_name == "Correlated":
            if decay_policy is not None:
                raise ValueError(f"decay_policy must be None for 'Correlated', but got {decay_policy!r}: noise that "
                                 f"changes under the strategy has no proven sensitivity.")
            from mindarmour.privacy.diff_privacy.noise.correlated import NoiseCorrelatedRandom
            return NoiseCorrelatedRandom(norm_bound, initial_noise_multiplier, seed, strategy)
        if strategy is not None:
            raise ValueError(f"strategy must be None for {mech_name!r}, but got {strategy!r}. Use 'Correlated'.")
        if mech_name == "Gaussian":
            return NoiseGaussianRandom(norm_bound, initial_noise_multiplier, seed, decay_policy)
        if mech_name == "AdaGaussian":
            return NoiseAdaGaussianRandom(norm_bound, initial_noise_multiplier, seed, noise_decay_rate, decay_policy)
        raise UnknownMechanismError(f"mech_name must be 'Gaussian', 'AdaGaussian' or 'Correlated', but got "
                                    f"{mech_name!r}.")


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

    decay_policy: Optional[str] = None
    strategy: Optional[Strategy] = None

    def __init__(self, norm_bound: float = 1.0, initial_noise_multiplier: float = 1.0, seed: int = 0,
                 decay_policy: None = None) -> None:
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

    def multiplier_at(self, step: int) -> float:
        """Noise multiplier of step `step`, counted from 0."""
        return self.initial_noise_multiplier

    def begin(self, owner: object, step: int) -> None:
        """State who draws noise next and for which step; independent noise does not care."""

    def event_of(self, step: StepEvent) -> Event:
        """The event of a step with this noise: the step itself, where noise is independent."""
        return step

    def current_multiplier(self) -> float:
        """Noise multiplier that the next call of the mechanism alone uses."""
        return self.initial_noise_multiplier

    def __call__(self, gradients: Tensor) -> Tensor:
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

    def __init__(self, norm_bound: float = 1.0, initial_noise_multiplier: float = 1.0, seed: int = 0,
                 noise_decay_rate: float = 6e-6, decay_policy: str = "Exp") -> None:
        super().__init__(norm_bound, initial_noise_multiplier, seed)
        self.noise_decay_rate = _validate.real("noise_decay_rate", noise_decay_rate, low=0, high=1, strict_float=True)
        self.decay_policy = _validate.choice("decay_policy", decay_policy, tuple(_DECAY), UnknownMechanismError)
        self.noise_multiplier = Parameter(Tensor(self.initial_noise_multiplier, ms.float32), name="noise_multiplier",
                                          requires_grad=False)

    def multiplier_at(self, step: int) -> float:
        """Noise multiplier of step `step`, counted from 0."""
        return decayed_multiplier(self.decay_policy, self.initial_noise_multiplier, self.noise_decay_rate, step)

    def current_multiplier(self) -> float:
        """Noise multiplier that the next call of the mechanism alone uses."""
        return float(self.noise_multiplier)

    def advance_to(self, step: int) -> None:
        """Set the parameter `noise_multiplier` to the value of step `step`."""
        self.noise_multiplier.set_data(Tensor(self.multiplier_at(step), ms.float32))
