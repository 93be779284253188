"""Reading through a sampler against reading the same data with MindSpore's plain pipeline, and the cost of drawing.

    python -m benchmarks.input_pipeline [--files 20000] [--rounds 5] [--train] [--json FILE]
"""
from __future__ import annotations

import argparse
import json
import tempfile
import tracemalloc
from fractions import Fraction
from pathlib import Path
from typing import Any, Callable

import mindspore as ms
import mindspore.dataset as ds
import numpy as np
from mindspore import nn
from mindspore.dataset import transforms, vision
from PIL import Image

from benchmarks.timing import interleaved, machine, markdown, peak_megabytes, seconds_of, summary
from mindarmour.privacy.accounting import privacy_spent
from mindarmour.privacy.diff_privacy import (
    DPModel,
    NoiseGaussianRandom,
    PoissonSampler,
    ShufflePartition,
    convert_to_mindrecord,
)
from mindarmour.privacy.diff_privacy.sampling.draws import poisson_draw
from mindarmour.utils.secure_random import SecureStream

BATCH = 256
SIDE = 64
DRAWN = 1024


def write_jpegs(folder: Path, count: int) -> None:
    """A folder of `count` JPEG files in ten classes."""
    generator = np.random.default_rng(0)
    pictures = [Image.fromarray(generator.integers(0, 255, (8, 8, 3), dtype=np.uint8)).resize((SIDE, SIDE))
                for _ in range(64)]
    for number in range(count):
        place = folder / str(number % 10)
        place.mkdir(parents=True, exist_ok=True)
        pictures[number % 64].save(place / f"{number}.jpg", quality=90)


def decoded(rows: Any) -> Any:
    """JPEG decoding with augmentation."""
    steps = [vision.Decode(), vision.RandomCrop(56), vision.RandomHorizontalFlip(), vision.Rescale(1 / 255, 0.0),
             vision.HWC2CHW()]
    return rows.map(steps, "image").map(transforms.TypeCast(ms.int32), "label")


def read(dataset: Any) -> int:
    """Records of one epoch."""
    count = 0
    for columns in dataset.create_tuple_iterator(num_epochs=1, output_numpy=True):
        count += int(columns[2].sum()) if len(columns) == 3 else len(columns[0])
    return count


def sources(folder: Path, files: int) -> tuple[dict[str, Callable[[], Any]], Any]:
    """{kind of data: makes its rows}, and the arrays."""
    write_jpegs(folder / "jpeg", files)
    record = str(folder / "rows.mindrecord")
    convert_to_mindrecord(ds.ImageFolderDataset(str(folder / "jpeg"), shuffle=False), record, encoded=["image"])
    generator = np.random.default_rng(0)
    arrays = generator.normal(size=(files, 3, 32, 32)).astype(np.float32), np.arange(files, dtype=np.int32) % 10
    return {"JPEG files, augmented": lambda: decoded(ds.ImageFolderDataset(str(folder / "jpeg"), shuffle=True)),
            "MindRecord of JPEG, augmented": lambda: decoded(ds.MindDataset(record, ["image", "label"], shuffle=True)),
            "arrays 3x32x32": lambda: ds.NumpySlicesDataset(arrays, ["image", "label"], shuffle=True)}, arrays


def throughput(kinds: dict[str, Callable[[], Any]], arrays: Any, rounds: int) -> list[list[str]]:
    """Rows of the table: seconds of an epoch, plain and through the samplers, and records a second in proportion."""
    table = []
    for name, rows in kinds.items():
        data = arrays if name.startswith("arrays") else rows()
        variants = {"plain": rows().batch(BATCH), "ShufflePartition": ShufflePartition(BATCH).dataset(data),
                    "PoissonSampler": PoissonSampler(BATCH).dataset(data)}
        times = interleaved({key: lambda one=one: read(one) for key, one in variants.items()}, rounds, warmup=1)
        found = summary(times, "plain")
        table.append([name, f"{found['plain']['median_ms'] / 1e3:.2f}",
                      *(f"{1 / found[key]['ratio']:.2f}" for key in ("ShufflePartition", "PoissonSampler"))])
    return table


def drawing(rounds: int) -> list[list[str]]:
    """Rows of the table: N, time and memory of one Poisson draw of 1,024 expected records."""
    table, stream = [], SecureStream()
    for exponent in range(4, 9):
        count = 10 ** exponent
        rate = Fraction(DRAWN, count)
        poisson_draw(count, rate, stream)
        seconds = [seconds_of(lambda: poisson_draw(count, rate, stream)) for _ in range(20 * rounds)]  # noqa: B023
        tracemalloc.start()
        poisson_draw(count, rate, stream)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        table.append([f"10^{exponent}", f"{np.median(seconds) * 1e3:.2f}", f"{peak / 2 ** 10:.0f}"])
    return table


def epoch(rows: Any) -> dict[str, Any]:
    """One private epoch over a folder of JPEG files, end to end."""
    ms.set_context(mode=ms.GRAPH_MODE)
    network = nn.SequentialCell(nn.Conv2d(3, 16, 3, 2, pad_mode="same"), nn.ReLU(), nn.Conv2d(16, 32, 3, 2),
                                nn.ReLU(), nn.Flatten(), nn.Dense(32 * 14 * 14, 10))
    model = DPModel(micro_batches=None, norm_bound=1.0, noise_mech=NoiseGaussianRandom(1.0, 1.0), network=network,
                    loss_fn=nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean"),
                    optimizer=nn.SGD(network.trainable_params(), 0.1))
    dataset = PoissonSampler(BATCH).dataset(rows)
    seconds = seconds_of(lambda: model.train(1, dataset))
    spent = privacy_spent(model.ledger.entries, 1e-5)
    return {"steps": model.ledger.steps, "seconds": round(seconds, 1), "peak MB": round(peak_megabytes()),
            "engine": str(model.train_network.engine_reason), "epsilon at 1e-5": round(spent.epsilon, 2)}


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=20_000, help="records of each kind")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--train", action="store_true", help="also train one epoch")
    parser.add_argument("--json", metavar="FILE")
    arguments = parser.parse_args()
    result = {"machine": machine(), "drawing": drawing(arguments.rounds)}
    print(markdown(["N", "ms a draw of 1,024", "peak KiB"], result["drawing"]), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        kinds, arrays = sources(Path(folder), arguments.files)
        result["throughput"] = throughput(kinds, arrays, arguments.rounds)
        print(markdown(["data", "plain epoch, s", "records/s, ShufflePartition : plain",
                        "records/s, PoissonSampler : plain"], result["throughput"]), flush=True)
        if arguments.train:
            result["epoch"] = epoch(kinds["JPEG files, augmented"]())
            print(json.dumps(result["epoch"], indent=1))
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(result, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
