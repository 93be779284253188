"""The controller's documented interface, its measures, its picture and its refusals."""
import re

import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, Tensor, nn
from suppress_nets import PLAN, STEPS, layers, masks_of, new_net

from mindarmour.privacy.sup_privacy import MaskLayerDes, SuppressCtrl, SuppressPrivacyFactory, plot_sparsity
from mindarmour.privacy.sup_privacy.sup_ctrl.conctrl import DeWeightInCell, GradMaskInCell

ARGUMENTS = {**PLAN, "sparse_start": 0.0}


def controller(net=None, mask_layers=None, **plan):
    return SuppressPrivacyFactory.create(net or new_net(), mask_layers or layers(), **{**PLAN, **plan})


def values(net):
    return {item.name: item.asnumpy().copy() for item in net.get_parameters()}


def test_positional_signature():
    ctrl = SuppressCtrl(new_net(), layers(), 4, 6, 2, 9, 0.05, 0.9, 0.0)
    assert (ctrl.schedule.end_epoch, ctrl.batch_num, ctrl.schedule.start_epoch, ctrl.schedule.mask_times, ctrl.lr,
            ctrl.schedule.sparse_end, ctrl.schedule.sparse_start) == (4, 6, 2, 9, 0.05, 0.9, 0.0)
    assert isinstance(ctrl, nn.Cell)


@pytest.mark.parametrize(("policy", "error"), [("remote", ValueError), (3, TypeError), (None, TypeError)])
def test_policy(policy, error):
    with pytest.raises(error, match="policy"):
        SuppressPrivacyFactory.create(new_net(), layers(), policy=policy)


@pytest.mark.parametrize(("name", "value", "error"), [
    ("networks", None, TypeError), ("mask_layers", None, TypeError), ("mask_layers", tuple(layers()), TypeError),
    ("mask_layers", [], ValueError), ("mask_layers", ["fc1.weight"], TypeError), ("end_epoch", 0, ValueError),
    ("batch_num", 1.5, TypeError), ("start_epoch", 9, ValueError), ("mask_times", -1, ValueError),
    ("lr", 0, ValueError), ("lr", -0.1, ValueError), ("lr", float("nan"), ValueError), ("lr", float("inf"), ValueError),
    ("lr", "0.1", TypeError), ("sparse_end", 1.0, ValueError), ("sparse_start", 0.95, ValueError),
    ("seed", -1, ValueError), ("seed", 1.5, TypeError)])
def test_refuses_bad_arguments(name, value, error):
    with pytest.raises(error, match=name):
        SuppressCtrl(**{"networks": new_net(), "mask_layers": layers(), **ARGUMENTS, name: value})


def test_end_epoch_has_no_limit():
    assert controller(end_epoch=500).schedule.end_epoch == 500


def test_refuses_what_can_never_be_reached():
    with pytest.raises(ValueError, match="at most the 36 weights of conv1.weight, but got 37"):
        controller(mask_layers=[MaskLayerDes("conv1.weight", 0, False, False, 37)])
    with pytest.raises(ValueError, match="never suppresses any of the 36"):
        controller(mask_layers=[MaskLayerDes("conv1.weight", 0, False, False, 36)])
    with pytest.raises(ValueError, match="never suppresses any of the 5"):
        controller(mask_layers=[MaskLayerDes("fc2.bias", 4, False, False, -1)], sparse_end=0.15)


def test_refuses_a_layer_that_matches_nothing():
    with pytest.raises(ValueError, match="'fc7'"):
        controller(mask_layers=[MaskLayerDes("fc7", 0, False, False, -1)])


def test_update_status_checks_its_steps():
    ctrl = controller()
    with pytest.raises(ValueError, match="cur_step must be step 2 of epoch 3, which is 14.*got 8"):
        ctrl.update_status(3, 8, 2)
    with pytest.raises(ValueError, match="cur_step_in_epoch"):
        ctrl.update_status(1, 7, 7)
    ctrl.update_status(1, 3, 3)
    assert (ctrl.position, ctrl.mask_due, ctrl.target_sparsity) == (3, False, 0.0)
    with pytest.raises(ValueError, match="behind the 3 steps"):
        ctrl.update_status(1, 3, 3)
    ctrl.update_status(2, 9, 3)  # steps passed over: what was due in between is due now
    assert ctrl.mask_due


