"""Descriptions of the layers to suppress, and finding their parameters."""
from __future__ import annotations

from mindarmour.utils._validate import boolean, instance, integer, real


class MaskLayerDes:
    """Describes how one layer's weights are suppressed. One description may serve any number of controllers.

    Args:
        layer_name (str): Whole name of a parameter, such as 'conv1.weight', or a part of exactly one name.
        grad_idx (Union[int, None]): Index of the parameter in `optimizer.parameters`. It follows from the
            name: None is enough, and a wrong one is refused when the controller meets the optimizer.
        is_add_noise (bool): Add uniform noise of +-0.1 to weights above 0.5 in magnitude when masks are
            chosen. Ignored for layers of more than 10000 weights, as are `is_lower_clip` and `upper_bound`.
        is_lower_clip (bool): Lift kept weights up to 0.005 in magnitude to 0.005.
        min_num (int): Weights that are never suppressed; -1 for no floor.
        upper_bound (float): Largest magnitude of a kept weight. Values below 0.1 count as 0.1. Default: 1.20.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: `layer_name` is empty, `grad_idx` < 0, `min_num` < -1 or `upper_bound` not positive and
            finite.

    Examples:
        >>> from mindarmour.privacy.sup_privacy import MaskLayerDes
        >>> layers = [MaskLayerDes("conv1.weight", 0, False, True, 10),
        ...           MaskLayerDes("fc1.weight", None, False, False, -1)]
    """

    def __init__(self, layer_name, grad_idx, is_add_noise, is_lower_clip, min_num, upper_bound=1.20):
        self.layer_name = instance("layer_name", layer_name, str)
        if not layer_name:
            raise ValueError("layer_name must be a parameter's name or a part of it, but got ''.")
        self.grad_idx = None if grad_idx is None else integer("grad_idx", grad_idx, low=0)
        self.is_add_noise = boolean("is_add_noise", is_add_noise)
        self.is_lower_clip = boolean("is_lower_clip", is_lower_clip)
        self.min_num = integer("min_num", min_num, low=-1)
        self.upper_bound = real("upper_bound", upper_bound, low=0)
        self.inited = False

    def __repr__(self):
        return (f"MaskLayerDes({self.layer_name!r}, {self.grad_idx}, {self.is_add_noise}, "
                f"{self.is_lower_clip}, {self.min_num}, {self.upper_bound})")


def find_parameter(parameters, layer_name):
    """The one parameter called `layer_name`, else the one whose name contains it.

    Raises:
        ValueError: No name contains it, or several do.
    """
    exact = [item for item in parameters if item.name == layer_name]
    found = exact or [item for item in parameters if layer_name in item.name]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(item.name for item in found)
        raise ValueError(f"layer_name must name one parameter, but '{layer_name}' is a part of several: "
                         f"{names}. Give the whole name.")
    names = ", ".join(item.name for item in parameters)
    raise ValueError(f"layer_name must be the name of a trainable parameter or a part of it, but no name "
                     f"contains '{layer_name}'. The network has: {names}.")


def get_one_mask_layer(mask_layers, layer_name):
    """The description that fits the parameter called `layer_name`, or None.

    A description with exactly this name comes before those whose name is a part of it.

    Raises:
        ValueError: Several descriptions fit.
    """
    exact = [item for item in mask_layers if item.layer_name == layer_name]
    found = exact or [item for item in mask_layers if item.layer_name in layer_name]
    if len(found) > 1:
        names = ", ".join(repr(item.layer_name) for item in found)
        raise ValueError(f"mask_layers must describe a parameter once, but '{layer_name}' fits {names}.")
    return found[0] if found else None


def match_layers(parameters, mask_layers):
    """Pairs (description, parameter), in the order of `mask_layers`.

    Raises:
        TypeError: An element is not a MaskLayerDes.
        ValueError: A description fits no parameter or several, or two fit the same.
    """
    pairs, owner = [], {}
    for position, layer in enumerate(mask_layers):
        instance(f"mask_layers[{position}]", layer, MaskLayerDes)
        parameter = find_parameter(parameters, layer.layer_name)
        if id(parameter) in owner:
            raise ValueError(f"mask_layers must describe a parameter once, but '{owner[id(parameter)]}' and "
                             f"'{layer.layer_name}' both name {parameter.name}. Remove one.")
        owner[id(parameter)] = layer.layer_name
        pairs.append((layer, parameter))
    _refuse_repeated_index(mask_layers)
    return pairs


def _refuse_repeated_index(mask_layers):
    given = [layer.grad_idx for layer in mask_layers if layer.grad_idx is not None]
    if len(set(given)) < len(given):
        raise ValueError(f"grad_idx must differ from layer to layer, but got {given}. Pass None to derive it.")
