"""What suppression costs: a suppressed LeNet-5 step against a plain one, in one process, step by step in turn.

Masks are chosen every 15th step, as documented, and their cost is in the figures, as is that of the callback. Prints
one JSON line: milliseconds per step, and the ratio suppressed to plain, from the medians and from the minima over
the blocks at each of the 15 places of a block. The minima are the steadier figure on a busy machine.
"""
import argparse
import json
import sys
import time
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

from examples.common.networks.lenet5.lenet5_net import LeNet5
from examples.privacy.sup_privacy.sup_privacy_config import mask_layers
from mindarmour.privacy.sup_privacy import SuppressMasker, SuppressModel, SuppressPrivacyFactory

INTERVAL = 15  # steps between two choices, the documented setting for 60,000 images in batches of 32


class _Run:
    """What a callback sees of one run."""

    def __init__(self, train_network):
        self._args = SimpleNamespace(train_network=train_network)

    def original_args(self):
        return self._args


def _model(blocks):
    """A suppressed model with its masker, and the plain step of an equal network."""
    loss = nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean")
    plain, net = LeNet5(), LeNet5()
    plain_step = nn.TrainOneStepCell(nn.WithLossCell(plain, loss), nn.SGD(plain.trainable_params(), 0.1))
    model = SuppressModel(net, loss, nn.SGD(net.trainable_params(), 0.1))
    ctrl = SuppressPrivacyFactory.create(net, mask_layers(), end_epoch=1, batch_num=INTERVAL * (blocks + 4),
                                         start_epoch=1, mask_times=blocks + 4, lr=0.1, sparse_end=0.95)
    model.link_suppress_ctrl(ctrl)
    return plain_step.set_train(), model.train_network.set_train(), SuppressMasker(model, ctrl)


def _time(action):
    start = time.perf_counter()
    action()
    return (time.perf_counter() - start) * 1000


def measure(batch_size, blocks):
    """Milliseconds of a plain and of a suppressed step and their ratio, from medians and from minima."""
    plain, suppressed, masker = _model(blocks)
    run = _Run(suppressed)
    rng = np.random.default_rng(1)
    batch = (Tensor(rng.normal(size=(batch_size, 1, 32, 32)).astype(np.float32)),
             Tensor(rng.integers(0, 10, batch_size).astype(np.int32)))

    def plain_step():
        plain(*batch).asnumpy()  # asnumpy waits for the device

    def suppressed_step():
        suppressed(*batch).asnumpy()
        masker.on_train_step_end(run)

    steps = [(_time(plain_step), _time(suppressed_step)) for _ in range((blocks + 1) * INTERVAL)]
    times = np.array(steps).reshape(blocks + 1, INTERVAL, 2)[1:]  # the first block compiles
    result = {"batch_size": batch_size, "blocks": blocks}
    for name, pick in (("median", np.median), ("minimum", np.min)):
        plain_ms, suppressed_ms = pick(times, axis=0).mean(axis=0)
        result[name] = {"plain_ms": round(float(plain_ms), 3), "suppressed_ms": round(float(suppressed_ms), 3),
                        "ratio": round(float(suppressed_ms / plain_ms), 3)}
    return result


def main():
    """Measure at the batch size asked for and print the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--blocks", type=int, default=40, help="blocks of 15 steps to time")
    parser.add_argument("--mode", choices=("graph", "pynative"), default="graph")
    args = parser.parse_args()
    ms.set_context(mode=ms.GRAPH_MODE if args.mode == "graph" else ms.PYNATIVE_MODE)
    print(json.dumps({"benchmark": "suppress_step_time", "mode": args.mode, **measure(args.batch_size, args.blocks)}))


if __name__ == "__main__":
    main()