def test_update_mask_sets_exactly_the_smallest_to_zero(mode):
    net = new_net()
    before = values(net)
    ctrl = controller(net, [MaskLayerDes("fc1.weight", 1, False, False, -1),
                            MaskLayerDes("fc2.weight", 3, False, False, -1, 1e9)])
    ctrl.update_mask(net, 10, target_sparse=0.75)
    for name in ("fc1.weight", "fc2.weight"):
        kept = masks_of(ctrl)[name]
        assert kept.sum() == kept.size // 4
        assert np.abs(before[name][~kept]).max() <= np.abs(before[name][kept]).min()
        np.testing.assert_array_equal(values(net)[name], np.where(kept, before[name], 0))
    np.testing.assert_array_equal(values(net)["conv1.weight"], before["conv1.weight"])
    assert ctrl.history[-1].layers == {"fc1.weight": 0.75, "fc2.weight": 0.75}


def test_masks_only_grow():
    net = new_net()
    ctrl = controller(net)
    ctrl.update_mask(net, 10, target_sparse=0.5)
    first = masks_of(ctrl)
    ms.ops.assign(net.fc1.weight, Tensor(np.random.default_rng(0).normal(size=(80, 144)).astype(np.float32)))
    ctrl.update_mask(net, 11, target_sparse=0.6)
    second = masks_of(ctrl)
    for name in first:
        assert not np.any(second[name] & ~first[name])
        assert second[name].sum() < first[name].sum()
    ctrl.update_mask(net, 12, target_sparse=0.1)
    for name, kept in masks_of(ctrl).items():
        np.testing.assert_array_equal(kept, second[name])


def test_floor_and_noise_only_where_the_documentation_says():
    net = new_net()
    for parameter in (net.conv1.weight, net.fc1.weight, net.fc2.weight):
        ms.ops.assign(parameter, Tensor(np.resize(np.float32([0.001, 0.8, 0.3, 2.0]), parameter.shape)))
    ctrl = controller(net, seed=7)
    ctrl.update_mask(net, 7)  # target 0: nothing is suppressed
    changed = {name: np.unique(np.round(value, 5)) for name, value in values(net).items() if name in masks_of(ctrl)}
    np.testing.assert_allclose(changed["conv1.weight"], [0.005, 0.3, 0.8, 1.2])  # floor and cap
    np.testing.assert_allclose(changed["fc1.weight"], [0.001, 0.3, 0.8, 2.0])  # large: left alone
    assert len(changed["fc2.weight"]) > 50 and changed["fc2.weight"].max() <= np.float32(1.2)  # noise, cap
    assert changed["fc2.weight"][0] == pytest.approx(0.001)


def test_noise_repeats_with_the_seed():
    outcomes = []
    for seed in (7, 7, 8):
        net = new_net()
        ms.ops.assign(net.fc2.weight, Tensor(np.ones(net.fc2.weight.shape, np.float32)))
        controller(net, seed=seed).update_mask(net, 7)
        outcomes.append(net.fc2.weight.asnumpy())
    np.testing.assert_array_equal(outcomes[0], outcomes[1])
    assert np.mean(outcomes[0] == outcomes[2]) < 0.01


def test_first_layer_is_given_up_when_it_has_vanished(capfd):
    net = new_net()
    ms.ops.assign(net.conv1.weight, Tensor(np.full((4, 1, 3, 3), 0.01, np.float32)))
    ctrl = controller(net)
    ctrl.update_mask(net, 10, target_sparse=0.5)
    assert ctrl.sparsity()["conv1.weight"] == 0
    assert ctrl.sparsity()["fc2.weight"] == 0.5
    np.testing.assert_array_equal(net.conv1.weight.asnumpy(), np.float32(0.01))


def test_measures():
    net = new_net()
    ctrl = controller(net)
    assert ctrl.calc_theoretical_sparse_for_conv() == (0.0, 0.0, 0.0)
    ctrl.update_mask(net, 10, target_sparse=0.5)
    assert ctrl.calc_theoretical_sparse_for_conv() == (0.5, 0.5, 0.0)
    assert ctrl.calc_actual_sparse_for_conv(net) == (0.5, 0.5, 0.0)
    assert ctrl.calc_actual_sparse_for_fc1(net) == 0.5
    assert ctrl.calc_actual_sparse_for_layer(net, "fc2.weight") == 0.5
    assert ctrl.calc_actual_sparse_for_layer(net, "fc2.bias") in (0.0, 1.0)  # not described, counted all the same
    assert ctrl.calc_actual_sparse_for_layer(net, "fc9.weight") == 0.0
    assert ctrl.sparsity() == {"conv1.weight": 0.5, "fc1.weight": 0.5, "fc2.weight": 0.5}
    assert re.fullmatch(r"step 0: target 0.000, suppressed 0.500 \(conv1.weight 0.500, .*\)", ctrl.progress_line())
    ctrl.print_paras()
    with pytest.raises(TypeError, match="layer_name"):
        ctrl.calc_actual_sparse_for_layer(net, 3)
    with pytest.raises(TypeError, match="networks"):
        ctrl.calc_actual_sparse_for_layer(None, "fc2.weight")


