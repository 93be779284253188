"""Private training of published networks: engine, first call, step against the plain step, memory, exactness.

    pip install --no-deps mindcv
    python -m benchmarks.real_networks
    python -m benchmarks.real_networks --networks resnet18 vit_tiny bert --json result.json

Each network is measured in a process of its own, so that a crash loses one row of the table only.
"""
import argparse
import json
import subprocess
import sys
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from benchmarks import timing
from mindarmour.privacy.diff_privacy import DPModel, NoiseMechanismsFactory, clipped_gradient_fn, replace_batch_norm

ROOT = Path(__file__).resolve().parents[1]
CLASSES, SIZE = 10, 64
VOCABULARY, LENGTH, WIDTH = 64, 32, 64
IMAGES = ("resnet18", "resnext50_32x4d", "densenet121", "vgg11", "mobilenet_v1_100", "mobilenet_v2_100",
          "mobilenet_v3_small_100", "shufflenet_v2_x1_0", "efficientnet_b0", "regnet_x_200mf", "ghostnet_100",
          "mnasnet_100", "convnext_tiny", "swin_tiny", "vit_tiny", "pvt_tiny", "crossvit_9", "coat_lite_tiny",
          "poolformer_s12", "mlp_mixer_s_p16", "BiT_resnet50", "squeezenet1_0", "xception", "inception_v3")
TEXTS = ("bert", "gpt")


class Encoder(nn.Cell):
    """A small BERT: token and position embeddings, two encoder layers, mean over the tokens."""

    def __init__(self):
        super().__init__()
        self.tokens, self.places = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(LENGTH, WIDTH)
        self.range = Tensor(np.arange(LENGTH, dtype=np.int32))
        self.encoder = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(WIDTH, 4, 4 * WIDTH, dropout=0.0, batch_first=True), 2)
        self.head = nn.Dense(WIDTH, CLASSES)

    def construct(self, ids):
        return self.head(self.encoder(self.tokens(ids) + self.places(self.range)).mean(axis=1))


class Generator(nn.Cell):
    """A small GPT: causal mask, and a head that is the table of tokens; logits [B, V, T]."""

    def __init__(self):
        super().__init__()
        self.tokens, self.places = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(LENGTH, WIDTH)
        self.range = Tensor(np.arange(LENGTH, dtype=np.int32))
        self.mask = Tensor(np.triu(np.full((LENGTH, LENGTH), -1e9, np.float32), 1))
        self.encoder = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(WIDTH, 4, 4 * WIDTH, dropout=0.0, batch_first=True), 2)
        self.head = nn.Dense(WIDTH, VOCABULARY, has_bias=False)
        self.head.weight = self.tokens.embedding_table

    def construct(self, ids):
        hidden = self.encoder(self.tokens(ids) + self.places(self.range), self.mask)
        return self.head(hidden).swapaxes(1, 2)


def build(name):
    """The network, without batch normalisation and without dropout."""
    if name in TEXTS:
        return {"bert": Encoder, "gpt": Generator}[name]()
    if name == "vit_tiny":
        from mindcv.models.vit import VisionTransformer
        return VisionTransformer(image_size=SIZE, patch_size=16, embed_dim=192, depth=12, num_heads=3,
                                 num_classes=CLASSES)
    if name == "swin_tiny":
        from mindcv.models.swintransformer import SwinTransformer
        return SwinTransformer(image_size=SIZE, patch_size=4, in_chans=3, num_classes=CLASSES, embed_dim=96,
                               depths=[2, 2, 6, 2], num_heads=[3, 6, 12, 24], window_size=2, drop_path_rate=0.0)
    import mindcv
    network = replace_batch_norm(mindcv.create_model(name, num_classes=CLASSES))
    for _, cell in network.cells_and_names():
        if isinstance(cell, nn.Dropout):
            cell.p, cell.keep_prob = 0.0, 1.0
    return network


def columns(name, rows):
    """A batch as MindSpore tensors."""
    rng = np.random.default_rng(0)
    if name in TEXTS:
        ids = rng.integers(0, VOCABULARY, (rows, LENGTH)).astype(np.int32)
        labels = rng.integers(0, CLASSES, rows) if name == "bert" else np.roll(ids, -1, axis=1)
        return Tensor(ids), Tensor(labels.astype(np.int32))
    size = 224 if name.startswith(("crossvit", "mlp_mixer", "pvt", "inception")) else SIZE
    return (Tensor(rng.normal(size=(rows, 3, size, size)).astype(np.float32)),
            Tensor(rng.integers(0, CLASSES, rows).astype(np.int32)))


