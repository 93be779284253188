"""Where noise comes from: the host, never MindSpore's own generators.

MindSpore's normal generator on a CPU is a 31-bit linear congruential stream: four values of one tensor reveal the
rest, and `mindspore.set_seed` replays it. See `mindarmour.utils.secure_random` for the stream used instead.
"""
from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from mindarmour.privacy.diff_privacy.noise.normals import standard_normals
from mindarmour.utils.secure_random import SecureStream, derive_key

Shapes = Sequence["tuple[int, ...]"]


class NoiseSource:
    """Standard normal noise for the parameters of one step.

    Args:
        seed (int): 0 draws from operating-system entropy: not reproducible, not predictable, and different in every
            process, forked ones too. Any other seed gives a counter-based stream keyed by seed, purpose, rank and
            step, for tests and papers: whoever knows the seed can subtract the noise, and two processes that train
            the same step with it draw the same noise; so the ledger marks such steps 'seeded'.
        purpose (str): What the noise is for: sources of equal seeds and different purposes are independent.
        rank (int): Rank of this process. Equal seeds never give two ranks the same noise.
    """

    def __init__(self, seed: int = 0, purpose: str = "gradient", rank: int = 0) -> None:
        self._key_parts = (purpose, seed, rank)
        self._stream = SecureStream() if seed == 0 else None
        self._others: dict[int, NoiseSource] = {}

    def of_rank(self, rank: int) -> NoiseSource:
        """The source of the same seed and purpose for another rank: independent of this one."""
        purpose, seed, own = self._key_parts
        if rank == own:
            return self
        return self._others.setdefault(rank, NoiseSource(seed, purpose, rank))

    @property
    def kind(self) -> str:
        """'secure' or 'seeded', as the ledger notes it."""
        return "seeded" if self._stream is None else "secure"

    def normals(self, step: int, shapes: Shapes) -> list[np.ndarray]:
        """One float32 array of standard normals per shape; no draw is ever repeated between steps or shapes."""
        sizes = [math.prod(shape) for shape in shapes]
        parts = np.split(self._draw(step, sum(sizes)), np.cumsum(sizes)[:-1])
        return [part.reshape(shape) for part, shape in zip(parts, shapes)]

    def _draw(self, step: int, count: int) -> np.ndarray:
        return standard_normals(self._stream or SecureStream(derive_key(*self._key_parts, step)), count)
