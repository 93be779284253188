"""Time and memory of one training step: plain, and private with each engine, noise and optimizer included.

    python -m benchmarks.step_time
    python -m benchmarks.step_time --networks lenet --batches 64 256 1024 --engines plain ghost --json result.json
"""
import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

import mindspore as ms
from mindspore import nn

from benchmarks import timing
from benchmarks.networks import CASES, columns
from mindarmour.privacy.diff_privacy import DPModel, NoiseMechanismsFactory

ROOT = Path(__file__).resolve().parents[1]
ENGINES = ("plain", "ghost", "vmap", "loop")


def make_step(engine, name, batch):
    """A callable that trains one step of network `name` and waits for it."""
    network = CASES[name].build()
    loss_fn = nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean")
    optimizer = nn.Momentum(network.trainable_params(), 0.01, 0.9)
    if engine == "plain":
        train = nn.TrainOneStepCell(nn.WithLossCell(network, loss_fn), optimizer)
    else:
        noise = NoiseMechanismsFactory.create("Gaussian", norm_bound=1.0, initial_noise_multiplier=1.0)
        train = DPModel(micro_batches=None, norm_bound=1.0, noise_mech=noise, network=network, loss_fn=loss_fn,
                        optimizer=optimizer, engine=engine).train_network
    train.set_train()
    batch_columns = columns(name, batch)

    def step():
        return float(train(*batch_columns).asnumpy())

    return step


def measure(name, batch, engines, rounds, mode="graph", starts=3):
    """One result per engine: times of a step, ratios to the plain step, and what processes of its own tell."""
    apart = {engine: [] for engine in engines}
    for _ in range(starts):
        for engine in engines:
            apart[engine].append(alone(name, batch, engine, mode))
    results = [{"network": name, "batch": batch, "engine": engine, **_medians(apart[engine])} for engine in engines]
    steps = {engine: make_step(engine, name, batch) for engine in engines}
    baseline = "plain" if "plain" in engines else engines[0]
    found = timing.summary(timing.interleaved(steps, rounds), baseline)
    return [{**result, **found[result["engine"]]} for result in results]


def alone(name, batch, engine, mode):
    """First call (compiling) and peak memory of a variant, each figure of a process that runs nothing else."""
    command = [sys.executable, "-m", "benchmarks.step_time", "--alone", engine, "--networks", name]
    command += ["--batches", str(batch), "--mode", mode]
    output = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout
    return json.loads(output.splitlines()[-1])


def _medians(runs):
    return {key: statistics.median(run[key] for run in runs) for key in runs[0]}


def _print_alone(engine, name, batch):
    before = timing.peak_megabytes()
    step = make_step(engine, name, batch)
    first = timing.seconds_of(step)
    for _ in range(3):
        step()
    peak = timing.peak_megabytes()
    print(json.dumps({"first_call_s": first, "peak_mb": peak, "added_mb": peak - before}))


def table(results):
    """The results as Markdown."""
    rows = [(r["network"], r["batch"], r["engine"], f"{r['first_call_s']:.1f}", f"{r['median_ms']:.1f}",
             f"{r['min_ms']:.1f}", f"{r['ratio']:.2f}", f"{r['min_ratio']:.2f}", f"{r['peak_mb']:.0f}",
             f"{r['added_mb']:.0f}") for r in results]
    return timing.markdown(("network", "batch", "engine", "first call s", "median ms", "min ms", "ratio (median)",
                            "ratio (min)", "peak MB", "added MB"), rows)


def arguments(argv=None):
    """Parsed command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=sorted(CASES), default=["lenet", "vgg", "transformer", "mlp"])
    parser.add_argument("--batches", nargs="+", type=int, default=[64, 256])
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=["plain", "ghost", "vmap"])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--starts", type=int, default=3, help="processes that measure first call and memory")
    parser.add_argument("--mode", choices=("graph", "pynative"), default="graph")
    parser.add_argument("--json", help="write the results to this file")
    parser.add_argument("--alone", choices=ENGINES, help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def main(argv=None):
    """Run the benchmark; returns the results."""
    args = arguments(argv)
    ms.set_context(mode=ms.GRAPH_MODE if args.mode == "graph" else ms.PYNATIVE_MODE)
    if args.alone:
        _print_alone(args.alone, args.networks[0], args.batches[0])
        return []
    results = []
    for name in args.networks:
        for batch in args.batches:
            results += measure(name, batch, args.engines, args.rounds, args.mode, args.starts)
            print(table(results[-len(args.engines):]), flush=True)
    facts = {**timing.machine(), "mindspore": ms.__version__, "mode": args.mode, "rounds": args.rounds}
    print("\n" + ", ".join(f"{key} {value}" for key, value in facts.items()))
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump({"machine": facts, "results": results}, file, indent=1)
    return results


if __name__ == "__main__":
    main()
