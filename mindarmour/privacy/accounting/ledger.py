"""The ledger: what really ran, step by step, run-length coded, across restarts.

A ledger is a chain of segments, one for each process that trained. A resumed run keeps the segments it continues
and opens its own, and so does a copy, an unpickled ledger and the child of a fork. So two runs forked from one
checkpoint or process share their first segments, and `combine` counts those once and both tails.

Steps are the primitive. Where the claim is per epoch, the epoch of a step follows from the steps made: after as many
as the sampler needs to visit every record, the next step begins another epoch, whether `start_epoch` was called or
not. Calling it more often can only charge more.
"""
from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Iterable, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from typing import Any, Optional

from mindarmour.privacy.accounting.events import FULL, PER_EPOCH, ZERO_OUT, Event, Sampling, StepEvent
from mindarmour.privacy.accounting.sampling import settle
from mindarmour.privacy.errors import LedgerMismatchError
from mindarmour.utils import _validate

_MOST_STEPS = 2 ** 63 - 1


@dataclass(frozen=True)
class LedgerEntry:
    """`steps` equal steps in a row.

    Args:
        event (Event): What each of them did.
        steps (int): How many, at least 1.
        epoch (int): Number of the started epoch they belong to. Samplers whose claim is per epoch need it;
            for the others it is 0, so that equal steps of all epochs share one entry. More steps than the epoch has
            are charged as further epochs.

    Raises:
        TypeError: Not an event, or a number that is no int.
        ValueError: Fewer than one step, or a negative epoch.
    """

    event: Event
    steps: int
    epoch: int = 0

    def __post_init__(self) -> None:
        settle(self, event=_validate.instance("event", self.event, Event),
               steps=_validate.integer("steps", self.steps, low=1, high=_MOST_STEPS),
               epoch=_validate.integer("epoch", self.epoch, low=0))


@dataclass
class Segment:
    """What one process ran.

    Args:
        run (str): Random name of the process's run.
        data (str, optional): Fingerprint of its training data.
        note (str): What the user acknowledged when the segment was opened.
        epochs (int): Started epochs, at least those that the entries belong to.
        entries (list[LedgerEntry]): What ran; epochs are counted from 1 within the segment.

    Raises:
        TypeError: A field of the wrong type.
        ValueError: A negative number of epochs, or no name.
    """

    run: str
    data: Optional[str] = None
    note: str = ""
    epochs: int = 0
    entries: list[LedgerEntry] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not _validate.instance("run", self.run, str):
            raise ValueError("run must be a name, but is empty.")
        if self.data is not None:
            _validate.instance("data", self.data, str)
        _validate.instance("note", self.note, str)
        self.epochs = _validate.integer("epochs", self.epochs, low=0)
        self.entries = [_validate.instance("entries", entry, LedgerEntry) for entry in self.entries or ()]
        self._number_epochs()

    def _number_epochs(self) -> None:
        """Epochs from 1, so that those of two segments are never taken for the same one."""
        per_epoch = [entry for entry in self.entries if entry.event.sampling.kind in PER_EPOCH]
        if any(entry.epoch == 0 for entry in per_epoch):
            self.entries = [replace(e, epoch=e.epoch + 1) if e.event.sampling.kind in PER_EPOCH else e
                            for e in self.entries]
            self.epochs += 1
        self.epochs = max([self.epochs, *(entry.epoch for entry in self.entries)])

    @property
    def steps(self) -> int:
        """Executed steps."""
        return sum(entry.steps for entry in self.entries)

    def copy(self) -> Segment:
        """An independent copy."""
        other = copy(self)  # checked when it was made
        other.entries = list(self.entries)
        return other


# Weights that come from training nobody recorded: no bound on what they reveal.
UNKNOWN_TRAINING = StepEvent(Sampling(FULL, 1, 1, ZERO_OUT), noise_multiplier=0.0,
                             note="incomplete, unknown training: weights that came without their ledger")


