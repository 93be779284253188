"""Rules for layer kinds: per-unit squared norms and clipped sums. Importing this package registers them."""
from mindarmour.privacy.diff_privacy.grads.layers import (
    attention,
    conv,
    conv3d,
    dense,
    embedding,
    norm,
    prelu,
    recurrent,
)
from mindarmour.privacy.diff_privacy.grads.layers.registry import (
    LayerRule,
    UnitGradient,
    register_layer,
    registered_layers,
    rule_class_for,
)

__all__ = ["LayerRule", "UnitGradient", "attention", "conv", "conv3d", "dense", "embedding", "norm", "prelu",
           "recurrent", "register_layer", "registered_layers", "rule_class_for"]
