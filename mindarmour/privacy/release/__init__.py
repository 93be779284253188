"""Releases under differential privacy beside DP training: model updates, convex models, single records.

The names load their module on first use, so that the local mechanisms do not pay for importing MindSpore.
"""
import importlib

_HOME = {
    "ModelSanitizer": "sanitizer",
    "OutputPerturbation": "perturbation",
    "ObjectivePerturbation": "perturbation",
    "LaplaceMechanism": "perturbation",
    "GaussianMechanism": "perturbation",
    "RandomizedResponse": "perturbation",
    "DPSGD": "optimizers",
    "DPAdam": "optimizers",
    "AmortizedGaussianSanitizer": "amortized",
}
__all__ = list(_HOME)


def __getattr__(name):
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module 'mindarmour.privacy.release' has no attribute {name!r}")


def __dir__():
    return sorted([*globals(), *_HOME])
