"""The documented import path of the noise and clipping mechanisms."""
from mindarmour.privacy.diff_privacy.clipping.adaptive import AdaClippingWithGaussianRandom, ClipMechanismsFactory
from mindarmour.privacy.diff_privacy.noise.mechanisms import (
    NoiseAdaGaussianRandom,
    NoiseGaussianRandom,
    NoiseMechanismsFactory,
)

__all__ = [
    "AdaClippingWithGaussianRandom",
    "ClipMechanismsFactory",
    "NoiseAdaGaussianRandom",
    "NoiseGaussianRandom",
    "NoiseMechanismsFactory",
]
