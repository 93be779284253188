"""Decoder and query-free attacks: split by name and by protocol, options, checkpoints, bad input."""
import math

import mindspore as ms
import mindspore.dataset as ds
import numpy as np
import pytest
from mindspore import Tensor, nn

from mindarmour.privacy.evaluation import (
    ClassInversion,
    GradientInversion,
    ImageInversionAttack,
    ModelInversionAttack,
    ShadowModelAttack,
)
from mindarmour.privacy.evaluation.inversion.cell_checkpoint import load_cell, save_cell
from mindarmour.privacy.evaluation.inversion.split_network import head_of, tail_of

SHAPE = (1, 8, 8)


class Named(nn.Cell):
    """A network that knows nothing of splitting."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 4, 3, pad_mode="same", has_bias=True)
        self.relu, self.flatten, self.fc = nn.ReLU(), nn.Flatten(), nn.Dense(256, 3)

    def construct(self, x):
        return self.fc(self.relu(self.flatten(self.relu(self.conv1(x)))))


class Protocol(Named):
    """The same with the documented methods."""

    def get_layer_output(self, x, layer_name):
        if layer_name == "conv1":
            return self.conv1(x)
        raise ValueError(layer_name)

    def forward_from(self, x, layer_name):
        if layer_name == "conv1":
            return self.fc(self.relu(self.flatten(self.relu(x))))
        raise ValueError(layer_name)


@pytest.fixture(params=[Named, Protocol])
def victim(request):
    ms.set_seed(1)
    network = request.param()
    network.set_train(True)
    return network


def examples(count=96, seed=0):
    """Three classes of images: a bright bar at the top, in the middle, at the bottom."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, count).astype(np.int32)
    images = 0.1 * rng.random((count, *SHAPE)).astype(np.float32)
    for image, label in zip(images, labels):
        image[0, 3 * label:3 * label + 2, rng.integers(0, 3):] += 0.8
    return images, labels


def dataset(count=96, seed=0, size=32):
    images, labels = examples(count, seed)
    return ds.NumpySlicesDataset({"image": images, "label": labels}, shuffle=False).batch(size)


def decoder():
    return nn.Conv2d(4, 1, 3, pad_mode="same", has_bias=True)


def shadow():
    return nn.Conv2d(1, 4, 3, pad_mode="same", has_bias=True)


def test_both_halves_make_the_whole(mode, victim):
    images = Tensor(examples(3)[0])
    feature = head_of(victim, "conv1")(images)
    np.testing.assert_allclose(feature.asnumpy(), victim.conv1(images).asnumpy(), rtol=1e-5, atol=1e-6)
    logits = tail_of(victim, "conv1")(feature, Tensor(np.zeros((3, *SHAPE), np.float32)))
    np.testing.assert_allclose(logits.asnumpy(), victim(images).asnumpy(), rtol=1e-5, atol=1e-6)


def test_splitting_leaves_the_network_and_the_mode_alone(mode, victim):
    before = ms.get_context("mode")
    images = Tensor(examples(3)[0])
    whole = victim(images).asnumpy()
    head_of(victim, "conv1")(images)
    tail_of(victim, "conv1")(Tensor(np.zeros((3, 4, 8, 8), np.float32)), images)
    assert ms.get_context("mode") == before
    np.testing.assert_allclose(victim(images).asnumpy(), whole, rtol=1e-6)


def test_nested_names_can_be_split():
    inner = nn.SequentialCell(nn.Conv2d(1, 4, 3), nn.ReLU())
    network = nn.SequentialCell(inner, nn.Flatten(), nn.Dense(256, 3))
    images = Tensor(examples(2)[0])
    np.testing.assert_allclose(head_of(network, "0.1")(images).asnumpy(), inner(images).asnumpy(), rtol=1e-6)


def test_a_layer_called_twice_is_refused():
    with pytest.raises(ValueError, match="is called 2 times"):
        head_of(Named(), "relu")(Tensor(examples(2)[0]))


