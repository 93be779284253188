"""DP-FedAvg: who is asked in a round, what their updates add up to, and what that costs.

The part of a federated server that the guarantee rests on, in NumPy alone, for any framework: `flower.DPFedAvg` puts it
into Flower. Each round stands in the ledger, and the ledger on the disk, before a client is asked: a server that is
killed forgets nothing.

References:
    McMahan et al. 2018, "Learning differentially private recurrent language models".
"""
from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Optional, Union

import numpy as np

from mindarmour.privacy.accounting import Ledger, PrivacySpent, Sampling, StepEvent, ledger_file, privacy_spent
from mindarmour.privacy.accounting.events import ADD_OR_REMOVE, FIXED_SIZE, POISSON, REPLACE_ONE, Randomness
from mindarmour.utils import _validate
from mindarmour.utils.files import replacing
from mindarmour.utils.logger import LogUtil
from mindarmour.utils.secure_random import SecureStream, derive_key

LOGGER = LogUtil.get_instance()
TAG = "Federated"
LEDGER_KEY = "dp_ledger"
_NOTE = "a user is a client, and its whole update its one example"
Arrays = Sequence[np.ndarray]


class PrivateRounds:
    """Draws clients, clips and adds their updates, adds noise, and keeps the ledger.

    Args:
        clients (int): Clients of the federation, N: a fixed public number.
        clients_per_round (int): Expected clients in a round; the fixed public divisor of the sum.
        norm_bound (float): Clipping bound C of a client's whole update, > 0.
        noise_multiplier (float): Standard deviation of the noise on the sum, divided by the bound, > 0.
        sampling (str): 'poisson': each client is asked with probability clients_per_round / N, independently.
            'fixed': exactly so many, as Flower draws by itself.
        seed (int): Of draws and noise. 0 takes operating-system entropy, as the claim needs.
        checkpoint (str, PathLike, optional): File that holds arrays and ledger. If it is there, the server goes on
            where it ends: see `arrays` and `rounds_done`.

    Guarantee:
        Removing a client with everything it holds moves the clipped sum by at most C: add-or-remove with 'poisson'.
        With 'fixed' a client is replaced, which moves it by 2C: a much larger epsilon at equal noise. The server sees
        single updates; the guarantee is about what it gives away. A client that does not answer, or answers with NaN
        or other shapes, contributes zero. Losses and metrics that clients report are no part of it.

    Raises:
        TypeError, ValueError: A bad argument.
        LedgerMismatchError: The checkpoint was cut short or edited.

    Examples:
        >>> import numpy as np
        >>> from mindarmour.privacy.federated import PrivateRounds
        >>> rounds = PrivateRounds(clients=100, clients_per_round=20, norm_bound=1.0, noise_multiplier=1.0)
        >>> arrays = [np.zeros((3, 2), np.float32)]
        >>> asked = rounds.draw(range(100), arrays)
        >>> arrays = rounds.aggregate(arrays, {client: [np.full((3, 2), 0.1)] for client in asked})
        >>> rounds.ledger.steps, round(rounds.spent(1e-3).epsilon, 1)
        (1, 1.7)
    """

    def __init__(self, clients: int, clients_per_round: int, norm_bound: float, noise_multiplier: float,
                 sampling: str = POISSON, seed: int = 0,
                 checkpoint: Optional[Union[str, os.PathLike]] = None) -> None:
        self.clients = _validate.integer("clients", clients, low=1)
        self.clients_per_round = _validate.integer("clients_per_round", clients_per_round, low=1, high=self.clients)
        self.norm_bound = _validate.real("norm_bound", norm_bound, low=0)
        self.noise_multiplier = _validate.real("noise_multiplier", noise_multiplier, low=0)
        self._kind = _validate.choice("sampling", sampling, (POISSON, FIXED_SIZE))
        self._seed = _validate.integer("seed", seed, low=0)
        self._checkpoint = None if checkpoint is None else Path(checkpoint)
        self._asked: Optional[frozenset] = None
        self._arrays: Optional[list[np.ndarray]] = None
        self.rounds_done, self.ledger = 0, Ledger()
        if self._checkpoint is not None and self._checkpoint.exists():
            self._arrays, self.rounds_done, self.ledger = _read(self._checkpoint)

    @property
    def arrays(self) -> Optional[list[np.ndarray]]:
        """Arrays after the last complete round of the checkpoint; None without one."""
        return None if self._arrays is None else [array.copy() for array in self._arrays]

    @property
    def event(self) -> StepEvent:
        """What a round does."""
        source = Randomness.SECURE if self._seed == 0 else Randomness.SEEDED
        relation = ADD_OR_REMOVE if self._kind == POISSON else REPLACE_ONE
        sampling = Sampling(self._kind, self.clients, self.clients_per_round, relation, examples_per_user=1,
                            noise_source=source)
        return StepEvent(sampling, self.noise_multiplier, noise_source=source, note=_NOTE)

    def draw(self, present: Sequence[int], arrays: Arrays) -> list[int]:
        """The clients to ask in the next round, which counts from now on.

        Args:
            present (Sequence[int]): Ids of the clients that can be asked, no two equal. With 'fixed' all N of them.
            arrays (Sequence[numpy.ndarray]): What they will be sent; kept in the checkpoint.

        Raises:
            ValueError: Equal ids; with 'fixed' another number than N: then the rate would be another one.
        """
        present = list(present)
        if len(set(present)) != len(present):
            raise ValueError("present must name each client once, but some ids are equal.")
        if self._kind == FIXED_SIZE and len(present) != self.clients:
            raise ValueError(f"All {self.clients} clients must be present for fixed-size rounds, whose claim depends "
                             f"on how many are drawn from, but there are {len(present)}. Wait for them, or use "
                             f"sampling='poisson'.")
        _check_arrays(arrays)
        stream = self._stream("draw")
        self.ledger.record(self.event)
        self._write(arrays, self.rounds_done)
        if self._kind == POISSON:
            asked = [client for client in present if stream.bernoulli(self.clients_per_round, self.clients)]
        else:
            asked = [present[place] for place in stream.permutation(len(present))[:self.clients_per_round]]
        self._asked = frozenset(asked)
        return asked

    def aggregate(self, arrays: Arrays, updates: Mapping[int, Arrays]) -> list[np.ndarray]:
        """New arrays: the old ones plus the noised mean of the clipped updates; once for each `draw`.

        Args:
            arrays (Sequence[numpy.ndarray]): What the clients were sent.
            updates (Mapping[int, Sequence[numpy.ndarray]]): Client id to what its training changed.

        Raises:
            ValueError: No round was drawn, or a client answers that was not asked.
        """
        if self._asked is None:
            raise ValueError("aggregate must follow a draw of its own: a round that was not drawn is not in the "
                             "ledger. Call draw first.")
        strangers = set(updates) - self._asked
        if strangers:
            raise ValueError(f"updates must come from clients that were asked in this round, but "
                             f"{sorted(strangers)[0]} was not.")
        _check_arrays(arrays)
        shapes, self._asked = [np.shape(array) for array in arrays], None
        total = [np.zeros(shape) for shape in shapes]
        for client, update in updates.items():
            for part, kept in zip(total, clipped(update, shapes, self.norm_bound, client)):
                part += kept
        stream, deviation = self._stream("noise"), self.noise_multiplier * self.norm_bound
        new = [(array + (part + deviation * stream.normal(part.shape)) / self.clients_per_round).astype(array.dtype)
               for array, part in zip(arrays, total)]
        self._write(new, self.rounds_done + 1)
        self.rounds_done += 1
        return new

    def spent(self, delta: float, accountant: str = "rdp") -> PrivacySpent:
        """Privacy spent by all rounds that were drawn; see `privacy_spent`."""
        return privacy_spent(self.ledger.entries, delta, accountant)

    def _stream(self, purpose: str) -> SecureStream:
        """Randomness of the round at hand; a seeded server that resumes repeats none."""
        return SecureStream(None if self._seed == 0 else derive_key("federated", purpose, self._seed,
                                                                    self.ledger.steps))

    def _write(self, arrays: Arrays, rounds_done: int) -> None:
        self._arrays = [np.array(array) for array in arrays]
        if self._checkpoint is None:
            return
        ledger = np.frombuffer(ledger_file.to_bytes(self.ledger), np.uint8)
        columns = {f"array_{number:05d}": array for number, array in enumerate(self._arrays)}
        with replacing(self._checkpoint) as temporary, open(temporary, "wb") as file:
            np.savez(file, rounds_done=np.int64(rounds_done), **{LEDGER_KEY: ledger}, **columns)


