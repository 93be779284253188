"""The reconstruction report: metrics, baselines, the honest outcome, the figure."""
import json
import math

import numpy as np
import pytest
from mindspore import Tensor, nn
from PIL import Image

from mindarmour.privacy.evaluation import reconstruction_report
from mindarmour.privacy.evaluation.inversion.reconstruction_figure import draw
from mindarmour.utils.image_metrics import compute_psnr, compute_ssim


@pytest.fixture
def images():
    return np.random.default_rng(0).random((6, 1, 10, 14))


def test_metrics_are_those_of_each_pair(images):
    other = np.clip(images + 0.1, 0, 1)
    report = reconstruction_report(images, other, data_range=1)
    for name, expected in (("ssim", [compute_ssim(a, b, 1, channel_axis=0) for a, b in zip(images, other)]),
                           ("psnr", [compute_psnr(a, b, 1) for a, b in zip(images, other)]),
                           ("mse", [np.mean((a - b) ** 2) for a, b in zip(images, other)])):
        np.testing.assert_allclose(report[name].values, expected)
    relative = np.linalg.norm(images[2] - other[2]) / np.linalg.norm(images[2])
    assert report["relative_l2"].values[2] == pytest.approx(relative)


def test_the_baseline_is_the_metric_between_different_originals(images):
    report = reconstruction_report(images, images, data_range=1)
    pairs = [compute_ssim(a, b, 1, channel_axis=0) for a in images for b in images if a is not b]
    assert report["ssim"].baseline_mean == pytest.approx(np.mean([p for p in pairs if p < 1]))
    assert len(report["psnr"].baseline) == 30 and np.isfinite(report["psnr"].baseline).all()


def test_equal_originals_are_no_random_pair(images):
    twins = np.concatenate([images, images])
    assert np.isfinite(reconstruction_report(twins, twins, data_range=1)["psnr"].baseline_mean)


def test_the_baseline_can_come_from_other_images(images):
    report = reconstruction_report(images[:1], images[:1], data_range=1, references=images[1:])
    assert len(report["ssim"].baseline) == 5
    assert report.outcome == "recognisable"


def test_without_another_image_nothing_is_claimed(images):
    report = reconstruction_report(images[:1], images[:1], data_range=1)
    assert math.isnan(report["ssim"].baseline_mean)
    assert report.outcome == "unrecognisable"


@pytest.mark.parametrize("right, outcome", [(6, "recognisable"), (3, "recognisable"), (1, "partly recognisable"),
                                            (0, "unrecognisable")])
def test_the_outcome_counts_images_that_beat_the_baseline(images, right, outcome):
    found = np.concatenate([images[:right], np.random.default_rng(1).random((6 - right, 1, 10, 14))])
    report = reconstruction_report(images, found, data_range=1)
    assert report.recognised.sum() == right and report.outcome == outcome


def test_a_dark_background_alone_is_not_recognition():
    # two strokes on black share most pixels: their SSIM is high, yet neither is a reconstruction of the other
    images = np.zeros((8, 1, 28, 28))
    for row in range(8):
        images[row, 0, 3 * row:3 * row + 2, 4:24] = 1
    report = reconstruction_report(images, np.roll(images, 1, axis=0), data_range=1)
    assert report["ssim"].mean > 0.3
    # one pair in twenty is as close as the closest strokes are
    assert report.recognised.sum() <= 1


def test_a_changed_background_does_not_hide_a_recognisable_shape():
    images = np.zeros((8, 1, 28, 28))
    for row in range(8):
        images[row, 0, 3 * row:3 * row + 2, 4:24] = 1
    noise = 0.02 * np.random.default_rng(0).standard_normal(images.shape)
    report = reconstruction_report(images, 0.35 + 0.6 * images + noise, data_range=1)
    assert report["ssim"].mean < 0.5 and report["correlation"].mean > 0.9
    assert report.outcome == "recognisable"