def test_one_parameter_is_enough():
    net = nn.Dense(20, 10, has_bias=False)
    ctrl = controller(net, [MaskLayerDes("weight", 0, False, False, -1)])
    ctrl.update_mask(net, 10, target_sparse=0.5)
    assert ctrl.calc_theoretical_sparse_for_conv() == ctrl.calc_actual_sparse_for_conv(net) == (0.0, 0.0, 0.0)
    assert ctrl.calc_actual_sparse_for_fc1(net) == 0.5


def test_update_mask_refuses_another_network():
    net = new_net()
    ctrl = controller(net)
    with pytest.raises(ValueError, match="conv1.weight, fc1.weight, fc2.weight"):
        ctrl.update_mask(new_net(), 10)
    with pytest.raises(TypeError, match="networks"):
        ctrl.update_mask(None, 10)
    with pytest.raises(ValueError, match="target_sparse"):
        ctrl.update_mask(net, 10, target_sparse=1.0)


def test_single_layer_methods():
    net = new_net()
    ctrl = controller(net, [MaskLayerDes("fc2.weight", 3, False, False, -1, 1e9)])
    flat = net.fc2.weight.asnumpy().reshape(-1)
    magnitude = np.abs(flat)
    ctrl.update_mask_layer(flat, np.sort(magnitude)[9], 50, magnitude.max(), 0)
    assert ctrl.sparsity()["fc2.weight"] == 10 / 400  # the threshold stops before the position
    ctrl.update_mask_layer(flat, magnitude.max(), 50, magnitude.max(), 0)
    assert ctrl.sparsity()["fc2.weight"] == 50 / 400
    ctrl.update_mask_layer_approximity(flat, magnitude, 80, 0)
    assert ctrl.sparsity()["fc2.weight"] == 80 / 400
    with pytest.raises(ValueError, match="layer_index"):
        ctrl.update_mask_layer_approximity(flat, magnitude, 80, 1)
    with pytest.raises(ValueError, match=r"shape \(400,\)"):
        ctrl.update_mask_layer_approximity(flat[1:], magnitude[1:], 80, 0)


def test_mask_cells(mode):
    weight = Parameter(Tensor(np.float32([1, 2, 3])), name="w")
    grad_mask = GradMaskInCell(weight)
    grad_mask.mask.set_data(Tensor([True, False, True]))
    np.testing.assert_array_equal(grad_mask(Tensor(np.float32([4, np.nan, 6]))).asnumpy(), [4, 0, 6])
    DeWeightInCell(weight, grad_mask)()
    np.testing.assert_array_equal(weight.asnumpy(), [1, 0, 3])
    assert weight.name == "w"


def test_half_precision_weights(mode):
    net = nn.Dense(40, 10).to_float(ms.float16)
    for parameter in net.get_parameters():
        parameter.set_dtype(ms.float16)
    ctrl = controller(net, [MaskLayerDes("weight", 0, True, True, -1)])
    ctrl.update_mask(net, 10, target_sparse=0.5)
    ctrl.reset_zeros()
    assert net.weight.dtype == ms.float16
    assert np.mean(net.weight.asnumpy() == 0) == 0.5


def test_picture(tmp_path):
    net = new_net()
    ctrl = controller(net)
    with pytest.raises(ValueError, match="Train first"):
        plot_sparsity(ctrl, tmp_path / "sparsity.png")
    for step in ctrl.schedule.update_steps():
        ctrl.update_mask(net, int(step))
    path = plot_sparsity(ctrl, tmp_path / "sparsity.png")
    assert path.read_bytes()[:4] == b"\x89PNG"
    assert [item.name for item in tmp_path.iterdir()] == ["sparsity.png"]
    with pytest.raises(TypeError, match="path"):
        plot_sparsity(ctrl, 3)
    assert [record.step for record in ctrl.history][:2] == [STEPS + 1, STEPS + 3]


@pytest.mark.parametrize("shape", [(100, 90), (100, 110)])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_run_that_diverged_clears_no_mask(shape, value):
    net = nn.Dense(shape[1], shape[0], has_bias=False)
    ctrl = SuppressPrivacyFactory.create(net, [MaskLayerDes("weight", None, False, False, -1)], **{**ARGUMENTS,
                                                                                               "lr": None})
    ctrl.update_mask(net, 50, 0.5)
    before = masks_of(ctrl)["weight"]
    ms.ops.assign(net.weight, Tensor(np.where(before.reshape(shape), value, 0).astype(np.float32)))
    ctrl.update_mask(net, 60, 0.6)
    after = masks_of(ctrl)["weight"]
    assert not (after & ~before).any()
    assert (net.weight.asnumpy()[~after.reshape(shape)] == 0).all()
