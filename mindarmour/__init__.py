"""MindArmour: differentially private training, sound accounting and leakage measurement for MindSpore.

Importing this package imports neither MindSpore nor scikit-learn; the documented top-level names
(`from mindarmour import DPModel`) load their module on first use.

On a CPU MindSpore's convolutions fall to oneDNN's reference kernels when oneDNN selects AVX-512 code, up to
fifty times slower than its AVX2 kernels. The import therefore sets `ONEDNN_MAX_CPU_ISA=AVX2`, which oneDNN
reads at its first operator. A value that is already set in the environment is left alone.
"""
import importlib
import os

os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX2")

__version__ = "3.0.0"

_HOME = {
    "DPModel": "mindarmour.privacy.diff_privacy",
    "MembershipInference": "mindarmour.privacy.evaluation",
    "ImageInversionAttack": "mindarmour.privacy.evaluation",
    "ModelInversionAttack": "mindarmour.privacy.evaluation",
    "ShadowModelAttack": "mindarmour.privacy.evaluation",
    "SuppressModel": "mindarmour.privacy.sup_privacy",
    "SuppressCtrl": "mindarmour.privacy.sup_privacy",
    "SuppressMasker": "mindarmour.privacy.sup_privacy",
}
__all__ = list(_HOME)


def __getattr__(name):
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'mindarmour' has no attribute {name!r}")


def __dir__():
    return sorted([*globals(), *_HOME])
