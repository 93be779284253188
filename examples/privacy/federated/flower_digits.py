"""Digits on forty clients, trained by Flower with differential privacy for a client.

The 1,797 real 8x8 digits that scikit-learn ships, in forty shards sorted by digit, so that a client knows two or three
of them; one in five records is kept for the test. A client trains a MindSpore network on its shard for one epoch; the
server draws clients, clips and noises through `DPFedAvg`, and keeps arrays and ledger in one file. Started again, it
goes on where the file ends. See docs/federated.md for an environment that holds both Flower and MindSpore.

    python flower_digits.py [--rounds 20] [--noise 1.0] [--checkpoint server.npz] [--kill_in_round N] [--smoke]
"""
import argparse
import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

import mindspore as ms
import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.simulation import run_simulation
from mindspore import Tensor, nn

from mindarmour.privacy.federated import PrivateRounds
from mindarmour.privacy.federated.flower import DPFedAvg

CLIENTS, PER_ROUND, BOUND, DELTA = 40, 20, 1.0, 1e-3
NAMES = ("0.weight", "0.bias", "2.weight", "2.bias")


def network():
    """A small classifier."""
    return nn.SequentialCell(nn.Dense(64, 32), nn.ReLU(), nn.Dense(32, 10))


def digits():
    """(images, labels) for training, sorted by label, and for the test."""
    from sklearn.datasets import load_digits
    pixels, labels = load_digits(return_X_y=True)
    pixels, labels = (pixels / 16 - 0.3).astype(np.float32), labels.astype(np.int32)
    test = np.arange(len(labels)) % 5 == 4
    order = np.argsort(labels[~test], kind="stable")
    return (pixels[~test][order], labels[~test][order]), (pixels[test], labels[test])


def filled(cell, arrays):
    """The network with these arrays."""
    for parameter, array in zip(cell.trainable_params(), arrays):
        parameter.set_data(Tensor(np.asarray(array, np.float32)))
    return cell


client_app = ClientApp()


@client_app.train()
def train(message: Message, context: Context) -> Message:
    """One epoch on the client's shard."""
    (images, labels), _ = digits()
    shard = np.array_split(np.arange(len(labels)), CLIENTS)[int(context.node_config["partition-id"])]
    record = message.content["arrays"]
    cell = filled(network(), record.to_numpy_ndarrays())
    loss_fn = nn.CrossEntropyLoss()
    step = nn.TrainOneStepCell(nn.WithLossCell(cell, loss_fn), nn.SGD(cell.trainable_params(), 0.1))
    step.set_train()
    for part in np.array_split(shard, 3):
        loss = step(Tensor(images[part]), Tensor(labels[part]))
    arrays = ArrayRecord(dict(zip(record, ArrayRecord([p.asnumpy() for p in cell.trainable_params()]).values())))
    metrics = MetricRecord({"loss": float(loss.asnumpy()), "num-examples": len(shard)})
    return Message(content=RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)


def accuracy(arrays):
    """On the test records."""
    _, (images, labels) = digits()
    return float((filled(network(), arrays)(Tensor(images)).asnumpy().argmax(axis=1) == labels).mean())


def server(args):
    """A ServerApp that trains up to so many rounds, those of the checkpoint included."""
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        rounds = PrivateRounds(CLIENTS, PER_ROUND, BOUND, args.noise, checkpoint=args.checkpoint)
        strategy = DPFedAvg(rounds)
        ms.set_seed(1)
        start = ArrayRecord([parameter.asnumpy() for parameter in network().trainable_params()])
        initial = ArrayRecord(dict(zip(NAMES, start.values())))

        def evaluated(_, arrays):
            if args.kill_in_round and rounds.ledger.steps == args.kill_in_round:
                os.kill(os.getpid(), signal.SIGKILL)
            return MetricRecord({"accuracy": accuracy(arrays.to_numpy_ndarrays())})

        left = strategy.rounds_left(args.rounds)
        if left:
            strategy.start(grid, strategy.resumed(initial), num_rounds=left, train_config=ConfigRecord(),
                           evaluate_fn=evaluated)
        spent = rounds.spent(DELTA)
        print(f"rounds {rounds.rounds_done} in ledger {rounds.ledger.steps} epsilon {spent.epsilon:.6f} at {DELTA} "
              f"accuracy {accuracy(rounds.arrays):.3f}", flush=True)

    return app


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--noise", type=float, default=1.0, help="noise multiplier")
    parser.add_argument("--checkpoint", default="server.npz")
    parser.add_argument("--kill_in_round", type=int, default=0, help="the server kills itself after this round")
    parser.add_argument("--smoke", action="store_true", help="two rounds")
    args = parser.parse_args(arguments)
    if args.smoke:
        args.rounds = 2
    run_simulation(server_app=server(args), client_app=client_app, num_supernodes=CLIENTS,
                   backend_config={"client_resources": {"num_cpus": 1, "num_gpus": 0.0}})


if __name__ == "__main__":
    main()
