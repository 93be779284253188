"""Ledgers as bytes: inside a checkpoint or as a file of their own, complete or refused.

The bytes are a mark, a length, JSON and its hash. The mark lets any file that holds them be read without knowing
its format, so the command line finds the ledger in a MindSpore checkpoint without MindSpore. The hash tells
truncation and careless edits; it is no signature.
"""
import hashlib
import json
from dataclasses import asdict, fields

from mindarmour.privacy.accounting.events import ReleaseEvent, Sampling, StepEvent
from mindarmour.privacy.accounting.ledger import Ledger, LedgerEntry, Segment
from mindarmour.privacy.errors import LedgerMismatchError
from mindarmour.utils.files import replacing

MARK = b"\x89MINDARMOUR-LEDGER-1\n"
_LENGTH_BYTES, _HASH_BYTES = 8, 32
_KINDS = (StepEvent, ReleaseEvent)
# in the order of the classes, without the sampling, which is stored once
_FIELDS = {kind: [field.name for field in fields(kind) if field.name != "sampling"] for kind in _KINDS}


def to_bytes(ledger):
    """A ledger as bytes."""
    text = json.dumps(_document(ledger), separators=(",", ":")).encode()
    return MARK + len(text).to_bytes(_LENGTH_BYTES, "big") + text + _digest(text)


def from_bytes(data, where="the data"):
    """The ledger that stands anywhere in `data`.

    Args:
        data (bytes): Content of a checkpoint or ledger file.
        where (str): What to call it in errors.

    Raises:
        LedgerMismatchError: There is none, or it was cut short or edited.
    """
    start = data.find(MARK)
    if start < 0:
        raise LedgerMismatchError(f"{where} holds no ledger.")
    start += len(MARK)
    length = int.from_bytes(data[start:start + _LENGTH_BYTES], "big")
    start += _LENGTH_BYTES
    text, digest = data[start:start + length], data[start + length:start + length + _HASH_BYTES]
    if len(digest) < _HASH_BYTES:
        raise LedgerMismatchError(f"{where} holds a ledger that was cut short: {len(text)} of {length} bytes.")
    if digest != _digest(text):
        raise LedgerMismatchError(f"{where} holds a ledger that was edited: its content does not match its hash.")
    return _ledger(json.loads(text))


def load(path):
    """The ledger in a file: a checkpoint, or a file written by `save`."""
    with open(path, "rb") as file:
        return from_bytes(file.read(), f"'{path}'")


def save(ledger, path):
    """Write a ledger to a file of its own, completely or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(to_bytes(ledger))


def _digest(text):
    return hashlib.blake2b(text, digest_size=_HASH_BYTES, person=b"ledger").digest()


def _document(ledger):
    """Samplings as a table, a row for each entry."""
    samplings, segments = [], []
    for segment in ledger.segments:
        rows = [_row(entry, samplings) for entry in segment.entries]
        segments.append({"run": segment.run, "data": segment.data, "note": segment.note, "epochs": segment.epochs,
                         "rows": rows})
    return {"samplings": [asdict(sampling) for sampling in samplings], "segments": segments}


def _row(entry, samplings):
    event = entry.event
    if event.sampling not in samplings:
        samplings.append(event.sampling)
    fields = [getattr(event, name) for name in _FIELDS[type(event)]]
    return [_KINDS.index(type(event)), samplings.index(event.sampling), entry.steps, entry.epoch, *fields]


def _ledger(document):
    samplings = [Sampling(**fields) for fields in document["samplings"]]
    return Ledger([Segment(stored["run"], stored["data"], stored["note"], stored["epochs"],
                           [_entry(row, samplings) for row in stored["rows"]]) for stored in document["segments"]])


def _entry(row, samplings):
    kind, sampling, steps, epoch, *values = row
    cls = _KINDS[kind]
    return LedgerEntry(cls(sampling=samplings[sampling], **dict(zip(_FIELDS[cls], values))), steps, epoch)