class Ledger:
    """Append-only record of executed steps; the only thing that accountants and monitors read.

    Threads may share a ledger: no step is lost, and what is read is one moment's state.

    Args:
        segments (sequence[Segment]): Segments of earlier runs, oldest first; a new one is opened for this run.

    Examples:
        >>> from mindarmour.privacy.accounting import Ledger, Sampling, StepEvent
        >>> ledger = Ledger()
        >>> event = StepEvent(Sampling("poisson", 4000, 512, "add-or-remove"), noise_multiplier=2.8)
        >>> for _ in range(10):
        ...     ledger.record(event)
        >>> ledger.steps, len(ledger.entries)
        (10, 1)
    """

    def __init__(self, segments: Iterable[Segment] = ()) -> None:
        self._lock = threading.RLock()
        self._past = [segment.copy() for segment in segments]
        self._open_segment()

    def _open_segment(self) -> None:
        self._now = Segment(secrets.token_hex(8))
        self._process = os.getpid()
        # steps that each sampling made in the current epoch
        self._made: dict[tuple[Sampling, Optional[int]], int] = {}

    @property
    def _held(self) -> threading.RLock:  # type: ignore[valid-type]
        """The lock to hold. The child of a fork is another run than its parent, whose lock may never be released."""
        if self._process != os.getpid():
            Ledger.__init__(self, (*self._past, *([self._now] if self._now.entries or self._now.note else ())))
        return self._lock

    # A copy records another future than its original, so it is another run. A lock cannot be copied.
    def __getstate__(self) -> dict[str, Any]:
        return {"segments": self.segments}

    def __setstate__(self, state: dict[str, Any]) -> None:
        Ledger.__init__(self, state["segments"])

    @property
    def segments(self) -> tuple[Segment, ...]:
        """Tuple of Segment, oldest first; the last one is this run's, left out while it is empty."""
        with self._held:
            now = (self._now.copy(),) if self._now.entries or self._now.note else ()
            return (*self._past, *now)

    @property
    def entries(self) -> tuple[LedgerEntry, ...]:
        """Tuple of LedgerEntry of all segments, in the order of execution, epochs numbered through."""
        rows: list[LedgerEntry] = []
        started = 0
        for segment in self.segments:
            rows.extend(replace(e, epoch=e.epoch + started) if e.epoch and started else e for e in segment.entries)
            started += segment.epochs
        return tuple(rows)

    @property
    def steps(self) -> int:
        """Executed steps of all segments."""
        with self._held:
            return sum(segment.steps for segment in (*self._past, self._now))

    @property
    def epochs(self) -> int:
        """Started epochs of this run."""
        with self._held:
            return self._now.epochs

    def start_epoch(self) -> None:
        """The sampler starts over: whatever follows may use every record again."""
        with self._held:
            self._now.epochs += 1
            self._made = {}

    def record(self, event: Event, steps: int = 1) -> None:
        """Add executed steps: before the device is asked for them, or right after they ran; never when only drawn.

        Args:
            event (Event): What each of them did.
            steps (int): How many, at least 0.
        """
        _validate.instance("event", event, Event)
        steps = _validate.integer("steps", steps, low=0, high=_MOST_STEPS)
        with self._held:
            if event.sampling.kind not in PER_EPOCH:
                self._append(event, steps, 0)
                return
            while steps:
                part = min(steps, self._left_of_epoch(event))
                self._append(event, part, self._now.epochs)
                self._made[_visits_of(event)] = self._made.get(_visits_of(event), 0) + part
                steps -= part

    def _left_of_epoch(self, event: Event) -> int:
        """Steps of this event before its sampler must have visited every record; begins the next epoch if none is."""
        length = event.sampling.epoch_length or 1
        if not self._now.epochs or self._made.get(_visits_of(event), 0) >= length:
            self.start_epoch()
        return length - self._made.get(_visits_of(event), 0)

    def _append(self, event: Event, steps: int, epoch: int) -> None:
        entries = self._now.entries
        if steps and entries and entries[-1].event == event and entries[-1].epoch == epoch:
            entries[-1] = replace(entries[-1], steps=entries[-1].steps + steps)
        elif steps:
            entries.append(LedgerEntry(event, steps, epoch))

    def preview(self, event: Event, steps: int = 1) -> tuple[LedgerEntry, ...]:
        """Entries as they would stand after `steps` more of `event`; nothing is recorded."""
        later = self._looking_ahead()
        later.record(event, steps)
        return later.entries

    def ahead(self, runs: Iterable[tuple[Event, int]], steps_per_epoch: int) -> tuple[LedgerEntry, ...]:
        """Entries as they would stand if training went on; nothing is recorded.

        Args:
            runs (iterable): Pairs (event, steps) in the order of execution.
            steps_per_epoch (int): Steps after which the sampler starts over.
        """
        steps_per_epoch = _validate.integer("steps_per_epoch", steps_per_epoch, low=1)
        later = self._looking_ahead()
        left = max(0, steps_per_epoch - sum(later._made.values())) if later.epochs else 0
        for event, steps in runs:
            if event.sampling.kind not in PER_EPOCH:
                later.record(event, steps)
                continue
            while steps:
                if left == 0:
                    later.start_epoch()
                    left = steps_per_epoch
                part = min(steps, left)
                later.record(event, part)
                steps, left = steps - part, left - part
        return later.entries

    def _looking_ahead(self) -> Ledger:
        """A copy that goes on inside the same segment."""
        with self._held:
            later = Ledger(self._past)
            later._now = self._now.copy()
            later._made = dict(self._made)
            return later

    def spend_on(self, fingerprint: Optional[str]) -> None:
        """State the data that this run trains on.

        Raises:
            LedgerMismatchError: The ledger already holds steps on other data: a budget belongs to one data set.
        """
        with self._held:
            known = {segment.data for segment in self.segments if segment.data is not None}
            if fingerprint is not None and known and fingerprint not in known and not self._now.note:
                raise LedgerMismatchError("The ledger records training on other data than this run's. A budget belongs "
                                          "to one data set: start from fresh weights and a fresh ledger, or restore "
                                          "with acknowledge='...' if the earlier data needs no protection.")
            self._now.data = fingerprint

    def acknowledge(self, note: str) -> None:
        """Open the run with a statement of the user about what is not in the ledger."""
        with self._held:
            self._now.note = _validate.instance("note", note, str)


