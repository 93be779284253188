"""Random numbers that nobody can predict, drawn on the host from AES-256 in counter mode.

MindSpore's generators are no source of privacy noise: on a CPU the whole stream follows from four of its
values, and `mindspore.set_seed` replays it. Here the key comes from the operating system (or, for reproducible
runs, from a hash of a seed) and the numbers from the key stream.

Floating-point samples of continuous noise have finite resolution (Mironov 2012, "On significance of the least
significant bits for differential privacy"): uniform numbers carry 52 random bits, so normals reach 8.1 standard
deviations; an attacker who sees unrounded float64 releases is outside the guarantee.
"""
import hashlib
import os

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from scipy.special import ndtri

KEY_BYTES = 32


def derive_key(*parts):
    """A 32-byte key from a seed and whatever tells its uses apart (rank, step, parameter, ...)."""
    text = "/".join(str(part) for part in parts).encode()
    return hashlib.blake2b(text, digest_size=KEY_BYTES, person=b"mindarmour").digest()


class SecureStream:
    """Cryptographic random stream with the few distributions that privacy mechanisms need.

    Args:
        key (bytes, optional): 32 bytes. None takes fresh entropy from the operating system, the only choice that
            protects anybody; a given key makes the stream reproducible.

    Examples:
        >>> from mindarmour.utils.secure_random import SecureStream
        >>> SecureStream().normal((2, 3)).shape
        (2, 3)
    """

    def __init__(self, key=None):
        key = os.urandom(KEY_BYTES) if key is None else key
        if not isinstance(key, bytes) or len(key) != KEY_BYTES:
            raise ValueError(f"key must be {KEY_BYTES} bytes or None, but got {type(key).__name__}.")
        self._stream = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()

    def words(self, count):
        """`count` uniform 64-bit words."""
        return np.frombuffer(self._stream.update(bytes(8 * count)), np.uint64)

    def uniform(self, size):
        """Uniform float64 in the open interval (0, 1): odd multiples of 2**-53, each exactly representable."""
        words = self.words(int(np.prod(size)))
        return (((words >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0 ** -52).reshape(size)

    def normal(self, size):
        """Standard normal float64, by inversion."""
        return ndtri(self.uniform(size))

    def laplace(self, size):
        """Laplace float64 of scale 1, by inversion."""
        centred = self.uniform(size) - 0.5
        return -np.sign(centred) * np.log1p(-2 * np.abs(centred))

    def integers(self, high, size):
        """Uniform int64 in [0, high), without modulo bias."""
        if not 0 < high < 2 ** 63:
            raise ValueError(f"high must be from 1 to 2**63 - 1, but got {high}.")
        limit = np.uint64((2 ** 64 // high * high) - 1)
        words = self.words(int(np.prod(size))).copy()
        while (rejected := words > limit).any():
            words[rejected] = self.words(int(rejected.sum()))
        return (words % np.uint64(high)).astype(np.int64).reshape(size)

    def permutation(self, count):
        """A uniformly random order of range(count)."""
        return np.argsort(self.words(count), kind="stable")
