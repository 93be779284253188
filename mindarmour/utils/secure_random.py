"""Random numbers that nobody can predict, drawn on the host from AES-256 in counter mode.

MindSpore's generators are no source of privacy noise: on a CPU the whole stream follows from four of its
values, and `mindspore.set_seed` replays it. Here the key comes from the operating system (or, for reproducible
runs, from a hash of a seed) and the numbers from the key stream.

Floating-point samples of continuous noise have finite resolution (Mironov 2012, "On significance of the least
significant bits for differential privacy"): uniform numbers carry 52 random bits, so normals reach 8.1 standard
deviations; an attacker who sees unrounded float64 releases is outside the guarantee.
"""
from __future__ import annotations

import hashlib
import os
import threading
from typing import Any, Optional, Union

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from scipy.special import ndtri

KEY_BYTES = 32
_ZEROS = bytes(2 ** 18)  # what the key stream is added to
Size = Union[int, "tuple[int, ...]"]

_forks = 0


def _count_fork() -> None:
    global _forks
    _forks += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_count_fork)


def _process() -> tuple[int, int]:
    """Differs between a process and each of its descendants.

    The number of forks tells a child from an ancestor whose process id it was given anew; the process id tells
    children that were forked without Python's knowledge.
    """
    return os.getpid(), _forks


def derive_key(*parts: Any) -> bytes:
    """A 32-byte key from a seed and whatever tells its uses apart (rank, step, parameter, ...)."""
    text = "/".join(str(part) for part in parts).encode()
    return hashlib.blake2b(text, digest_size=KEY_BYTES, person=b"mindarmour").digest()


class SecureStream:
    """Cryptographic random stream with the few distributions that privacy mechanisms need.

    Args:
        key (bytes, optional): 32 bytes. None takes fresh entropy from the operating system, the only choice that
            protects anybody; a given key makes the stream reproducible.

    Guarantee:
        Without a key no number is given out twice: not to two threads, not to a process and its forks (each takes a
        key of its own at its first draw), not to a copy (a copy is a new stream). A stream of a given key repeats in
        every process that was given the key; a fork goes on with the numbers that its parent draws too.

    Raises:
        ValueError: The key is not 32 bytes.
        TypeError: When a stream of a given key is copied or pickled: the copy would repeat it.

    Examples:
        >>> from mindarmour.utils.secure_random import SecureStream
        >>> SecureStream().normal((2, 3)).shape
        (2, 3)
        >>> SecureStream().integer(10 ** 30) < 10 ** 30
        True
    """

    def __init__(self, key: Optional[bytes] = None) -> None:
        if key is not None and (not isinstance(key, bytes) or len(key) != KEY_BYTES):
            raise ValueError(f"key must be {KEY_BYTES} bytes or None, but got {type(key).__name__}.")
        self._keyed = key is not None
        self._start(os.urandom(KEY_BYTES) if key is None else key)

    def _start(self, key: bytes) -> None:
        self._lock = threading.Lock()  # the parent's lock may be held by a thread that a fork does not have
        self._process = _process()
        self._stream = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()

    def __reduce__(self) -> tuple:
        if self._keyed:
            raise TypeError("A SecureStream of a given key cannot be copied or pickled: the copy would repeat its "
                            "numbers. Make a stream of another key where it is needed.")
        return type(self), ()

    def _renewed(self) -> None:
        """A key and a lock of this process's own, if the stream was made by another one."""
        if self._process == _process():
            return
        if self._keyed:
            self._lock, self._process = threading.Lock(), _process()
        else:
            self._start(os.urandom(KEY_BYTES))

    def _bytes(self, count: int) -> bytes:
        self._renewed()
        with self._lock:
            return self._stream.update(bytes(count))

    def fill(self, buffer: np.ndarray) -> None:
        """Overwrite all of a contiguous array with random bytes, in pieces that stay in the processor's cache."""
        target, piece = buffer.data.cast("B"), memoryview(_ZEROS)
        self._renewed()
        with self._lock:
            for start in range(0, len(target), len(piece)):
                part = target[start:start + len(piece)]
                self._stream.update_into(piece[:len(part)], part)

    def words(self, count: int) -> np.ndarray:
        """`count` uniform 64-bit words."""
        return np.frombuffer(self._bytes(8 * count), np.uint64)

    def uniform(self, size: Size) -> np.ndarray:
        """Uniform float64 in the open interval (0, 1): odd multiples of 2**-53, each exactly representable."""
        words = self.words(int(np.prod(size)))
        return (((words >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0 ** -52).reshape(size)

    def normal(self, size: Size) -> np.ndarray:
        """Standard normal float64, by inversion."""
        return ndtri(self.uniform(size))

    def laplace(self, size: Size) -> np.ndarray:
        """Laplace float64 of scale 1, by inversion."""
        centred = self.uniform(size) - 0.5
        return -np.sign(centred) * np.log1p(-2 * np.abs(centred))

    def integers(self, high: int, size: Size) -> np.ndarray:
        """Uniform int64 in [0, high), without modulo bias."""
        if not 0 < high < 2 ** 63:
            raise ValueError(f"high must be from 1 to 2**63 - 1, but got {high}.")
        limit = np.uint64((2 ** 64 // high * high) - 1)
        words = self.words(int(np.prod(size))).copy()
        while (rejected := words > limit).any():
            words[rejected] = self.words(int(rejected.sum()))
        return (words % np.uint64(high)).astype(np.int64).reshape(size)

    def integer(self, high: int) -> int:
        """One uniform integer in [0, high), exactly, for a `high` of any size."""
        if high < 1:
            raise ValueError(f"high must be at least 1, but got {high}.")
        bits = (high - 1).bit_length()
        size = (bits + 7) // 8
        while True:
            drawn = int.from_bytes(self._bytes(size), "big") >> (8 * size - bits)
            if drawn < high:
                return drawn

    def bernoulli(self, numerator: int, denominator: int) -> bool:
        """True with probability numerator / denominator, exactly: integers only.

        Args:
            numerator (int): From 0 to `denominator`.
            denominator (int): At least 1.
        """
        if not 0 <= numerator <= denominator:
            raise ValueError(f"numerator must be from 0 to the denominator {denominator}, but got {numerator}.")
        return self.integer(denominator) < numerator

    def permutation(self, count: int) -> np.ndarray:
        """A uniformly random order of range(count): that of distinct random words."""
        while True:
            words = self.words(count)
            order = np.argsort(words, kind="stable")
            ordered = words[order]
            if not (ordered[1:] == ordered[:-1]).any():  # equal words would keep the order of their positions
                return order
