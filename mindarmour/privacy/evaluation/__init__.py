"""Leakage measurement: membership inference, inversion and reconstruction.

Every name loads its module on first use, so judging saved scores imports neither MindSpore nor scikit-learn.
"""
import importlib

_HOME = {
    "MembershipInference": "membership_inference",
    "Signals": "membership.signals",
    "collect_signals": "membership.signals",
    "AttackResult": "membership.attack_result",
    "LossAttack": "membership.score_attacks",
    "ConfidenceAttack": "membership.score_attacks",
    "EntropyAttack": "membership.score_attacks",
    "GapAttack": "membership.score_attacks",
    "PopulationAttack": "membership.score_attacks",
    "ShadowModels": "membership.shadow_models",
    "CompiledTraining": "membership.compiled_training",
    "LiRA": "membership.lira",
    "RMIA": "membership.rmia",
    "QuantileAttack": "membership.quantile",
    "LabelOnlyAttack": "membership.label_only",
    "BlindBaseline": "membership.blind_baseline",
    "LeakageMonitor": "membership.leakage_monitor",
    "ImageInversionAttack": "inversion_attack",
    "InversionLoss": "inversion_attack",
    "ModelInversionAttack": "model_inversion_attack",
    "ModelInversionLoss": "model_inversion_attack",
    "ShadowModelAttack": "shadow_model_attack",
    "ShadowModelLoss": "shadow_model_attack",
    "GradientInversion": "inversion.gradient_inversion",
    "infer_labels": "inversion.gradient_inversion",
    "ClassInversion": "inversion.class_inversion",
    "reconstruction_report": "inversion.reconstruction",
}
__all__ = list(_HOME)


def __getattr__(name):
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted([*globals(), *_HOME])
