"""What importing the package does, and that the documented names are where the documentation says."""
import importlib
import os
import subprocess
import sys

import pytest

DOCUMENTED = {
    "mindarmour": ["DPModel", "MembershipInference", "SuppressModel", "SuppressCtrl", "SuppressMasker",
                   "ImageInversionAttack", "ModelInversionAttack", "ShadowModelAttack"],
    "mindarmour.privacy.diff_privacy": [
        "NoiseGaussianRandom", "NoiseAdaGaussianRandom", "AdaClippingWithGaussianRandom", "NoiseMechanismsFactory",
        "ClipMechanismsFactory", "PrivacyMonitorFactory", "RDPMonitor", "ZCDPMonitor", "DPOptimizerClassFactory",
        "DPModel"],
    "mindarmour.privacy.diff_privacy.mechanisms.mechanisms": ["NoiseGaussianRandom", "ClipMechanismsFactory"],
    "mindarmour.privacy.diff_privacy.monitor.monitor": ["PrivacyMonitorFactory", "RDPMonitor", "ZCDPMonitor"],
    "mindarmour.privacy.diff_privacy.optimizer.optimizer": ["DPOptimizerClassFactory"],
    "mindarmour.privacy.diff_privacy.train.model": ["DPModel"],
    "mindarmour.privacy.sup_privacy": ["SuppressMasker", "SuppressModel", "SuppressPrivacyFactory", "SuppressCtrl",
                                       "MaskLayerDes"],
    "mindarmour.privacy.sup_privacy.mask_monitor.masker": ["SuppressMasker"],
    "mindarmour.privacy.sup_privacy.train.model": ["SuppressModel", "TrainOneStepCell"],
    "mindarmour.privacy.sup_privacy.sup_ctrl.conctrl": ["SuppressPrivacyFactory", "GradMaskInCell", "DeWeightInCell",
                                                        "get_one_mask_layer"],
    "mindarmour.privacy.evaluation": ["MembershipInference", "ImageInversionAttack", "ModelInversionAttack",
                                      "ShadowModelAttack"],
    "mindarmour.privacy.evaluation.inversion_attack": ["ImageInversionAttack", "InversionLoss"],
    "mindarmour.privacy.evaluation.model_inversion_attack": ["ModelInversionAttack", "ModelInversionLoss"],
    "mindarmour.privacy.evaluation.shadow_model_attack": ["ShadowModelAttack", "ShadowModelLoss"],
    "mindarmour.utils": ["LogUtil", "GradWrap", "GradWrapWithLoss"],
    "mindarmour.utils.logger": ["LogUtil"],
}


def run(code, **environment):
    env = {key: value for key, value in os.environ.items() if key != "ONEDNN_MAX_CPU_ISA"}
    done = subprocess.run([sys.executable, "-c", code], env={**env, **environment}, capture_output=True, text=True,
                          check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("module", sorted(DOCUMENTED))
def test_documented_names_are_importable(module):
    for name in DOCUMENTED[module]:
        assert getattr(importlib.import_module(module), name).__name__ == name


def test_unknown_name_raises_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = importlib.import_module("mindarmour").Nothing


@pytest.mark.parametrize("module", ["mindarmour", "mindarmour.privacy", "mindarmour.privacy.accounting",
                                    "mindarmour.cli"])
def test_import_is_light(module):
    heavy = run(f"import sys, {module}; "
                "print([m for m in ('mindspore', 'sklearn', 'cv2', 'matplotlib') if m in sys.modules])")
    assert heavy == "[]"


def test_cpu_kernels_are_chosen_unless_the_user_chose():
    code = "import os, mindarmour; print(os.environ['ONEDNN_MAX_CPU_ISA'])"
    assert run(code) == "AVX2"
    assert run(code, ONEDNN_MAX_CPU_ISA="AVX512_CORE") == "AVX512_CORE"