def test_class_metrics(images):
    # outputs that all lie in [0, 1] would be refused as neither logits nor probabilities
    head = nn.Dense(140, 3, bias_init=Tensor(np.array([-3, 0, 3], np.float32)))
    classifier, labels = nn.SequentialCell(nn.Flatten(), head), np.array([0, 1, 2, 0, 1, 2])
    report = reconstruction_report(images, images, data_range=1, labels=labels, network=classifier)
    assert 0 < report["confidence"].mean < 1
    assert 0 <= report["label_match"].mean <= 1
    assert len(report["confidence"].baseline) == 30


def test_plain_numbers_and_text(images):
    report = reconstruction_report(images, images, data_range=1)
    document = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert document["metrics"]["psnr"]["mean"] is None and document["metrics"]["mse"]["mean"] == 0
    assert document["recognised"] == document["images"] == 6
    assert "recognisable: 6 of 6 images" in report.summary() and "random pair" in report.summary()


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_the_figure_is_written_whole(tmp_path, channels):
    images = np.random.default_rng(0).random((3, channels, 9, 12))
    path = reconstruction_report(images, images, data_range=1).save_figure(tmp_path / "new" / "grid.png", title="t")
    with Image.open(path) as picture:
        assert picture.size[0] > 300 and np.asarray(picture.convert("L")).std() > 10
    assert [file.name for file in path.parent.iterdir()] == ["grid.png"]


@pytest.mark.parametrize("outlier", [-1.5, 4.0, -1e6])
@pytest.mark.parametrize("channels", [1, 3])
def test_an_outlier_of_one_reconstruction_leaves_the_other_pictures_alone(images, outlier, channels):
    originals = np.repeat(images, channels, axis=1)
    found = originals.copy()
    found[3, :, 0, 0] = outlier
    plain, drawn = (draw(reconstruction_report(originals, other, data_range=1), "", 6) for other in (originals, found))
    for number, (one, other) in enumerate(zip(plain.axes, drawn.axes)):
        before, after = one.images[0].get_array(), other.images[0].get_array()
        np.testing.assert_array_equal(np.delete(before.reshape(140, -1), 0, axis=0),
                                      np.delete(after.reshape(140, -1), 0, axis=0))
        changed = not np.array_equal(before, after)
        assert changed == (number in (6 + 3, 12 + 3)), "reconstruction and difference of the fourth image"


@pytest.mark.parametrize("arguments, error, message", [
    ({"original": [[0.0]]}, TypeError, "original"),
    ({"original": np.zeros((2, 10, 14))}, ValueError, "original must have shape"),
    ({"original": np.zeros((2, 1, 6, 14))}, ValueError, "sides of at least 7"),
    ({"original": np.full((2, 1, 10, 14), np.nan)}, ValueError, "finite"),
    ({"reconstructed": np.zeros((3, 1, 10, 14))}, ValueError, "reconstructed must have the shape"),
    ({"data_range": 0}, ValueError, "data_range"),
    ({"data_range": math.nan}, ValueError, "data_range"),
    ({"data_range": "1"}, TypeError, "data_range"),
    ({"labels": np.array([0, 1])}, ValueError, "labels and network must be given together"),
    ({"references": np.zeros((2, 3, 10, 14))}, ValueError, "references must hold images of shape"),
    ({"labels": np.array([0]), "network": nn.Flatten()}, ValueError, "labels must have one row"),
    ({"labels": np.array([0.5, 1]), "network": nn.Flatten()}, TypeError, "labels must be whole numbers"),
    ({"labels": np.array([0, 140]), "network": nn.Flatten()}, ValueError, "labels must be classes from 0 to 139"),
])
def test_refuses(arguments, error, message):
    good = {"original": np.zeros((2, 1, 10, 14)), "reconstructed": np.ones((2, 1, 10, 14)), "data_range": 1}
    with pytest.raises(error, match=message):
        reconstruction_report(**{**good, **arguments})
