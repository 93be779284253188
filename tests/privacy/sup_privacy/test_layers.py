"""Descriptions of layers, and the parameters they stand for."""
import pytest
from mindspore import nn

from mindarmour.privacy.sup_privacy import MaskLayerDes
from mindarmour.privacy.sup_privacy.sup_ctrl.conctrl import get_one_mask_layer
from mindarmour.privacy.sup_privacy.sup_ctrl.layers import find_parameter, match_layers


class Nested(nn.Cell):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Dense(4, 4)
        self.head = nn.SequentialCell(nn.Dense(4, 4), nn.Dense(4, 2))


def layer(name, index=None):
    return MaskLayerDes(name, index, False, False, -1)


@pytest.fixture
def parameters():
    return Nested().trainable_params()  # fc1.weight fc1.bias head.0.weight head.0.bias head.1.weight head.1.bias


@pytest.mark.parametrize(("name", "found"), [("fc1.weight", "fc1.weight"), ("0.w", "head.0.weight"),
                                             ("head.1.bias", "head.1.bias"), ("c1.b", "fc1.bias")])
def test_whole_names_and_parts(parameters, name, found):
    assert find_parameter(parameters, name).name == found


def test_a_whole_name_comes_before_parts():
    parameters = [*nn.SequentialCell(nn.Dense(2, 2)).trainable_params(), *Nested().trainable_params()]
    assert [item.name for item in parameters if "0.weight" in item.name] == ["0.weight", "head.0.weight"]
    assert find_parameter(parameters, "0.weight").name == "0.weight"


def test_refuses_what_names_several(parameters):
    with pytest.raises(ValueError, match="fc1.weight, head.0.weight, head.1.weight"):
        find_parameter(parameters, "weight")


def test_refuses_what_names_nothing(parameters):
    with pytest.raises(ValueError, match="'fc9'.*head.1.bias"):
        find_parameter(parameters, "fc9")


def test_refuses_two_descriptions_of_one_parameter(parameters):
    with pytest.raises(ValueError, match="'fc1.weight' and 'fc1.w' both name fc1.weight"):
        match_layers(parameters, [layer("fc1.weight"), layer("fc1.w")])


def test_refuses_one_index_twice(parameters):
    with pytest.raises(ValueError, match=r"grad_idx .*\[0, 0\]"):
        match_layers(parameters, [layer("fc1.weight", 0), layer("head.0.weight", 0)])


def test_refuses_other_objects(parameters):
    with pytest.raises(TypeError, match=r"mask_layers\[1\]"):
        match_layers(parameters, [layer("fc1.weight"), "head.0.weight"])


def test_get_one_mask_layer():
    layers = [layer("fc1"), layer("head.0.weight")]
    assert get_one_mask_layer(layers, "fc1.weight") is layers[0]
    assert get_one_mask_layer(layers, "head.0.weight") is layers[1]
    assert get_one_mask_layer(layers, "conv.weight") is None
    with pytest.raises(ValueError, match="'fc1', 'weight'"):
        get_one_mask_layer([layer("fc1"), layer("weight")], "fc1.weight")


GOOD = {"layer_name": "fc1", "grad_idx": 0, "is_add_noise": True, "is_lower_clip": False, "min_num": 3}


@pytest.mark.parametrize(("name", "value", "error"), [
    ("layer_name", 3, TypeError), ("layer_name", "", ValueError), ("grad_idx", -1, ValueError),
    ("grad_idx", 1.0, TypeError), ("grad_idx", True, TypeError), ("is_add_noise", 1, TypeError),
    ("is_lower_clip", None, TypeError), ("min_num", -2, ValueError), ("min_num", 0.5, TypeError),
    ("upper_bound", 0, ValueError), ("upper_bound", -1.0, ValueError), ("upper_bound", float("nan"), ValueError),
    ("upper_bound", float("inf"), ValueError), ("upper_bound", "1", TypeError)])
def test_refuses_bad_arguments(name, value, error):
    with pytest.raises(error, match=name):
        MaskLayerDes(**{**GOOD, name: value})


def test_documented_attributes():
    described = MaskLayerDes("fc1.weight", 2, True, False, -1)
    assert (described.layer_name, described.grad_idx, described.is_add_noise, described.is_lower_clip,
            described.min_num, described.upper_bound) == ("fc1.weight", 2, True, False, -1, 1.2)
    assert described.inited is False
