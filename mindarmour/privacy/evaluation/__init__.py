"""Leakage measurement: membership inference, inversion and reconstruction.

Every name loads its module on first use, so judging saved scores imports neither MindSpore nor scikit-learn.
"""
import importlib

_HOME = {
    "MembershipInference": "membership_inference",
    "Signals": "signals",
    "collect_signals": "signals",
    "AttackResult": "attack_result",
    "LossAttack": "score_attacks",
    "ConfidenceAttack": "score_attacks",
    "EntropyAttack": "score_attacks",
    "GapAttack": "score_attacks",
    "PopulationAttack": "score_attacks",
    "ShadowModels": "shadow_models",
    "LiRA": "lira",
    "RMIA": "rmia",
    "QuantileAttack": "quantile",
    "LabelOnlyAttack": "label_only",
    "LeakageMonitor": "leakage_monitor",
    "ImageInversionAttack": "inversion_attack",
    "InversionLoss": "inversion_attack",
    "ModelInversionAttack": "model_inversion_attack",
    "ModelInversionLoss": "model_inversion_attack",
    "ShadowModelAttack": "shadow_model_attack",
    "ShadowModelLoss": "shadow_model_attack",
    "GradientInversion": "gradient_inversion",
    "infer_labels": "gradient_inversion",
    "ClassInversion": "class_inversion",
    "reconstruction_report": "reconstruction",
}
__all__ = list(_HOME)


def __getattr__(name):
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted([*globals(), *_HOME])
