"""Bounds and tests of one audit, by NumPy and SciPy alone.

Certified bounds come as `AuditedEpsilon` of kind 'lower-bound'; whatever assumes a Gaussian curve and is stated as
an epsilon is of kind 'estimate'. Never compare an estimate with a claim: test the claimed curve (`curve_p_value`).
"""
from mindarmour.privacy.auditing.bounds.anytime import anytime_epsilon
from mindarmour.privacy.auditing.bounds.curve_test import (
    curve_p_value,
    curve_rejected,
    fewest_right,
    one_run_fdp_epsilon,
    one_run_mu,
    one_run_mu_epsilon,
)
from mindarmour.privacy.auditing.bounds.curves import (
    Curve,
    GaussianCurve,
    TabulatedCurve,
    accuracy_ceiling,
    area_ceiling,
    pure_curve,
    reconstruction_ceiling,
)
from mindarmour.privacy.auditing.bounds.normal import (
    accuracy_of_top,
    effect_size,
    epsilon_of_gaussian,
    epsilon_two_gaussians,
    mu_from_scores,
    tpr_ceiling_gaussian,
)
from mindarmour.privacy.auditing.bounds.one_run import (
    doubling_epsilon,
    doubling_guesses,
    one_run_ceiling,
    one_run_epsilon,
    one_run_p_value,
)
from mindarmour.privacy.auditing.bounds.rates import (
    clopper_pearson_upper,
    epsilon_from_rates,
    exposure,
    jeffreys_upper,
    mu_from_rates,
)
from mindarmour.privacy.auditing.bounds.statement import AuditedEpsilon

__all__ = [
    "AuditedEpsilon", "Curve", "GaussianCurve", "TabulatedCurve", "accuracy_ceiling", "accuracy_of_top",
    "anytime_epsilon", "area_ceiling", "clopper_pearson_upper", "curve_p_value", "curve_rejected", "doubling_epsilon",
    "doubling_guesses", "effect_size", "epsilon_from_rates", "epsilon_of_gaussian", "epsilon_two_gaussians",
    "exposure", "fewest_right", "jeffreys_upper", "mu_from_rates", "mu_from_scores", "one_run_ceiling",
    "one_run_epsilon", "one_run_fdp_epsilon", "one_run_mu", "one_run_mu_epsilon", "one_run_p_value", "pure_curve",
    "reconstruction_ceiling", "tpr_ceiling_gaussian",
]
