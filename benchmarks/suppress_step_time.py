"""What suppression costs: a suppressed LeNet-5 step against a plain one, in one process, block by block in turn.

A block is as many steps as lie between two choices of masks, so that each suppressed block pays for one choice, the
callback included. Prints one JSON line: the median over the pairs of blocks of the ratio of their times, and the
ratio of the fastest blocks, which is the steadier figure on a busy machine.
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


def _time(step, batch, after=None):
    start = time.perf_counter()
    for _ in range(INTERVAL):
        loss = step(*batch)
        if after is not None:
            after()
    loss.asnumpy()  # wait for the device
    return time.perf_counter() - start


def measure(batch_size, blocks):
    """Median milliseconds of a plain and of a suppressed step, and the median ratio of neighbouring blocks."""
    plain, suppressed, masker = _model(blocks)
    run = _Run(suppressed)
    rng = np.random.default_rng(1)
    batch = (Tensor(rng.normal(size=(batch_size, 1, 32, 32)).astype(np.float32)),
             Tensor(rng.integers(0, 10, batch_size).astype(np.int32)))

    def after():
        masker.on_train_step_end(run)

    pairs = [(_time(plain, batch), _time(suppressed, batch, after)) for _ in range(blocks + 2)][2:]
    times = np.array(pairs) / INTERVAL * 1000
    return {"batch_size": batch_size, "plain_ms": round(float(np.median(times[:, 0])), 3),
            "suppressed_ms": round(float(np.median(times[:, 1])), 3),
            "ratio": round(float(np.median(times[:, 1] / times[:, 0])), 3),
            "ratio_of_minima": round(float(times[:, 1].min() / times[:, 0].min()), 3)}


def main():
    """Measure at the batch size asked for and print the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--blocks", type=int, default=40, help="pairs of blocks to time")
    parser.add_argument("--mode", choices=("graph", "pynative"), default="graph")
    args = parser.parse_args()
    ms.set_context(mode=ms.GRAPH_MODE if args.mode == "graph" else ms.PYNATIVE_MODE)
    print(json.dumps({"benchmark": "suppress_step_time", "mode": args.mode, **measure(args.batch_size, args.blocks)}))


if __name__ == "__main__":
    main()