def test_the_decoder_learns_to_invert(mode, victim, tmp_path):
    before = victim.conv1.weight.asnumpy().copy()
    attack = ModelInversionAttack(victim, decoder(), SHAPE, tmp_path / "decoder")
    untrained = attack.evaluate(dataset(32, 1))
    history = attack.train_inversion_model(dataset(), 12, learningrate=2e-2, progress=False)
    assert len(history) == 12 and history[-1] < history[0] / 3
    ssim, psnr = attack.evaluate(dataset(32, 1))
    assert ssim > untrained[0] + 0.3 and psnr > untrained[1] + 5
    assert sorted(p.name for p in (tmp_path / "decoder").iterdir()) == ["invmodel_conv1_10.ckpt",
                                                                      "invmodel_conv1_12.ckpt"]
    np.testing.assert_array_equal(victim.conv1.weight.asnumpy(), before)
    assert victim.training
    again = ModelInversionAttack(victim, decoder(), SHAPE, str(tmp_path / "decoder" / "invmodel_conv1_12.ckpt"))
    assert again.evaluate(dataset(32, 1)) == pytest.approx((ssim, psnr), rel=1e-4)


def test_options_of_the_decoder_change_its_training(tmp_path):
    histories = []
    for options in ({}, {"learningrate": 1e-2}, {"eps": 1.0}):
        ms.set_seed(3)
        attack = ModelInversionAttack(Named(), decoder(), SHAPE, tmp_path)
        histories.append(attack.train_inversion_model(dataset(), 4, progress=False, **options)[-1])
    assert len(set(histories)) == 3


@pytest.mark.parametrize("apply_ams", [True, False])
def test_apply_ams_reaches_the_optimizer(apply_ams, tmp_path, monkeypatch):
    # the variants differ only once gradients have shrunk for long, so the training itself cannot tell here
    seen, adam = [], nn.Adam

    def spy(*args, **options):
        seen.append(options["use_amsgrad"])
        return adam(*args, **options)

    monkeypatch.setattr(nn, "Adam", spy)
    ModelInversionAttack(Named(), decoder(), SHAPE, tmp_path).train_inversion_model(dataset(32), 1, progress=False,
                                                                                    apply_ams=apply_ams)
    ShadowModelAttack(Named(), shadow(), tmp_path).train_shadow_model(
        dataset(32), {"epochs": 1, "num_classes": 3, "apply_ams": apply_ams}, progress=False)
    assert seen == [apply_ams, apply_ams]


def test_the_data_range_is_that_of_the_bound(tmp_path, caplog):
    attack = ModelInversionAttack(Named(), decoder(), SHAPE, tmp_path)
    narrow, wide = attack.evaluate(dataset(32)), attack.evaluate(dataset(32), input_bound=(-1, 1))
    assert wide[1] > narrow[1]


def test_an_empty_dataset_scores_zero_and_trains_nothing(tmp_path):
    empty = dataset(8, size=32).skip(1)
    attack = ModelInversionAttack(Named(), decoder(), SHAPE, tmp_path)
    assert attack.evaluate(empty) == (0, 0)
    with pytest.raises(ValueError, match="at least one batch"):
        attack.train_inversion_model(empty, 1, progress=False)


def test_the_shadow_learns_through_the_last_layers(mode, victim, tmp_path):
    before = [p.asnumpy().copy() for p in victim.get_parameters()]
    attack = ShadowModelAttack(victim, shadow(), str(tmp_path), "conv1")
    config = {"epochs": 3, "learningrate": 1e-2, "num_classes": 3}
    history = attack.train_shadow_model(dataset(), config, progress=False)
    assert len(history) == 3 and history[-1] < history[0]
    assert [p.name for p in tmp_path.iterdir()] == ["shadowmodel_conv1_3.ckpt"]
    for parameter, value in zip(victim.get_parameters(), before):
        np.testing.assert_array_equal(parameter.asnumpy(), value)
    assert victim.training


def test_the_shadow_s_loss_is_the_mean_over_examples_whatever_the_batches(victim):
    attack = ShadowModelAttack(victim, victim.conv1, split_layer="conv1")
    images, labels = examples(50, 2)
    logits = victim(Tensor(images)).asnumpy().astype(np.float64)
    expected = np.mean(np.log(np.exp(logits).sum(1)) - logits[np.arange(50), labels])
    for size in (50, 32, 7):
        loss = attack.evaluate(dataset(50, 2, size), 3)
        assert isinstance(loss, float) and loss == pytest.approx(expected, rel=1e-4)


def test_options_of_the_shadow_change_its_training(tmp_path):
    results = []
    for options in ({}, {"learningrate": 1e-2}, {"eps": 1.0}, {"epochs": 2}):
        ms.set_seed(3)
        attack = ShadowModelAttack(Named(), shadow(), tmp_path)
        history = attack.train_shadow_model(dataset(), {"num_classes": 3, "epochs": 4, **options}, progress=False)
        results.append(history[-1])
        assert len(history) == options.get("epochs", 4)
    assert len(set(results)) == 4


