"""Ledgers as bytes: inside a checkpoint or as a file of their own, complete or refused.

The bytes are a mark, a length, JSON and its hash. The mark lets any file that holds them be read without knowing
its format, so the command line finds the ledger in a MindSpore checkpoint without MindSpore. The hash tells
truncation and careless edits; it is no signature. What was read is checked like what is recorded: an event that
cannot be true is refused.
"""
from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict
from typing import Any, Union

from mindarmour.privacy.accounting.events import EVENT_KINDS, Sampling
from mindarmour.privacy.accounting.ledger import Ledger, LedgerEntry, Segment
from mindarmour.privacy.accounting.ledger_file_v1 import entry_of_version_1
from mindarmour.privacy.errors import LedgerMismatchError
from mindarmour.utils.files import replacing

MARK = b"\x89MINDARMOUR-LEDGER-1\n"
_LENGTH_BYTES, _HASH_BYTES = 8, 32
VERSION = 2  # of the JSON; files of earlier versions are read, those of later ones refused
_STEPS = 2  # place of the number of steps in a row


def to_bytes(ledger: Ledger) -> bytes:
    """A ledger as bytes."""
    text = json.dumps(_document(ledger), separators=(",", ":")).encode()
    return MARK + len(text).to_bytes(_LENGTH_BYTES, "big") + text + _digest(text)


def from_bytes(data: bytes, where: str = "the data") -> Ledger:
    """The ledger that stands anywhere in `data`.

    Args:
        data (bytes): Content of a checkpoint or ledger file.
        where (str): What to call it in errors.

    Raises:
        LedgerMismatchError: There is none, it was cut short or edited, it states what cannot be true, or a newer
            version wrote it.
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
    return _ledger(json.loads(text), where)


def load(path: Union[str, os.PathLike]) -> Ledger:
    """The ledger in a file: a checkpoint, or a file written by `save`."""
    with open(path, "rb") as file:
        return from_bytes(file.read(), f"'{path}'")


def save(ledger: Ledger, path: Union[str, os.PathLike]) -> None:
    """Write a ledger to a file of its own, completely or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(to_bytes(ledger))


def _digest(text: bytes) -> bytes:
    return hashlib.blake2b(text, digest_size=_HASH_BYTES, person=b"ledger").digest()


def _document(ledger: Ledger) -> dict[str, Any]:
    """Samplings as a table, the fields of each kind of event named once, a row for each entry."""
    samplings: dict[Sampling, int] = {}
    kinds: dict[str, list[str]] = {}
    segments = [{"run": segment.run, "data": segment.data, "note": segment.note, "epochs": segment.epochs,
                 "rows": [_row(entry, samplings, kinds) for entry in segment.entries]} for segment in ledger.segments]
    return {"version": VERSION, "samplings": [asdict(sampling) for sampling in samplings], "kinds": kinds,
            "segments": segments}


def _row(entry: LedgerEntry, samplings: dict[Sampling, int], kinds: dict[str, list[str]]) -> list[Any]:
    event = entry.event
    values = event.to_fields()
    kinds.setdefault(event.kind, list(values))
    place = samplings.setdefault(event.sampling, len(samplings))
    return [event.kind, place, entry.steps, entry.epoch, *values.values()]


def _ledger(document: Any, where: str) -> Ledger:
    version = document.get("version", 1) if isinstance(document, dict) else None
    if isinstance(version, int) and version > VERSION:
        raise LedgerMismatchError(f"{where} holds a ledger of version {version}, but this mindarmour reads up to "
                                  f"version {VERSION}. Read it with the version that wrote it, or upgrade.")
    try:
        samplings = [Sampling(**stored) for stored in document["samplings"]]
        decode = _entry if version == VERSION else entry_of_version_1
        kinds = document.get("kinds", {})  # version 1 has none
        return Ledger([Segment(stored["run"], stored["data"], stored["note"], stored["epochs"],
                               [decode(row, samplings, kinds) for row in stored["rows"] if row[_STEPS] != 0])
                       for stored in document["segments"]])
    except (TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
        raise LedgerMismatchError(f"{where} holds a ledger whose content cannot be true: {error}") from error


def _entry(row: list[Any], samplings: list[Sampling], kinds: dict[str, list[str]]) -> LedgerEntry:
    kind, sampling, steps, epoch, *values = row
    if kind not in EVENT_KINDS:
        raise ValueError(f"the kind of an event must be one of {', '.join(map(repr, EVENT_KINDS))}, but got {kind!r}.")
    fields = dict(zip(kinds[kind], values))
    if len(values) != len(kinds[kind]):
        raise ValueError(f"an event of kind {kind!r} must have the fields {kinds[kind]}, but has {len(values)} values.")
    return LedgerEntry(EVENT_KINDS[kind].from_fields(samplings[sampling], fields), steps, epoch)
