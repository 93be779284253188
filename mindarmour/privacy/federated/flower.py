"""DP-FedAvg as a Flower strategy: Flower moves the messages, `PrivateRounds` keeps the promise.

Flower 1.42 pins protobuf below 7, and MindSpore 2.10 needs 7: see docs/federated.md for an environment with both.
"""
from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Optional

from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg

from mindarmour.privacy.federated.rounds import PrivateRounds


class DPFedAvg(FedAvg):
    """`FedAvg` whose rounds are private for a client.

    Args:
        rounds (PrivateRounds): Sampling, bound, noise, ledger and checkpoint.
        **arguments: Of `FedAvg`, but those that would change who is asked or what an update weighs.

    Guarantee:
        That of `PrivateRounds`: which client is asked, how updates are clipped, weighted (equally) and noised is
        decided there. Training metrics of clients are dropped: they were not noised. Evaluation on clients is off
        unless `fraction_evaluate` is given, and what it reports is not protected.

    Raises:
        ValueError: An argument that the claim leaves no choice about.

    Examples:
        strategy = DPFedAvg(PrivateRounds(100, 20, 1.0, 1.0, checkpoint="server.npz"))
        strategy.start(grid, strategy.resumed(initial_arrays), num_rounds=strategy.rounds_left(50))
    """

    def __init__(self, rounds: PrivateRounds, **arguments: Any) -> None:
        for name in ("fraction_train", "min_train_nodes", "weighted_by_key", "train_metrics_aggr_fn"):
            if name in arguments:
                raise ValueError(f"{name} must be left out: who takes part, and with which weight, follows from the "
                                 f"claim of PrivateRounds. Training metrics of clients are private.")
        super().__init__(**{"fraction_evaluate": 0.0, "min_available_nodes": 1, **arguments})
        self.rounds = rounds
        self._sent: Optional[ArrayRecord] = None

    def resumed(self, initial_arrays: ArrayRecord) -> ArrayRecord:
        """The arrays of the checkpoint, under the names of the initial ones, which they are without a checkpoint."""
        stored = self.rounds.arrays
        return initial_arrays if stored is None else _like(initial_arrays, stored)

    def rounds_left(self, num_rounds: int) -> int:
        """Rounds that are missing from so many."""
        return max(0, num_rounds - self.rounds.rounds_done)

    def configure_train(self, server_round: int, arrays: ArrayRecord, config: ConfigRecord,
                        grid: Grid) -> Iterable[Message]:
        """Messages to the clients that `PrivateRounds` draws; the round counts from here on."""
        self._sent = arrays
        asked = self.rounds.draw(sorted(grid.get_node_ids()), arrays.to_numpy_ndarrays())
        config["server-round"] = server_round
        record = RecordDict({self.arrayrecord_key: arrays, self.configrecord_key: config})
        return self._construct_messages(record, asked, MessageType.TRAIN)

    def aggregate_train(self, server_round: int,
                        replies: Iterable[Message]) -> tuple[Optional[ArrayRecord], Optional[MetricRecord]]:
        """The noised arrays, of a round in which nobody answered too; no metrics."""
        if self._sent is None:
            raise ValueError("aggregate_train must follow configure_train of the same round.")
        sent, self._sent = self._sent, None
        old, updates = sent.to_numpy_ndarrays(), {}
        for reply in replies:
            client = reply.metadata.src_node_id
            if client in updates:
                raise ValueError(f"A client must answer once in a round, but {client} answered twice.")
            updates[client] = self._update(reply, sent, old)
        return _like(sent, self.rounds.aggregate(old, updates)), None

    def _update(self, reply: Message, sent: ArrayRecord, old: list) -> list:
        """What a client changed; nothing, which counts as zero, where it failed or answered with other arrays."""
        arrays = None if reply.has_error() else reply.content.array_records.get(self.arrayrecord_key)
        if arrays is None or list(arrays) != list(sent):
            return []
        new = arrays.to_numpy_ndarrays()
        return [mine - theirs for mine, theirs in zip(new, old)] \
            if all(mine.shape == theirs.shape for mine, theirs in zip(new, old)) else []


def _like(record: ArrayRecord, arrays: list) -> ArrayRecord:
    """Arrays under the names of a record's."""
    named = ArrayRecord(arrays)
    return ArrayRecord(dict(zip(record, named.values())))