def test_a_trained_shadow_serves_feature_inversion(tmp_path):
    network = shadow()
    ShadowModelAttack(Named(), network, tmp_path).train_shadow_model(dataset(), {"num_classes": 3, "epochs": 1},
                                                                     progress=False)
    images = examples(2)[0]
    attack = ImageInversionAttack(network, SHAPE, (0, 1), (1, 1e-6, 1e-6))
    assert attack.evaluate(images, attack.generate(network(Tensor(images)).asnumpy(), 200, seed=0))[1] > 0.8


ATTACKS = {
    "decoder": (ModelInversionAttack, decoder, (SHAPE,), "invmodel_conv1",
                lambda attack, data, epochs=1, lr=1e-3: attack.train_inversion_model(data, epochs, lr, progress=False)),
    "shadow": (ShadowModelAttack, shadow, (), "shadowmodel_conv1",
               lambda attack, data, epochs=1, lr=1e-3: attack.train_shadow_model(
                   data, {"epochs": epochs, "num_classes": 3, "learningrate": lr}, progress=False)),
}


@pytest.fixture(params=ATTACKS)
def trained_attack(request):
    """(function (path, cell, network) -> attack, function that builds the cell, stem of the files, train)."""
    kind, build, arguments, stem, train = ATTACKS[request.param]
    return (lambda path, cell, network=None: kind(network or Named(), cell, *arguments, path)), build, stem, train


def test_resumed_training_numbers_its_files_on(trained_attack, tmp_path):
    make, build, stem, train = trained_attack
    attack = make(tmp_path, build())
    train(attack, dataset(32), 2)
    first = (tmp_path / f"{stem}_2.ckpt").read_bytes()
    assert len(train(attack, dataset(32), 8)) == 8
    train(make(tmp_path / f"{stem}_10.ckpt", build()), dataset(32), 1)
    assert {path.name for path in tmp_path.iterdir()} == {f"{stem}_{epochs}.ckpt" for epochs in (2, 10, 11)}
    assert (tmp_path / f"{stem}_2.ckpt").read_bytes() == first
    renamed = (tmp_path / f"{stem}_2.ckpt").rename(tmp_path / "best.ckpt")
    train(make(renamed, build()), dataset(32), 1)
    assert (tmp_path / f"{stem}_1.ckpt").exists(), "a file of another name has no number to go on from"


def test_training_that_diverges_ends_with_an_error_and_saves_no_nan(trained_attack, tmp_path):
    make, build, stem, train = trained_attack
    cell = build()
    attack = make(tmp_path, cell)
    train(attack, dataset(32), 1)
    with pytest.raises(ArithmeticError, match="Lower learningrate"):
        train(attack, dataset(96, size=8), 9, 1e39)
    assert [path.name for path in tmp_path.iterdir()] == [f"{stem}_1.ckpt"]
    assert not cell.training


def test_weights_that_overflow_in_the_last_step_are_not_saved(trained_attack, tmp_path):
    make, build, _, train = trained_attack
    # the loss of the only step is computed before it; the step itself takes the weights out of float32
    with pytest.raises(ArithmeticError, match="Lower learningrate"):
        train(make(tmp_path, build()), dataset(32), 1, 1e39)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", [np.float64, np.float16, np.uint8, np.int64])
def test_images_of_other_types_are_served(trained_attack, kind, tmp_path):
    make, build, _, train = trained_attack
    images, labels = examples(32)
    images = np.round(255 * images) if kind in (np.uint8, np.int64) else images
    histories = []
    for rows in (images.astype(kind), images.astype(kind).astype(np.float32)):
        ms.set_seed(3)
        data = ds.NumpySlicesDataset({"image": rows, "label": labels}, shuffle=False).batch(16)
        histories.append(train(make(tmp_path, build()), data, 2))
    assert histories[0] == pytest.approx(histories[1], rel=1e-5)


def test_images_with_nan_are_refused(trained_attack, tmp_path):
    make, build, _, train = trained_attack
    images, labels = examples(32)
    images[17, 0, 3, 3] = np.nan
    data = ds.NumpySlicesDataset({"image": images, "label": labels}, shuffle=False).batch(16)
    with pytest.raises(ValueError, match="finite images"):
        train(make(tmp_path, build()), data)
    assert not list(tmp_path.iterdir())