def _visits_of(event: Event) -> tuple[Sampling, Optional[int]]:
    """What visits records together: a change of sampling or unit begins to count anew."""
    return event.sampling, getattr(event, "examples_per_unit", None)


def combine(ledgers: Sequence[Ledger]) -> Ledger:
    """One ledger of everything that several ledgers record, shared history counted once.

    Two continuations of one checkpoint are two runs: both tails count, even if their steps are equal.

    Args:
        ledgers (sequence[Ledger]): For example of checkpoints forked from one.

    Returns:
        Ledger, with each run's longest segment.

    Raises:
        LedgerMismatchError: Two ledgers tell different histories of one run.
    """
    longest: dict[str, Segment] = {}
    for segment in (segment for ledger in ledgers for segment in ledger.segments):
        known = longest.get(segment.run)
        if known is None or segment.steps > known.steps:
            known, longest[segment.run] = segment, segment if known is None else _continues(known, segment)
        else:
            _continues(segment, known)
    return Ledger(longest.values())


def _continues(short: Segment, long: Segment) -> Segment:
    """`long`, if it repeats all of `short`; otherwise one of them was edited."""
    whole, tail = short.entries[:-1], short.entries[-1:]
    same = long.entries[:len(whole)] == whole
    if tail and same:
        other = long.entries[len(whole)]
        same = (other.event, other.epoch) == (tail[0].event, tail[0].epoch) and other.steps >= tail[0].steps
    if not same:
        raise LedgerMismatchError(f"Two ledgers tell different histories of the run {short.run}: one was edited.")
    return long
