"""The ledger: what really ran, step by step, run-length coded, across restarts.

A ledger is a chain of segments, one for each process that trained. A resumed run keeps the segments it continues
and opens its own. So two runs forked from one checkpoint share their first segments, and `combine` counts those
once and both tails.
"""
import secrets
from dataclasses import dataclass, replace
from typing import Optional

from mindarmour.privacy.accounting.events import FULL, PER_EPOCH, ZERO_OUT, Sampling, StepEvent
from mindarmour.privacy.errors import LedgerMismatchError


@dataclass(frozen=True)
class LedgerEntry:
    """`steps` equal steps in a row.

    Args:
        event (StepEvent): What each of them did.
        steps (int): How many.
        epoch (int): Number of the started epoch they belong to. Samplers whose claim is per epoch need it;
            for the others it is 0, so that equal steps of all epochs share one entry.
    """

    event: StepEvent
    steps: int
    epoch: int = 0


@dataclass
class Segment:
    """What one process ran.

    Args:
        run (str): Random name of the process's run.
        data (str, optional): Fingerprint of its training data.
        note (str): What the user acknowledged when the segment was opened.
        epochs (int): Started epochs.
        entries (list[LedgerEntry]): What ran; epochs are counted from 1 within the segment.
    """

    run: str
    data: Optional[str] = None
    note: str = ""
    epochs: int = 0
    entries: Optional[list] = None

    def __post_init__(self):
        self.entries = list(self.entries or ())

    @property
    def steps(self):
        """Executed steps."""
        return sum(entry.steps for entry in self.entries)

    def copy(self):
        """An independent copy."""
        return replace(self, entries=list(self.entries))


# Weights that come from training nobody recorded: no bound on what they reveal.
UNKNOWN_TRAINING = StepEvent(Sampling(FULL, 1, 1, ZERO_OUT), noise_multiplier=0.0,
                             unit="unknown training: weights restored without a ledger")


class Ledger:
    """Append-only record of executed steps; the only thing that accountants and monitors read.

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

    def __init__(self, segments=()):
        self._past = [segment.copy() for segment in segments]
        self._now = Segment(secrets.token_hex(8))

    @property
    def segments(self):
        """Tuple of Segment, oldest first; the last one is this run's, left out while it is empty."""
        return (*self._past, self._now) if self._now.entries or self._now.note else tuple(self._past)

    @property
    def entries(self):
        """Tuple of LedgerEntry of all segments, in the order of execution, epochs numbered through."""
        rows, started = [], 0
        for segment in self.segments:
            rows.extend(replace(e, epoch=e.epoch + started) if e.epoch and started else e for e in segment.entries)
            started += segment.epochs
        return tuple(rows)

    @property
    def steps(self):
        """Executed steps of all segments."""
        return sum(segment.steps for segment in self.segments)

    @property
    def epochs(self):
        """Started epochs of this run."""
        return self._now.epochs

    def start_epoch(self):
        """The sampler starts over: whatever follows may use every record again."""
        self._now.epochs += 1

    def record(self, event, steps=1):
        """Add executed steps. Called after they have run, never when they are only drawn."""
        entries = self._now.entries
        epoch = self._now.epochs if event.sampling.kind in PER_EPOCH else 0
        if entries and entries[-1].event == event and entries[-1].epoch == epoch:
            entries[-1] = replace(entries[-1], steps=entries[-1].steps + steps)
        else:
            entries.append(LedgerEntry(event, steps, epoch))

    def preview(self, event, steps=1):
        """Entries as they would stand after `steps` more of `event`; nothing is recorded."""
        copy = Ledger(self._past)
        copy._now = self._now.copy()
        copy.record(event, steps)
        return copy.entries

    def ahead(self, runs, steps_per_epoch):
        """Entries as they would stand if training went on; nothing is recorded.

        Args:
            runs (iterable): Pairs (event, steps) in the order of execution.
            steps_per_epoch (int): Steps after which the sampler starts over.
        """
        copy = Ledger(self._past)
        copy._now = self._now.copy()
        left = copy._left_of_epoch(steps_per_epoch)
        for event, steps in runs:
            if event.sampling.kind not in PER_EPOCH:
                copy.record(event, steps)
                continue
            while steps:
                if left == 0:
                    copy.start_epoch()
                    left = steps_per_epoch
                part = min(steps, left)
                copy.record(event, part)
                steps, left = steps - part, left - part
        return copy.entries

    def _left_of_epoch(self, steps_per_epoch):
        if not self._now.epochs:
            return 0
        return max(0, steps_per_epoch - sum(e.steps for e in self._now.entries if e.epoch == self._now.epochs))

    def spend_on(self, fingerprint):
        """State the data that this run trains on.

        Raises:
            LedgerMismatchError: The ledger already holds steps on other data: a budget belongs to one data set.
        """
        known = {segment.data for segment in self.segments if segment.data is not None}
        if fingerprint is not None and known and fingerprint not in known and not self._now.note:
            raise LedgerMismatchError("The ledger records training on other data than this run's. A budget belongs to "
                                      "one data set: start from fresh weights and a fresh ledger, or restore with "
                                      "acknowledge='...' if the earlier data needs no protection.")
        self._now.data = fingerprint

    def acknowledge(self, note):
        """Open the run with a statement of the user about what is not in the ledger."""
        self._now.note = note


def combine(ledgers):
    """One ledger of everything that several ledgers record, shared history counted once.

    Args:
        ledgers (sequence[Ledger]): For example of checkpoints forked from one.

    Returns:
        Ledger, with each run's longest segment.

    Raises:
        LedgerMismatchError: Two ledgers tell different histories of one run.
    """
    longest = {}
    for segment in (segment for ledger in ledgers for segment in ledger.segments):
        known = longest.get(segment.run)
        if known is None or segment.steps > known.steps:
            known, longest[segment.run] = segment, segment if known is None else _continues(known, segment)
        else:
            _continues(segment, known)
    return Ledger(longest.values())


def _continues(short, long):
    """`long`, if it repeats all of `short`; otherwise one of them was edited."""
    whole, tail = short.entries[:-1], short.entries[-1:]
    same = long.entries[:len(whole)] == whole
    if tail and same:
        other = long.entries[len(whole)]
        same = (other.event, other.epoch) == (tail[0].event, tail[0].epoch) and other.steps >= tail[0].steps
    if not same:
        raise LedgerMismatchError(f"Two ledgers tell different histories of the run {short.run}: one was edited.")
    return long