def measure(name, batch, rounds):
    """One row of the table, as a dict."""
    network, loss_fn, data = build(name), nn.CrossEntropyLoss(), columns(name, batch)
    noise = NoiseMechanismsFactory.create("Gaussian", norm_bound=1.0, initial_noise_multiplier=1.0)
    optimizer = nn.Momentum(network.trainable_params(), 0.01, 0.9)
    plain_step = nn.TrainOneStepCell(nn.WithLossCell(network, loss_fn),
                                     nn.Momentum(network.trainable_params(), 0.0, 0.9))
    plain_step.set_train()
    before = timing.peak_megabytes()

    def plain():
        return plain_step(*data).asnumpy()

    result = {"network": name, "batch": batch, "plain_first_s": timing.seconds_of(plain)}
    plain_peak = timing.peak_megabytes()
    model = DPModel(micro_batches=None, norm_bound=1.0, noise_mech=noise, network=network, loss_fn=loss_fn,
                    optimizer=optimizer)

    def private():
        return model.train_network(*data).asnumpy()

    result["first_s"] = timing.seconds_of(private)
    result["engine"], result["reason"] = model.engine.engine, model.engine.reason
    if model.engine.engine == "loop":
        rounds = min(rounds, 2)
    found = timing.summary(timing.interleaved({"plain": plain, "private": private}, rounds, warmup=1), "plain")
    result.update(plain_ms=found["plain"]["median_ms"], ms=found["private"]["median_ms"],
                  ratio=found["private"]["ratio"], plain_mb=plain_peak, peak_mb=timing.peak_megabytes(),
                  start_mb=before)
    result["error"] = difference(network, loss_fn, tuple(column[:3] for column in data))
    return result


def difference(network, loss_fn, rows):
    """How far the clipped sum of the engine that 'auto' takes lies from the loop's, as a share of the bound."""
    bound = 1e-2
    sums = [clipped_gradient_fn(network, loss_fn, norm_bound=bound, engine=engine)(*rows).total
            for engine in ("auto", "loop")]
    return float(ops.sqrt(sum(((a - b) ** 2).sum() for a, b in zip(*sums))).asnumpy()) / bound


def alone(name, batch, rounds, timeout):
    """`measure` in a process of its own; what went wrong in place of figures where it fails."""
    command = [sys.executable, "-m", "benchmarks.real_networks", "--alone", name, "--batch", str(batch)]
    command += ["--rounds", str(rounds)]
    try:
        run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=timeout, check=False)
    except subprocess.TimeoutExpired:
        return {"network": name, "failed": f"no result after {timeout} s"}
    lines = [line for line in run.stdout.splitlines() if line.startswith('{"network"')]
    if not lines:
        return {"network": name, "failed": (run.stderr.strip().splitlines() or ["no output"])[-1][:300]}
    return json.loads(lines[-1])


def table(results):
    """The results as Markdown."""
    rows = []
    for r in results:
        if "failed" in r:
            rows.append((r["network"], r["failed"], *[""] * 7))
        else:
            rows.append((r["network"], r["engine"], r["batch"], f"{r['plain_ms']:.0f}", f"{r['ms']:.0f}",
                         f"{r['ratio']:.2f}", f"{r['plain_first_s']:.1f} / {r['first_s']:.1f}",
                         f"{r['plain_mb']:.0f} / {r['peak_mb']:.0f}", f"{r['error']:.0e}"))
    return timing.markdown(("network", "engine", "batch", "plain ms", "private ms", "ratio", "first call s",
                            "peak MB", "error"), rows)


def main(argv=None):
    """Run the benchmark; returns the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=[*TEXTS, *IMAGES])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--timeout", type=int, default=900, help="seconds for one network")
    parser.add_argument("--json", help="write the results to this file")
    parser.add_argument("--alone", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    ms.set_context(mode=ms.GRAPH_MODE)
    if args.alone:
        print(json.dumps(measure(args.alone, args.batch, args.rounds)), flush=True)
        return []
    results = []
    for name in args.networks:
        results.append(alone(name, args.batch, args.rounds, args.timeout))
        print(table(results[-1:]).splitlines()[-1], flush=True)
        if args.json:
            Path(args.json).write_text(json.dumps({"machine": timing.machine(), "results": results}, indent=1),
                                       encoding="utf-8")
    print(table(results))
    return results


if __name__ == "__main__":
    main()
