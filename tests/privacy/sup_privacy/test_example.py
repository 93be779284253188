"""The example at smoke size, and its settings."""
import mindspore as ms
import pytest

from examples.privacy.sup_privacy import sup_privacy
from examples.privacy.sup_privacy.sup_privacy_config import mask_times, mnist_cfg


def test_documented_settings():
    assert mask_times(1875, mnist_cfg.start_epoch, mnist_cfg.end_epoch) == mnist_cfg.mask_times == 1000
    assert mask_times(125, 3, 10) == 67  # the interval stays 15 on 4,000 digits
    assert mask_times(1, 1, 1) == 1


@pytest.mark.slow
def test_example_runs(tmp_path, capsys):
    try:
        accuracy, sparsity = sup_privacy.main(["--smoke", "--output_path", str(tmp_path)])
    finally:
        ms.set_context(mode=ms.PYNATIVE_MODE)
    assert sparsity == pytest.approx(0.949, abs=0.001)
    assert 0 <= accuracy <= 1
    assert {"sparsity.png", "checkpoint_lenet_sup-1_125.ckpt"} <= {item.name for item in tmp_path.iterdir()}
    assert "target 0.950" in capsys.readouterr().out
