"""The inversion examples run at smoke size and report what they promise."""
import mindspore as ms
import pytest

from examples.privacy.inversion_attack import (
    cifar_black_box,
    cifar_shadow_attack,
    gradient_inversion,
    mnist_inversion_attack,
)


@pytest.fixture(autouse=True)
def restore_mode():
    yield
    ms.set_context(mode=ms.PYNATIVE_MODE)


def pictures(folder):
    return {path.name for path in folder.glob("*.png")}


@pytest.mark.slow
def test_mnist_inversion_attack_compares_two_networks(tmp_path):
    rows = mnist_inversion_attack.main(["--smoke", "--output", str(tmp_path)])
    assert [row[0].split(",")[0] for row in rows] == ["ordinary"] * 2 + ["DP"] * 2 + ["random pair"]
    assert pictures(tmp_path) == {f"mnist_{name}_{layer}.png" for name in ("ordinary", "DP")
                                  for layer in ("conv1", "fc1")}


@pytest.mark.slow
def test_cifar_black_box_falls_back_to_digits(tmp_path):
    rows = cifar_black_box.main(["--smoke", "--output", str(tmp_path)])
    assert [row[:2] for row in rows] == [["conv1", queries] for queries in ("same set", "same distribution", "random")]
    assert len(pictures(tmp_path)) == 3


@pytest.mark.slow
def test_cifar_shadow_attack_falls_back_to_digits(tmp_path):
    rows = cifar_shadow_attack.main(["--smoke", "--output", str(tmp_path)])
    assert [row[0] for row in rows] == ["conv1", "relu2"]
    assert pictures(tmp_path) == {"shadow_conv1.png", "shadow_relu2.png"}


@pytest.mark.slow
def test_gradient_inversion_attacks_plain_and_private_gradients(tmp_path):
    rows = gradient_inversion.main(["--smoke", "--images", "1", "--output", str(tmp_path)])
    assert [row[0] for row in rows] == ["plain", "private"]
    assert pictures(tmp_path) == {"gradient_idlg_plain.png", "gradient_idlg_private.png"}
