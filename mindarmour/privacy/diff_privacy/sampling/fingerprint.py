"""Recognise a data set without revealing it.

A plain hash of the records would let anybody who holds a checkpoint confirm a guess of the whole data set, which
no amount of gradient noise undoes. The fingerprint is therefore keyed: the key stays in a file of the user who
trains, outside every checkpoint, and whoever has no key learns nothing.
"""
import contextlib
import hashlib
import os
import secrets
from pathlib import Path

import numpy as np

from mindarmour.privacy.diff_privacy.sampling.batches import SamplerDataset

_ROWS = 256


def key_file():
    """Where the key is kept: $MINDARMOUR_HOME, else the user's data folder."""
    home = os.environ.get("MINDARMOUR_HOME")
    if home is None:
        home = Path(os.environ.get("XDG_DATA_HOME", Path.home() / ".local" / "share")) / "mindarmour"
    return Path(home) / "fingerprint-key"


def fingerprint(dataset, key=None):
    """Fingerprint of a training data set, equal for equal data on one user's machine.

    Args:
        dataset (Dataset): As handed to `DPModel.train`.
        key (bytes, optional): Instead of the user's own, where the fingerprint is compared and never kept.

    Returns:
        str. For a sampler's data set it depends on the number of records and on 256 records spread over them; for
        another pipeline on its source: class, files with their sizes, number of rows.
    """
    digest = hashlib.blake2b(key=key or _key(), digest_size=16, person=b"dataset")
    source = dataset
    while source.children:
        source = source.children[0]
    for part in _records(source.source.records) if isinstance(source, SamplerDataset) else _files(source):
        digest.update(part)
    return digest.hexdigest()


def _key():
    path = key_file()
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}")
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(secrets.token_bytes(32))
        with contextlib.suppress(FileExistsError):  # another process was first: its key is the key
            os.link(temporary, path)
        temporary.unlink()
    return path.read_bytes()


def _records(records):
    rows = np.unique(np.linspace(0, len(records) - 1, _ROWS).astype(int))
    yield str(len(records)).encode()
    for column in next(records.gather([rows])):
        picked = np.ascontiguousarray(column)
        yield f"{picked.dtype}{picked.shape}".encode()
        yield picked.tobytes()


def _files(source):
    yield type(source).__name__.encode()
    yield str(source.get_dataset_size()).encode()
    names = getattr(source, "dataset_files", None) or []
    folder = getattr(source, "dataset_dir", None)
    if folder:
        names = sorted(str(path) for path in Path(folder).rglob("*") if path.is_file())
    for name in names:
        yield f"{Path(name).name}:{os.path.getsize(name)}".encode()
