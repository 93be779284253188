"""The same networks and steps in PyTorch and Opacus. Runs in its own environment: `benchmarks.peers` starts it.

Prints one JSON line per result. Imports nothing of this repository.
"""
import argparse
import json
import sys
import time
import warnings

import numpy as np
import opacus
import torch
from torch import nn

warnings.filterwarnings("ignore")
CLASSES = 10


class Attention(nn.Module):
    """Self-attention from plain linear layers, which Opacus knows."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.out = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x):
        def split(y):
            return y.view(y.shape[0], y.shape[1], self.heads, -1).transpose(1, 2)

        y = nn.functional.scaled_dot_product_attention(split(self.q(x)), split(self.k(x)), split(self.v(x)))
        return self.out(y.transpose(1, 2).reshape(x.shape))


class EncoderLayer(nn.Module):
    def __init__(self, width, heads, hidden):
        super().__init__()
        self.attention, self.norm1, self.norm2 = Attention(width, heads), nn.LayerNorm(width), nn.LayerNorm(width)
        self.dense1, self.dense2 = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x):
        x = self.norm1(x + self.attention(x))
        return self.norm2(x + self.dense2(torch.relu(self.dense1(x))))


class Mean(nn.Module):
    def forward(self, x):
        return x.mean(1)


def lenet():
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, bias=False), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5, bias=False), nn.ReLU(),
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(),
        nn.Linear(84, CLASSES))


def vgg():
    layers, channels = [], 3
    for i, width in enumerate((32, 32, 64, 64, 128, 128)):
        layers += [nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.GroupNorm(8, width), nn.ReLU()]
        layers += [nn.MaxPool2d(2)] if i % 2 else []
        channels = width
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(128 * 16, CLASSES))


def transformer():
    return nn.Sequential(*(EncoderLayer(128, 4, 256) for _ in range(4)), Mean(), nn.Linear(128, CLASSES))


def mlp():
    return nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, CLASSES))


CASES = {"lenet": (lenet, (1, 32, 32)), "vgg": (vgg, (3, 32, 32)), "transformer": (transformer, (64, 128)),
         "mlp": (mlp, (784,))}


def plain_step(model, x, y):
    optimizer = torch.optim.SGD(model.parameters(), 0.01, 0.9)
    loss_fn = nn.CrossEntropyLoss()

    def step():
        optimizer.zero_grad()
        loss_fn(model(x), y).backward()
        optimizer.step()

    return step


def private_step(model, x, y, mode):
    optimizer = torch.optim.SGD(model.parameters(), 0.01, 0.9)
    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=len(x))
    extra = {"criterion": nn.CrossEntropyLoss(), "grad_sample_mode": "ghost"} if mode == "ghost" else {}
    made = opacus.PrivacyEngine().make_private(
        module=model, optimizer=optimizer, data_loader=data, noise_multiplier=1.0, max_grad_norm=1.0,
        poisson_sampling=False, **extra)
    model, optimizer = made[0], made[1]
    loss_fn = made[2] if mode == "ghost" else nn.CrossEntropyLoss()

    def step():
        optimizer.zero_grad()
        loss_fn(model(x), y).backward()
        optimizer.step()

    return step


def measure(name, batch, rounds):
    build, shape = CASES[name]
    rng = np.random.default_rng(0)
    x = torch.tensor(rng.normal(size=(batch, *shape)).astype(np.float32))
    y = torch.tensor(rng.integers(0, CLASSES, batch))
    steps = {"plain": plain_step(build(), x, y), "hooks": private_step(build(), x, y, "hooks"),
             "ghost": private_step(build(), x, y, "ghost")}
    first, times = {}, {key: [] for key in steps}
    for turn in range(rounds + 3):
        for key, step in steps.items():
            start = time.perf_counter()
            step()
            seconds = time.perf_counter() - start
            first.setdefault(key, seconds)
            if turn >= 3:
                times[key].append(seconds)
    base = np.array(times["plain"])
    for key, values in times.items():
        values = np.array(values)
        print(json.dumps({
            "network": name, "batch": batch, "engine": f"opacus {key}" if key != "plain" else "torch plain",
            "first_call_s": first[key], "median_ms": float(np.median(values)) * 1e3,
            "min_ms": float(values.min()) * 1e3, "ratio": float(np.median(values / base)),
            "min_ratio": float(values.min() / base.min())}), flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--networks", nargs="+", choices=sorted(CASES), required=True)
    parser.add_argument("--batches", nargs="+", type=int, required=True)
    parser.add_argument("--rounds", type=int, required=True)
    args = parser.parse_args()
    print(json.dumps({"torch": torch.__version__, "opacus": opacus.__version__, "threads": torch.get_num_threads(),
                      "python": sys.version.split()[0]}), flush=True)
    for name in args.networks:
        for batch in args.batches:
            measure(name, batch, args.rounds)


if __name__ == "__main__":
    main()
