"""Suppress privacy: train while the least important weights are set to 0, step by step.

A protection without noise and without a formal guarantee; `docs/suppress_privacy.md` says with measurements
what it protects against. It can be put on top of differentially private training at no cost in privacy.
"""
from mindarmour.privacy.sup_privacy.mask_monitor.masker import SuppressMasker
from mindarmour.privacy.sup_privacy.mask_monitor.plot import plot_sparsity
from mindarmour.privacy.sup_privacy.sup_ctrl.conctrl import (
    MaskLayerDes,
    SparsityRecord,
    SuppressCtrl,
    SuppressPrivacyFactory,
)
from mindarmour.privacy.sup_privacy.train.model import SuppressModel

__all__ = ["MaskLayerDes", "SparsityRecord", "SuppressCtrl", "SuppressMasker", "SuppressModel",
           "SuppressPrivacyFactory", "plot_sparsity"]