def test_a_stand_in_that_shares_weights_with_the_victim_is_not_trained(trained_attack, tmp_path):
    make, build, _, train = trained_attack
    network, cell = Named(), build()
    network.insert_child_to_cell("adopted", cell)
    with pytest.raises(ValueError, match="weights of its own"):
        train(make(tmp_path, cell, network), dataset(32))


def test_building_and_asking_move_no_statistics(tmp_path):
    norm = nn.BatchNorm2d(1)
    cell = nn.SequentialCell(decoder(), norm).set_train()
    before = norm.moving_mean.asnumpy().copy()
    attack = ModelInversionAttack(Named(), cell, SHAPE, tmp_path)
    attack.evaluate(dataset(32))
    np.testing.assert_array_equal(norm.moving_mean.asnumpy(), before)
    attack.train_inversion_model(dataset(32), 1, progress=False)
    assert np.abs(norm.moving_mean.asnumpy() - before).max() > 0, "training moves them"


@pytest.mark.parametrize("base", [Named, Protocol])
def test_last_layers_that_end_in_softmax_are_told_from_logits(base, tmp_path):
    class Ending(base):
        def construct(self, x):
            return ms.ops.softmax(super().construct(x), 1)

        def forward_from(self, x, layer_name):
            return ms.ops.softmax(self.fc(self.relu(self.flatten(self.relu(x)))), 1)

    if base is Named:
        del Ending.forward_from
    plain, ending = base(), Ending()
    ms.load_param_into_net(ending, plain.parameters_dict())
    one, other = (ShadowModelAttack(net, plain.conv1, tmp_path).evaluate(dataset(32), 3) for net in (plain, ending))
    assert other == pytest.approx(one, rel=1e-4)


def test_another_number_of_classes_is_one_clear_error(tmp_path):
    attack = ShadowModelAttack(Named(), shadow(), tmp_path)
    for call in (lambda: attack.evaluate(dataset(32)), lambda: attack.train_shadow_model(dataset(32), progress=False)):
        with pytest.raises(ValueError, match="num_classes must be the network's number of classes, 3, but got 10"):
            call()


def test_checkpoints_are_written_whole_and_checked(tmp_path):
    path = save_cell(decoder(), tmp_path / "new" / "cell.ckpt")
    assert [file.name for file in path.parent.iterdir()] == ["cell.ckpt"]
    other = decoder()
    load_cell(other, path)
    with pytest.raises(ValueError, match="another network's"):
        load_cell(nn.Dense(3, 4), path)
    with pytest.raises(ValueError, match="another network's"):
        load_cell(nn.Conv2d(4, 2, 3, has_bias=True), path)
    (tmp_path / "text.ckpt").write_text("not a checkpoint")
    with pytest.raises(ValueError, match="cannot be read"):
        load_cell(other, tmp_path / "text.ckpt")


@pytest.mark.parametrize("make", [
    lambda path: ModelInversionAttack(Named(), decoder(), SHAPE, path),
    lambda path: ShadowModelAttack(Named(), shadow(), path)])
def test_a_missing_or_foreign_checkpoint_is_refused(make, tmp_path):
    with pytest.raises(FileNotFoundError, match="no file"):
        make(str(tmp_path / "missing.ckpt"))
    foreign = save_cell(nn.Dense(3, 4), tmp_path / "foreign.ckpt")
    with pytest.raises(ValueError, match="another network's"):
        make(foreign)


@pytest.mark.parametrize("arguments, error, message", [
    ({"network": len}, TypeError, "network"),
    ({"inv_network": len}, TypeError, "inv_network"),
    ({"input_shape": 8}, TypeError, "input_shape"),
    ({"input_shape": (8, 8)}, ValueError, "input_shape"),
    ({"split_layer": 1}, TypeError, "split_layer"),
    ({"split_layer": "conv9"}, ValueError, "one of conv1, relu, flatten, fc, but got 'conv9'"),
    ({"network": Protocol(), "split_layer": "conv9"}, ValueError, "Its layers are conv1, relu, flatten, fc"),
    ({"inv_network": nn.Conv2d(4, 2, 3, pad_mode="same")}, ValueError, r"into \(1, 1, 8, 8\), but returns"),
    ({"inv_network": nn.Conv2d(5, 1, 3)}, ValueError, "inv_network must take the feature"),
])
def test_the_decoder_attack_refuses(arguments, error, message):
    good = {"network": Named(), "inv_network": decoder(), "input_shape": SHAPE}
    with pytest.raises(error, match=message):
        ModelInversionAttack(**{**good, **arguments})


