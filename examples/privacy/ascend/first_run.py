"""The first run on a device: what is installed, whether private steps are right there, and how fast they are.

This package was never run on an Ascend by its developers: there was none. Run this script once, paste all it prints
into an issue, and it was.

    python examples/privacy/ascend/first_run.py --device_target Ascend
    msrun --worker_num=8 --local_worker_num=8 --join=True examples/privacy/ascend/first_run.py --device_target Ascend
"""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

import os
import platform
import re
import time
from functools import partial

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn
from scipy import stats

import mindarmour
from examples.common.arguments import example_arguments, use_device
from examples.common.networks.lenet5.lenet5_net import LeNet5
from mindarmour.privacy.diff_privacy import DPModel, NoiseMechanismsFactory, clipped_gradient_fn

# CANN versions that each MindSpore lists in its own checker of versions.
CANN_OF_MINDSPORE = {"2.7": ("8.5",), "2.8": ("8.2", "8.3", "8.5"), "2.9": ("8.2", "8.3", "8.5", "9.0"),
                     "2.10": ("8.2", "8.3", "8.5", "9.0", "9.1")}
BOUND = 0.5
# A unit's contribution may exceed the bound by rounding only; reduced precision rounds more.
AGREES = {"float32": 1e-3, "reduced": 5e-2}


def cann_version():
    """Version that CANN's own file names, such as '8.5.0'; None where no CANN is found."""
    home = Path(os.environ.get("ASCEND_HOME_PATH", "/usr/local/Ascend/ascend-toolkit/latest"))
    for path in (home / "version.cfg", home / "compiler" / "version.info", home / "opp" / "version.info"):
        if path.exists():
            found = re.search(r"^[^#\n]*?version[^\n]*?(\d+\.\d+[\w.]*)", path.read_text(errors="replace"), re.I | re.M)
            if found:
                return found.group(1)
    return None


def software():
    """Rows about what is installed and whether it fits."""
    release = ".".join(ms.__version__.split(".")[:2])
    cann, known = cann_version(), CANN_OF_MINDSPORE.get(release, ())
    listed = "listed" if any(f"{cann}.".startswith(f"{version}.") for version in known) else "not listed"
    fits = "no CANN found" if cann is None else listed
    return [("mindarmour, MindSpore, NumPy", f"{mindarmour.__version__}, {ms.__version__}, {np.__version__}"),
            ("Python, machine", f"{platform.python_version()}, {platform.machine()}"),
            ("CANN", str(cann)),
            (f"CANN for MindSpore {release}", f"{fits}; it lists {', '.join(known) or '?'}"),
            ("device, mode", f"{ms.get_context('device_target')}, graph"),
            ("precision in force", precision())]


def precision():
    """What MindSpore's settings say about float32 products on the device; the chip's default where they are silent."""
    if ms.get_context("device_target") != "Ascend":
        return "float32"
    settings = ms.get_context("ascend_config") or {}
    return ", ".join(f"{name}: {value}" for name, value in sorted(settings.items())) or "the chip's default"


def batch(rows):
    rng = np.random.default_rng(0)
    return (Tensor(rng.normal(size=(rows, 1, 32, 32)).astype(np.float32)),
            Tensor((np.arange(rows) % 10).astype(np.int32)))


def loss_fn():
    return nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean")


def exactness():
    """Rows about one private step against the plain loop, and about the largest contribution of one unit."""
    network, columns = LeNet5(), batch(8)
    fast, slow = (clipped_gradient_fn(network, loss_fn(), norm_bound=BOUND, engine=engine)
                  for engine in ("ghost", "loop"))
    difference = max(float(np.linalg.norm(a.asnumpy() - b.asnumpy())) / BOUND
                     for a, b in zip(fast(*columns).total, slow(*columns).total))
    largest = 0.0
    for unit in range(8):
        only = np.zeros(8, np.float32)
        only[unit] = 1
        total = fast(*columns, is_real=only).total
        largest = max(largest, np.sqrt(sum(float((t.asnumpy().astype(np.float64) ** 2).sum()) for t in total)) / BOUND)
    limit = AGREES["float32" if precision() == "float32" else "reduced"]
    return [("ghost engine against the loop, share of the bound", f"{difference:.2e} ({_word(difference <= limit)})"),
            ("largest contribution of one unit over the bound", f"{largest:.6f} ({_word(largest <= 1.001)})")]