def clipped(update: Arrays, shapes: Sequence[tuple], norm_bound: float, client: Any = "") -> list[np.ndarray]:
    """A client's update inside the ball, in float64; zeros where it has other shapes or is not finite."""
    parts = [np.asarray(part, np.float64) for part in update]
    if [part.shape for part in parts] != list(shapes) or not all(np.isfinite(part).all() for part in parts):
        LOGGER.warn(TAG, "The update of client %s has other shapes, or is NaN or infinite: it counts as zero.", client)
        return [np.zeros(shape) for shape in shapes]
    peak = max((float(np.abs(part).max(initial=0.0)) for part in parts), default=0.0)
    if peak == 0:
        return parts
    parts = [part / peak for part in parts]  # no square overflows
    norm = float(np.sqrt(sum(np.square(part).sum() for part in parts)))
    factor = min(peak, norm_bound / norm) * (1 - 2.0 ** -40)
    return [part * factor for part in parts]


def _check_arrays(arrays: Arrays) -> None:
    for number, array in enumerate(arrays):
        kind = getattr(array, "dtype", np.dtype(object)).kind
        if kind != "f":
            raise TypeError(f"arrays must hold floating-point numbers, but array {number} holds {kind!r}. Leave "
                            f"counters out: they would be noised as well.")


def _read(path: Path) -> tuple[list[np.ndarray], int, Ledger]:
    ledger = Ledger(ledger_file.load(path).segments)  # first: it tells a file that was cut short
    with np.load(path) as stored:
        arrays = [stored[name] for name in sorted(stored.files) if name.startswith("array_")]
        return arrays, int(stored["rounds_done"]), ledger
