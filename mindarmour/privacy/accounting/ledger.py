"""The ledger: what really ran, step by step, run-length coded."""
from dataclasses import dataclass, replace

from mindarmour.privacy.accounting.events import PER_EPOCH, StepEvent


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


class Ledger:
    """Append-only record of executed steps; the only thing that accountants and monitors read.

    Examples:
        >>> from mindarmour.privacy.accounting import Ledger, Sampling, StepEvent
        >>> ledger = Ledger()
        >>> event = StepEvent(Sampling("poisson", 4000, 512, "add-or-remove"), noise_multiplier=2.8)
        >>> for _ in range(10):
        ...     ledger.record(event)
        >>> ledger.steps, len(ledger.entries)
        (10, 1)
    """

    def __init__(self, entries=(), epochs=0):
        self._entries = list(entries)
        self._epochs = epochs

    @property
    def entries(self):
        """Tuple of LedgerEntry, in the order of execution."""
        return tuple(self._entries)

    @property
    def steps(self):
        """Executed steps."""
        return sum(entry.steps for entry in self._entries)

    @property
    def epochs(self):
        """Started epochs."""
        return self._epochs

    def start_epoch(self):
        """The sampler starts over: whatever follows may use every record again."""
        self._epochs += 1

    def record(self, event, steps=1):
        """Add executed steps. Called after they have run, never when they are only drawn."""
        epoch = self._epochs if event.sampling.kind in PER_EPOCH else 0
        last = self._entries[-1] if self._entries else None
        if last is not None and last.event == event and last.epoch == epoch:
            self._entries[-1] = replace(last, steps=last.steps + steps)
        else:
            self._entries.append(LedgerEntry(event, steps, epoch))

    def preview(self, event, steps=1):
        """Entries as they would stand after `steps` more of `event`; nothing is recorded."""
        copy = Ledger(self._entries, self._epochs)
        copy.record(event, steps)
        return copy.entries
