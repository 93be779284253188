"""Every kind of convolution in each of its forms, whatever the shape would choose, and the choice by shape."""
import mindspore as ms
import numpy as np
import pytest
from ghost_oracle import GRAM_TOLERANCE, assert_layer_exact
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from mindspore import nn

from mindarmour.privacy.diff_privacy.grads.layers import conv, products

ROWS = 4
PADDINGS = [{"pad_mode": "same"}, {"pad_mode": "pad", "padding": 1}]
KINDS = {"conv1d": (nn.Conv1d, (2, 6)), "conv2d": (nn.Conv2d, (2, 5, 4)),
         "conv2d_transpose": (nn.Conv2dTranspose, (2, 4, 3))}


@pytest.fixture(autouse=True)
def eager():
    ms.set_context(mode=ms.PYNATIVE_MODE)


def normal(*shape):
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("form", ["grouped", "patches"])
@pytest.mark.parametrize("padding", PADDINGS, ids=lambda options: options["pad_mode"])
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_both_forms(monkeypatch, kind, padding, form):
    monkeypatch.setattr(conv, "cheapest_form", lambda *arguments: form)
    make, shape = KINDS[kind]
    assert_layer_exact(make(2, 3, 3, stride=2, has_bias=True, **padding), normal(ROWS, *shape), 2, [1, 1, 0, 1])


@pytest.mark.parametrize("form", ["gram", "full"])
def test_both_forms_in_three_dimensions(monkeypatch, form):
    monkeypatch.setattr(products, "cheapest_form", lambda *arguments: form)
    assert_layer_exact(nn.Conv3d(2, 3, 2, has_bias=True), normal(ROWS, 2, 3, 3, 2), 2, [1, 1, 0, 1],
                       tolerance=GRAM_TOLERANCE)


@pytest.mark.parametrize("layer, images, output, form", [
    (lambda: nn.Conv2d(64, 96, 3), (3, 64, 2, 2), (3, 96, 2, 2), conv.PatchGradient),
    (lambda: nn.Conv2d(64, 96, 3), (3, 64, 16, 16), (3, 96, 16, 16), conv.GroupedWeightGradient),
    (lambda: nn.Conv1d(64, 96, 3), (3, 64, 2), (3, 96, 2), conv.PatchGradient),
    (lambda: nn.Conv1d(64, 96, 3), (3, 64, 400), (3, 96, 400), conv.GroupedWeightGradient),
    (lambda: nn.Conv2dTranspose(64, 96, 3), (3, 64, 2, 2), (3, 96, 2, 2), conv.PatchGradient),
    (lambda: nn.Conv2dTranspose(64, 96, 3), (3, 64, 16, 16), (3, 96, 16, 16), conv.GroupedWeightGradient)])
def test_a_layer_takes_the_cheapest_form(layer, images, output, form):
    cell = layer()
    rule = {nn.Conv1d: conv.Conv1dRule, nn.Conv2d: conv.Conv2dRule}.get(type(cell), conv.Conv2dTransposeRule)
    gradient = rule.gradient("weight", cell, (images, output), 3)
    wrapped = isinstance(gradient, (conv._Planar, conv._Reversed))
    assert type(gradient.gradient if wrapped else gradient) is form


EAGER = settings(max_examples=2, deadline=None, derandomize=True, phases=(Phase.explicit, Phase.generate),
                 suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.parametrize("kind", sorted(KINDS))
@EAGER
@given(group=st.integers(1, 2), dilation=st.integers(1, 2), padding=st.sampled_from(PADDINGS),
       units=st.sampled_from([1, 2, 4]))
def test_groups_and_dilation(kind, group, dilation, padding, units):
    make, shape = KINDS[kind]
    layer = make(2 * group, 3 * group, 2, group=group, dilation=dilation, **padding)
    assert_layer_exact(layer, normal(ROWS, shape[0] * group, *shape[1:]), units, [1, 1, 0, 1])
