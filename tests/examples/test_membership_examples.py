"""The membership inference examples at smoke size, CIFAR-100 from a file in its binary format included."""
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from examples.common.dataset.cifar import cifar_folder, cifar_images, generate_dataset_cifar, vgg_create_dataset100
from examples.common.networks.vgg.vgg import vgg16, vgg_small

SCRIPTS = Path(__file__).resolve().parents[2] / "examples" / "privacy" / "membership_inference_attack"


# MindSpore reads so many records from a file whatever it holds; the rest of a test's file is a hole full of zeros
RECORDS = {"train.bin": 50_000, "test.bin": 10_000}


def write_cifar(path, count, label_bytes, seed):
    """CIFAR's binary format: label bytes, then 3 x 32 x 32 pixels, record after record; returns both."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 10, (count, label_bytes)).astype(np.uint8)
    pixels = rng.integers(0, 256, (count, 3, 32, 32)).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(np.concatenate([labels, pixels.reshape(count, -1)], axis=1).tobytes())
    os.truncate(path, RECORDS.get(path.name, 10_000) * (label_bytes + 3072))
    return labels[:, -1], pixels


@pytest.fixture
def cifar100(tmp_path):
    for seed, usage in enumerate(("train", "test")):
        write_cifar(tmp_path / "cifar" / usage / f"{usage}.bin", 200, 2, seed)
    return tmp_path / "cifar"


def test_reads_cifar100_fine_labels_and_pixels(tmp_path):
    labels, pixels = write_cifar(tmp_path / "test.bin", 7, 2, 0)
    rows = list(cifar_images(tmp_path, "test").take(7).create_tuple_iterator(num_epochs=1, output_numpy=True))
    assert [int(label) for _, label in rows] == labels.tolist()
    expected = (pixels[0] / 255 - np.reshape((0.4914, 0.4822, 0.4465), (3, 1, 1))) \
        / np.reshape((0.2470, 0.2435, 0.2616), (3, 1, 1))
    np.testing.assert_allclose(rows[0][0], expected, atol=1e-4)


def test_reads_cifar10_in_batches(tmp_path):
    labels, _ = write_cifar(tmp_path / "test" / "test_batch.bin", 100, 1, 0)
    dataset = generate_dataset_cifar(tmp_path, 3000, "test", repeat_num=2)
    batches = list(dataset.create_tuple_iterator(num_epochs=1, output_numpy=True))
    assert [image.shape for image, _ in batches] == [(3000, 3, 32, 32)] * 6
    assert all(0 <= label.min() <= label.max() < 10 for _, label in batches)


def test_resizes_and_augments(cifar100):
    dataset = vgg_create_dataset100(cifar100, 48, 8, training=False, shuffle=False, augment=True)
    image, label = next(dataset.create_tuple_iterator(num_epochs=1, output_numpy=True))
    assert image.shape == (8, 3, 48, 48) and label.dtype == np.int32


def test_missing_binaries_are_one_clear_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="--data_path"):
        cifar_folder(tmp_path, "train")


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_networks_compile_in_graph_mode(norm):
    import mindspore as ms
    ms.set_context(mode=ms.GRAPH_MODE)
    small = vgg_small(norm=norm)(ms.Tensor(np.zeros((2, 1, 32, 32), np.float32)))
    ms.set_context(mode=ms.PYNATIVE_MODE)
    assert small.shape == (2, 10)


def test_vgg16_has_its_published_size():
    count = sum(parameter.size for parameter in vgg16().trainable_params())
    # 138,357,544 with biases (Simonyan and Zisserman 2015, table 2); no convolution biases, but normalisation
    convolutions = 64 * 2 + 128 * 2 + 256 * 3 + 512 * 6
    assert count == 138_357_544 - convolutions + 2 * convolutions


def run(folder, code, *flags):
    """Run code as a script in another folder; returns what it printed."""
    done = subprocess.run([sys.executable, *code, *map(str, flags)], cwd=folder, check=False, capture_output=True,
                          text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.parametrize("module", ["train", "eval"])
def test_scripts_that_use_no_name_of_the_package_set_onednn_as_it_does(module, tmp_path):
    code = (f"import os, sys; sys.path.insert(0, {str(SCRIPTS.parents[2])!r}); "
            f"os.environ.pop('ONEDNN_MAX_CPU_ISA', None); "
            f"import examples.privacy.membership_inference_attack.{module}; print(os.environ['ONEDNN_MAX_CPU_ISA'])")
    assert run(tmp_path, ["-c", code]).split() == ["AVX2"]


# one process each: every further one would compile the networks again
VGG16 = """
import sys
sys.path.insert(0, sys.argv[1])
from examples.privacy.membership_inference_attack import example_vgg_cifar, train
flags = sys.argv[2:]
example_vgg_cifar.main([*flags, "--pre_trained", train.main([*flags, "--ckpt_path", "checkpoints"])])
"""
SMALL_VGG = """
import sys
sys.path.insert(0, sys.argv[1])
from examples.privacy.membership_inference_attack import eval as evaluation, example_vgg_cifar
example_vgg_cifar.main(["--smoke"])
evaluation.main(["--smoke", "--pre_trained", "trained_ckpt_file/0-1_2.ckpt"])
"""
DOCUMENTED = re.compile(r"Method: (?:lr|knn), precision -?[\d.]+, accuracy [\d.]+, recall [\d.]+, auc [\d.]+")
SIDE_BY_SIDE = re.compile(r"^(?:lr|knn)(?: +[\d.]+ \[[\d.]+, [\d.]+\](?: chance)?){2}$", re.MULTILINE)


@pytest.mark.slow
def test_vgg16_on_cifar100_files_from_training_to_attack(cifar100, tmp_path):
    output = run(tmp_path, ["-c", VGG16], SCRIPTS.parents[2], "--data_path", cifar100, "--image_size", 32,
                 "--batch_size", 10, "--smoke")
    assert "0-1_2.ckpt" in output and len(DOCUMENTED.findall(output)) == 2
    assert "tpr@0.1%fpr n/a" in output and "epsilon" not in output


@pytest.mark.slow
def test_small_vgg_on_embedded_digits_with_and_without_privacy(tmp_path):
    output = run(tmp_path, ["-c", SMALL_VGG], SCRIPTS.parents[2])
    assert "== undefended" in output and "== epsilon 3" in output and "on the training set" in output
    assert len(DOCUMENTED.findall(output)) == 4 and len(SIDE_BY_SIDE.findall(output)) == 2


@pytest.mark.slow
def test_lira_example(tmp_path):
    output = run(tmp_path, [SCRIPTS / "membership_inference_lira.py"], "--smoke", "--output", tmp_path)
    assert "undefended" in output and "epsilon 3" in output and "TPR@1%" in output
    assert len(re.findall(r"mean AUC over 4 models: LOSS [\d.]+ \+- [\d.]+, RMIA", output)) == 2
    assert (tmp_path / "roc.png").stat().st_size > 10_000
    results = json.loads((tmp_path / "results.json").read_text())
    assert set(results) == {"undefended", "epsilon 3"}
    assert set(results["epsilon 3"]) == {"LOSS", "Entropy", "Classifier", "LiRA", "RMIA"}
    assert len(list((tmp_path / "seed_0" / "epsilon_3").glob("shadow_*.npz"))) == 4