def noise(steps):
    """Rows about what a private step with vanishing gradients adds: noise of the stated scale, and nothing else."""
    network = nn.Dense(100, 100, has_bias=False)
    multiplier = 2.0
    model = DPModel(micro_batches=None, norm_bound=BOUND, network=network, loss_fn=nn.MSELoss(),
                    noise_mech=NoiseMechanismsFactory.create("Gaussian", BOUND, multiplier),
                    optimizer=nn.SGD(network.trainable_params(), 1.0))
    inputs = Tensor(np.zeros((4, 100), np.float32)), Tensor(np.zeros((4, 100), np.float32))
    draws = []
    for _ in range(steps):
        before = network.weight.asnumpy().copy()
        model.train_network(*inputs).asnumpy()
        draws.append((before - network.weight.asnumpy()) * 4 / (multiplier * BOUND))  # divided by four units
    draws = np.concatenate(draws, axis=None).astype(np.float64)
    scale = draws.std()
    fits = stats.kstest(draws, "norm").pvalue
    repeated = len(np.unique(draws)) < 0.99 * len(draws)
    return [("noise of a private step over the stated scale", f"{scale:.4f} ({_word(abs(scale - 1) < 0.02)})"),
            ("normal distribution, p-value", f"{fits:.3f} ({_word(fits > 1e-4 and not repeated)})")]


def speed(rounds):
    """Rows about a private step's time over a plain step's, interleaved, medians."""
    columns, networks = batch(64), (LeNet5(), LeNet5())
    plain = nn.TrainOneStepCell(nn.WithLossCell(networks[0], loss_fn()), nn.SGD(networks[0].trainable_params(), 0.1))
    plain.set_train()
    private = DPModel(micro_batches=None, norm_bound=BOUND, network=networks[1], loss_fn=loss_fn(),
                      noise_mech=NoiseMechanismsFactory.create("Gaussian", BOUND, 1.0),
                      optimizer=nn.SGD(networks[1].trainable_params(), 0.1)).train_network
    first, times = [], [[], []]
    for step in (plain, private):
        begin = time.perf_counter()
        step(*columns).asnumpy()
        first.append(time.perf_counter() - begin)
    for _ in range(rounds):
        for place, step in enumerate((plain, private)):
            begin = time.perf_counter()
            step(*columns).asnumpy()
            times[place].append(time.perf_counter() - begin)
    medians = [float(np.median(series)) for series in times]
    return [("plain step, private step (LeNet-5, 64 rows)", f"{medians[0] * 1e3:.2f} ms, {medians[1] * 1e3:.2f} ms"),
            ("private over plain", f"{medians[1] / medians[0]:.2f}"),
            ("first call, plain and private", f"{first[0]:.1f} s, {first[1]:.1f} s")]


def ranks():
    """Rows about several ranks; none where one process runs alone."""
    if int(os.environ.get("RANK_SIZE", "1")) == 1:
        return []
    from mindspore import ops
    from mindspore.communication import get_group_size, get_rank, init
    init()
    ms.set_auto_parallel_context(parallel_mode="data_parallel", gradients_mean=True, parameter_broadcast=True)
    total = float(ops.AllReduce()(Tensor(float(get_rank()), ms.float32)).asnumpy())
    world = get_group_size()
    return [(f"sum over {world} ranks", f"{total:g} ({_word(total == world * (world - 1) / 2)})")]


def _word(right):
    return "as it must be" if right else "WRONG"


def main(arguments=None):
    """Print the report; returns its rows."""
    args = example_arguments(__doc__, 1, arguments)
    ms.set_context(mode=ms.GRAPH_MODE)
    use_device(args.device_target)
    rows = []
    draws, rounds = (4, 5) if args.smoke else (20, 50)
    parts = (ranks, software, exactness, partial(noise, draws), partial(speed, rounds))
    for part in parts:
        for name, value in part():
            rows.append((name, value))
            print(f"| {name} | {value} |", flush=True)
    wrong = sum("WRONG" in value for _, value in rows)
    verdict = f"{wrong} rows are wrong" if wrong else "Everything is as it must be"
    print(f"\n{verdict}. Please paste all of this into an issue: it is evidence that nobody else has.")
    return rows


if __name__ == "__main__":
    main()
