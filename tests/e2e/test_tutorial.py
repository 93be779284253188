"""The public tutorial's script runs, unchanged on 60,000 images in graph mode, on 4,000 in PyNative mode."""
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = Path(__file__).with_name("tutorial_lenet5_dp.py")


def idx_folder(folder, copies):
    """The embedded digits, each training image `copies` times, in MNIST's format; 15 make MNIST's size."""
    from mindspore.dataset import MnistDataset

    from examples.common.dataset.digits import digits_folder, write_idx
    for part, prefix, times in (("train", "train", copies), ("test", "t10k", 1)):
        rows = MnistDataset(str(digits_folder() / part), shuffle=False).create_tuple_iterator(output_numpy=True)
        images, labels = (np.stack(column) for column in zip(*rows))
        write_idx(folder / part / f"{prefix}-images-idx3-ubyte", np.tile(images[..., 0], (times, 1, 1)))
        write_idx(folder / part / f"{prefix}-labels-idx1-ubyte", np.tile(labels, times))


@pytest.mark.slow
@pytest.mark.parametrize("mode, copies, steps, accuracy", [("graph", 15, 234, 0.3), ("pynative", 1, 15, 0.05)])
def test_tutorial_script(mode, copies, steps, accuracy, tmp_path):
    idx_folder(tmp_path / "mnist", copies)
    # on fewer images only what counts them differs: the steps of an epoch, the number of samples
    text = SCRIPT.read_text().replace("234", str(steps)).replace("60000", str(4000 * copies))
    (tmp_path / "tutorial.py").write_text(text)
    done = subprocess.run([sys.executable, "tutorial.py", str(tmp_path / "mnist"), mode], cwd=tmp_path, check=False,
                          capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(re.findall(r"^epoch: 1 step: \d+, loss is", done.stdout, re.M)) == steps
    line, = re.findall(rf"^epoch: 1 step: {steps}, delta is (\S+), eps is (\S+)$", done.stdout, re.M)
    # multiplier 0.05 with micro-batches of 8: the tutorial's own settings protect nobody, and the user is told
    assert float(line[0]) == 1e-3 and float(line[1]) > 500
    assert "next to no protection" in done.stdout
    assert "has passed the budget of 10" in done.stderr
    # learning rate 0.01 and unseeded noise: 0.45 to 0.6 after 234 steps; guessing gives 0.1
    assert float(re.search(r"^accuracy (\S+)", done.stdout, re.M).group(1)) > accuracy
    assert (tmp_path / "trained_ckpt_file" / f"checkpoint_lenet-1_{steps}.ckpt").exists()
