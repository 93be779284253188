"""Differentially private training."""
from mindarmour.privacy.diff_privacy.batch_norm import replace_batch_norm
from mindarmour.privacy.diff_privacy.clipping.adaptive import AdaClippingWithGaussianRandom, ClipMechanismsFactory
from mindarmour.privacy.diff_privacy.clipping.rules import AutomaticClipping, PerLayerClipping
from mindarmour.privacy.diff_privacy.monitor.curve import TrainingCurve
from mindarmour.privacy.diff_privacy.monitor.monitor import (
    PLDMonitor,
    PrivacyMonitorFactory,
    RDPMonitor,
    ZCDPMonitor,
)
from mindarmour.privacy.diff_privacy.monitor.progress import PrivacyProgress
from mindarmour.privacy.diff_privacy.noise.correlated import NoiseCorrelatedRandom
from mindarmour.privacy.diff_privacy.noise.mechanisms import (
    NoiseAdaGaussianRandom,
    NoiseGaussianRandom,
    NoiseMechanismsFactory,
)
from mindarmour.privacy.diff_privacy.optimizer.optimizer import DPOptimizerClassFactory
from mindarmour.privacy.diff_privacy.sampling.convert import convert_to_mindrecord
from mindarmour.privacy.diff_privacy.sampling.ordered import CyclicPoissonSampler, FixedOrder
from mindarmour.privacy.diff_privacy.sampling.samplers import (
    BallsInBinsSampler,
    FixedSizeSampler,
    PoissonSampler,
    ShufflePartition,
)
from mindarmour.privacy.diff_privacy.sampling.users import UserBallsInBinsSampler, UserPoissonSampler
from mindarmour.privacy.diff_privacy.sampling.views import augmented_views, random_flip, random_shift
from mindarmour.privacy.diff_privacy.train.clipped_gradients import ClippedSum, clipped_gradient_fn
from mindarmour.privacy.diff_privacy.train.loop import PrivateLoop
from mindarmour.privacy.diff_privacy.train.model import DPModel

__all__ = [
    "AdaClippingWithGaussianRandom",
    "AutomaticClipping",
    "BallsInBinsSampler",
    "ClipMechanismsFactory",
    "ClippedSum",
    "CyclicPoissonSampler",
    "DPModel",
    "DPOptimizerClassFactory",
    "FixedOrder",
    "FixedSizeSampler",
    "NoiseCorrelatedRandom",
    "NoiseAdaGaussianRandom",
    "NoiseGaussianRandom",
    "NoiseMechanismsFactory",
    "PLDMonitor",
    "PerLayerClipping",
    "PoissonSampler",
    "PrivacyMonitorFactory",
    "PrivacyProgress",
    "PrivateLoop",
    "RDPMonitor",
    "ShufflePartition",
    "TrainingCurve",
    "UserBallsInBinsSampler",
    "UserPoissonSampler",
    "ZCDPMonitor",
    "augmented_views",
    "clipped_gradient_fn",
    "convert_to_mindrecord",
    "random_flip",
    "random_shift",
    "replace_batch_norm",
]