@pytest.mark.parametrize("arguments, error, message", [
    ({"dataset": [1]}, TypeError, "dataset"),
    ({"epochs": 0}, ValueError, "epochs"),
    ({"epochs": 1.0}, TypeError, "epochs"),
    ({"learningrate": 0.0}, ValueError, "learningrate"),
    ({"learningrate": math.nan}, ValueError, "learningrate"),
    ({"eps": math.inf}, ValueError, "eps"),
    ({"apply_ams": 1}, TypeError, "apply_ams"),
])
def test_the_decoder_s_training_refuses(arguments, error, message, tmp_path):
    attack = ModelInversionAttack(Named(), decoder(), SHAPE, tmp_path)
    with pytest.raises(error, match=message):
        attack.train_inversion_model(**{"dataset": dataset(), **arguments})


def test_inverse_and_evaluate_refuse(tmp_path):
    attack = ModelInversionAttack(Named(), decoder(), SHAPE, tmp_path)
    with pytest.raises(TypeError, match="target_feature"):
        attack.inverse(np.zeros((1, 4, 8, 8), np.float32))
    with pytest.raises(TypeError, match="dataset"):
        attack.evaluate([1])
    with pytest.raises(ValueError, match="input_bound"):
        attack.evaluate(dataset(), input_bound=(1, 0))


@pytest.mark.parametrize("arguments, error, message", [
    ({"network": len}, TypeError, "network"),
    ({"shadow_network": len}, TypeError, "shadow_network"),
    ({"split_layer": "conv9"}, ValueError, "one of conv1, relu, flatten, fc, but got 'conv9'"),
    ({"ckpoint_path": 3}, TypeError, "ckpoint_path"),
])
def test_the_shadow_attack_refuses(arguments, error, message):
    with pytest.raises(error, match=message):
        ShadowModelAttack(**{"network": Named(), "shadow_network": shadow(), **arguments})


@pytest.mark.parametrize("config, error, message", [
    ([], TypeError, "attack_config"),
    ({"epcohs": 3}, ValueError, r"unknown keys \['epcohs'\]"),
    ({"epochs": 0}, ValueError, "epochs"),
    ({"learningrate": -1.0}, ValueError, "learningrate"),
    ({"learningrate": math.nan}, ValueError, "learningrate"),
    ({"eps": "1"}, TypeError, "eps"),
    ({"num_classes": 2}, ValueError, "labels must be classes from 0 to 1"),
    ({"apply_ams": None}, TypeError, "apply_ams"),
])
def test_the_shadow_s_training_refuses(config, error, message, tmp_path):
    attack = ShadowModelAttack(Named(), shadow(), tmp_path)
    with pytest.raises(error, match=message):
        attack.train_shadow_model(dataset(), config, progress=False)


def test_a_shadow_of_another_shape_is_refused(tmp_path):
    wrong = nn.Conv2d(1, 5, 3)
    with pytest.raises(ValueError, match="must have shape"):
        ShadowModelAttack(Named(), wrong, tmp_path).train_shadow_model(dataset(), {"num_classes": 3},
                                                                       progress=False)
    with pytest.raises(ValueError, match="split_layer must be a layer"):
        ShadowModelAttack(Protocol(), shadow(), tmp_path, "conv9").evaluate(dataset(), 3)


def test_no_attack_renames_parameters(tmp_path):
    # a cell that adopts a network puts its own name in front of the parameters, and checkpoints stop fitting
    network, copy, stand_in = Protocol(), decoder(), shadow()
    names = [[p.name for p in cell.get_parameters()] for cell in (network, copy, stand_in)]
    ModelInversionAttack(network, copy, SHAPE, tmp_path).train_inversion_model(dataset(32), 1, progress=False)
    ShadowModelAttack(network, stand_in, tmp_path).train_shadow_model(dataset(32), {"epochs": 1, "num_classes": 3},
                                                                      progress=False)
    ImageInversionAttack(network, SHAPE, (0, 1)).generate(np.ones((1, 3), np.float32), 2)
    ClassInversion(network, SHAPE, (0, 1)).reconstruct(np.array([1]), iters=2, restarts=1)
    GradientInversion(network.set_train(False)).reconstruct([np.ones(p.shape) for p in network.trainable_params()],
                                                            SHAPE, iters=2, seed=0, progress=False)
    assert [[p.name for p in cell.get_parameters()] for cell in (network, copy, stand_in)] == names
