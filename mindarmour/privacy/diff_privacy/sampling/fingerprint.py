"""Recognise a data set without revealing it.

A plain hash of the records would let anybody who holds a checkpoint confirm a guess of the whole data set, which
no amount of gradient noise undoes. The fingerprint is therefore keyed: the key stays in a file of the user who
trains, outside every checkpoint, and whoever has no key learns nothing.
"""
from __future__ import annotations

import contextlib
import copy
import glob
import hashlib
import os
import secrets
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional

import mindspore.dataset as ds
import numpy as np

from mindarmour.privacy.diff_privacy.sampling import pipelines
from mindarmour.privacy.diff_privacy.sampling.batches import SamplerDataset
from mindarmour.privacy.diff_privacy.sampling.draws import subset_draw
from mindarmour.privacy.diff_privacy.sampling.records import PipelineRecords
from mindarmour.privacy.errors import PrivacyWarning
from mindarmour.utils.secure_random import SecureStream, derive_key

# Records, or files of a stream, that are looked into.
_LOOKED_AT = 64
_BLOCK = 4096


def key_file() -> Path:
    """Where the key is kept: $MINDARMOUR_HOME, else the user's data folder."""
    home = os.environ.get("MINDARMOUR_HOME")
    if home is None:
        home = Path(os.environ.get("XDG_DATA_HOME", Path.home() / ".local" / "share")) / "mindarmour"
    return Path(home) / "fingerprint-key"


def fingerprint(dataset: Any, key: Optional[bytes] = None) -> Optional[str]:
    """Fingerprint of a training data set, equal for equal data on one user's machine.

    Args:
        dataset (Dataset): As handed to `DPModel.train`.
        key (bytes, optional): Instead of the user's own, where the fingerprint is compared and never kept.

    Returns:
        str. It depends on the number of records and on 64 of them that the key chooses, as they are stored: before any
        `map`, so that augmentation changes nothing. What differs between two readings of one record (a source that
        augments by itself) is left out. For a stream it depends on its files: their names, and size and part of the
        content of 64 that the key chooses. The cost is that of 128 records, however many there are.
        None where no key can be kept: then nobody can tell later whether the data are the same, and a
        `PrivacyWarning` says so.

    Examples:
        >>> import numpy as np
        >>> from mindarmour.privacy.diff_privacy import PoissonSampler
        >>> from mindarmour.privacy.diff_privacy.sampling.fingerprint import fingerprint
        >>> data = np.zeros((50, 2), np.float32), np.arange(50)
        >>> one, same, other = (fingerprint(PoissonSampler(5).dataset(columns), key=b"k")
        ...                     for columns in (data, data, (data[0] + 1, data[1])))
        >>> one == same, one == other
        (True, False)
    """
    key = key or _key_if_kept()
    if key is None:
        return None
    digest = hashlib.blake2b(key=key, digest_size=16, person=b"dataset")
    source = dataset
    while source.children:
        source = source.children[0]
    for part in _parts(source, key):
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()


def _parts(source: Any, key: bytes) -> Iterator[bytes]:
    if isinstance(source, SamplerDataset):
        return _records(source.source.records.stored(), key)
    if pipelines.has_random_access(source):
        return _records(_whole(source), key)
    return _files(source, key)


def _whole(source: Any) -> PipelineRecords:
    """All records of a source, also those that its own sampler leaves out in this pass or to other ranks."""
    whole = copy.copy(source)
    whole.sampler, whole.dataset_size, whole.num_samples = ds.SequentialSampler(), None, 0
    return PipelineRecords(whole, range(whole.get_dataset_size()))


def _chosen(count: int, key: bytes) -> np.ndarray:
    stream = SecureStream(derive_key(key.hex(), "looked at", count))
    return np.sort(subset_draw(count, min(count, _LOOKED_AT), stream))


def _key_if_kept() -> Optional[bytes]:
    try:
        return _key()
    except (OSError, RuntimeError) as error:  # a home that is missing or cannot be written
        warnings.warn(f"The key that recognises training data cannot be kept ({error}), so the ledger will not tell "
                      f"whether another run trains on the same data. Set MINDARMOUR_HOME to a folder that can be "
                      f"written.", PrivacyWarning, stacklevel=3)
        return None


def _key() -> bytes:
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


def _records(records: Any, key: bytes) -> Iterator[bytes]:
    yield str(len(records)).encode()
    numbers = _chosen(len(records), key)
    once, again = records.rows(numbers), records.rows(numbers)
    for place, name in enumerate(records.names):
        contents = [[_content(name, row[place]) for row in rows] for rows in (once, again)]
        yield name.encode()
        yield from contents[0] if contents[0] == contents[1] else ()


def _content(name: str, value: Any) -> bytes:
    if not isinstance(value, np.ndarray):
        raise ValueError(f"Rows of column {name!r} must be arrays, but one is a {type(value).__name__}. Give each of "
                         f"its entries a column of its own: return {{name: array}} for the whole example.")
    return f"{value.dtype}{value.shape}".encode() + np.ascontiguousarray(value).tobytes()


def _files(source: Any, key: bytes) -> Iterator[bytes]:
    yield type(source).__name__.encode()
    yield str(source.get_dataset_size()).encode()
    names = _names_of_files(source)
    yield from (Path(name).name.encode() for name in names)
    for number in _chosen(len(names), key) if names else ():
        size = os.path.getsize(names[number])
        yield str(size).encode()
        with open(names[number], "rb") as file:
            file.seek(SecureStream(derive_key(key.hex(), "block", size)).integer(max(1, size - _BLOCK + 1)))
            yield file.read(_BLOCK)


def _names_of_files(source: Any) -> list[str]:
    folder = getattr(source, "dataset_dir", None)
    given = getattr(source, "dataset_files", None) or ([f"{folder}/**"] if folder else [])
    found = [name for pattern in ([given] if isinstance(given, str) else given)
             for name in ([pattern] if os.path.isfile(pattern) else glob.glob(pattern, recursive=True))]
    return sorted(name for name in found if os.path.isfile(name))
