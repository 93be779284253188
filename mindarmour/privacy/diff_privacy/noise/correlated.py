"""Noise that cancels: each step's noise takes back a part of what earlier steps added.

The noise of a run is C^-1 Z for a strategy C (`accounting.strategies`) and independent normals Z: the same as one
release of C G + Z. Here the rows of C^-1 Z are made one after the other from a few buffers. The buffers are secrets:
float32 arrays on the host, never Parameters, never in a checkpoint, a copy or a forked process. Whatever breaks the
sequence begins a new stream, and the ledger adds up the squares of all streams.

References:
    Kairouz et al. 2021, "Practical and private (deep) learning without sampling or shuffling". McMahan et al. 2024,
    "A hassle-free algorithm for private learning in practice" (recursion of the buffered strategy).
"""
from __future__ import annotations

import math
import os
from typing import Any, Optional

import numpy as np

from mindarmour.privacy.accounting.correlated import CorrelatedEvent
from mindarmour.privacy.accounting.events import Event, StepEvent
from mindarmour.privacy.accounting.strategies import Buffered, InverseToeplitz, Strategy, Toeplitz
from mindarmour.privacy.diff_privacy.noise.mechanisms import NoiseGaussianRandom
from mindarmour.privacy.diff_privacy.noise.source import NoiseSource, Shapes
from mindarmour.utils import _validate


class _Ring:
    """The last few float32 vectors, the newest first in `weighted`."""

    def __init__(self, weights: np.ndarray, size: int) -> None:
        self._weights = np.asarray(weights, np.float32)
        self._rows = np.zeros((len(self._weights), size), np.float32)
        self._newest = 0

    def weighted(self) -> np.ndarray:
        """Weighted sum of the vectors."""
        return np.dot(np.roll(self._weights, self._newest), self._rows)

    def push(self, vector: np.ndarray) -> None:
        """Forget the oldest vector for this one."""
        if len(self._rows):
            self._newest = (self._newest - 1) % len(self._rows)
            self._rows[self._newest] = vector


class _Banded:
    """x_t = (z_t - sum_j c_j x_(t-j)) / c_0."""

    def __init__(self, strategy: Toeplitz, size: int) -> None:
        first, *others = strategy.coefficients
        self._scale = np.float32(1 / first)
        self._past = _Ring(np.array(others) / first, size)

    def __call__(self, z: np.ndarray) -> np.ndarray:
        x = z * self._scale - self._past.weighted()
        self._past.push(x)
        return x


class _Mixed:
    """x_t = sum_j d_j z_(t-j)."""

    def __init__(self, strategy: InverseToeplitz, size: int) -> None:
        first, *others = strategy.coefficients
        self._scale = np.float32(first)
        self._past = _Ring(np.array(others), size)

    def __call__(self, z: np.ndarray) -> np.ndarray:
        x = z * self._scale + self._past.weighted()
        self._past.push(z)
        return x


class _Buffers:
    """x_t = z_t - sum_i scale_i s_i, then s_i <- decay_i s_i + x_t."""

    def __init__(self, strategy: Buffered, size: int) -> None:
        self._scale = np.asarray(strategy.scale, np.float32)
        self._decay = np.asarray(strategy.decay, np.float32)[:, None]
        self._state = np.zeros((len(self._scale), size), np.float32)

    def __call__(self, z: np.ndarray) -> np.ndarray:
        x = z - np.dot(self._scale, self._state)
        self._state *= self._decay
        self._state += x
        return x


_RECURSIONS = {Toeplitz: _Banded, InverseToeplitz: _Mixed, Buffered: _Buffers}


class CorrelatedNoise:
    """Rows of C^-1 Z, one a step.

    Args:
        source (NoiseSource): Where Z comes from.
        strategy (Strategy): C.

    Guarantee:
        Between two calls of `begin` with the same owner and consecutive steps, one stream. A draw that failed, a step
        that others recorded in between, another owner, a forked process and a copy begin another one, whose number is
        the step it begins at. Under data parallelism each rank runs the recursion on its own share.
    """

    def __init__(self, source: NoiseSource, strategy: Strategy) -> None:
        self._source = source
        self._strategy = strategy
        self._sequence: tuple = ()
        self._recursions: dict[int, list] = {}
        self.stream = 0

    def __reduce__(self) -> tuple:
        return type(self), (self._source, self._strategy)  # a copy has no past

    @property
    def kind(self) -> str:
        """'secure' or 'seeded', as the ledger notes it."""
        return self._source.kind

    def begin(self, owner: object, step: int) -> None:
        """State who draws next, and for which step; a new stream begins unless this continues the last draw."""
        if self._sequence[:2] != (os.getpid(), step) or self._sequence[2] is not owner:
            self._recursions = {}
            self.stream = step
        self._sequence = (os.getpid(), step, owner)

    def of_rank(self, rank: int) -> _OfRank:
        """The same stream on another rank's draws."""
        return _OfRank(self, self._source.of_rank(rank), rank)

    def normals(self, step: int, shapes: Shapes) -> list[np.ndarray]:
        """One float32 array per shape: this process's noise of the step that `begin` named."""
        return self.draw(self._source, 0, step, shapes)

    def draw(self, source: NoiseSource, rank: int, step: int, shapes: Shapes) -> list[np.ndarray]:
        """The same from a rank's own draws."""
        sizes = [math.prod(shape) for shape in shapes]
        made, recursion = self._recursions.setdefault(rank, [0, None])
        if (self._sequence[:1], self.stream + made) != ((os.getpid(),), step):
            raise RuntimeError(f"Correlated noise must be drawn step after step, as `begin` said, but step {step} was "
                               f"asked for after {made} steps of the stream that began at step {self.stream}.")
        if recursion is None:
            recursion = _RECURSIONS[type(self._strategy)](self._strategy, sum(sizes))
        z, = source.normals(step, [(sum(sizes),)])
        x = recursion(z)
        self._recursions[rank] = [made + 1, recursion]
        self._sequence = (os.getpid(), step + 1, self._sequence[2])
        return [part.reshape(shape) for part, shape in zip(np.split(x, np.cumsum(sizes)[:-1]), shapes)]


class _OfRank:
    """One rank's view of a stream."""

    def __init__(self, stream: CorrelatedNoise, source: NoiseSource, rank: int) -> None:
        self._stream, self._source, self._rank = stream, source, rank

    def normals(self, step: int, shapes: Shapes) -> list[np.ndarray]:
        """See `CorrelatedNoise.normals`."""
        return self._stream.draw(self._source, self._rank, step, shapes)


class NoiseCorrelatedRandom(NoiseGaussianRandom):
    """Gaussian noise that is correlated between steps, for `DPModel` and `PrivateLoop`.

    At equal epsilon the noise in the iterates is a fraction of that of independent noise, where sampling amplifies
    little or nothing. See `recommended_strategy`.

    Args:
        norm_bound (float): Clipping bound C, > 0.
        initial_noise_multiplier (float): Standard deviation of the independent draws divided by the bound, > 0. It
            counts relative to the strategy's sensitivity: `DPModel.for_budget(strategy=...)` finds it.
        seed (int): See `NoiseMechanismsFactory.create`.
        strategy (Strategy): From `mindarmour.privacy.accounting.strategies`.

    Raises:
        TypeError: `strategy` is none.

    Supported Platforms:
        ``Ascend`` ``GPU`` ``CPU``

    Examples:
        >>> from mindarmour.privacy.accounting.strategies import decaying
        >>> from mindarmour.privacy.diff_privacy import NoiseMechanismsFactory
        >>> noise_mech = NoiseMechanismsFactory.create('Correlated', norm_bound=1.0, initial_noise_multiplier=8.0,
        ...                                            strategy=decaying(0.9))
    """

    def __init__(self, norm_bound: float = 1.0, initial_noise_multiplier: float = 1.0, seed: int = 0,
                 strategy: Optional[Strategy] = None) -> None:
        super().__init__(norm_bound, initial_noise_multiplier, seed)
        self.strategy = _validate.instance("strategy", strategy, tuple(_RECURSIONS), "Strategy")
        self.source = CorrelatedNoise(self.source, strategy)

    def begin(self, owner: object, step: int) -> None:
        """See `CorrelatedNoise.begin`."""
        self.source.begin(owner, step)

    def event_of(self, step: StepEvent) -> Event:
        """The event of a step whose noise continues the stream."""
        return CorrelatedEvent(step.sampling, step.noise_multiplier, self.strategy, self.source.stream,
                               step.examples_per_unit, step.noise_source)

    def __call__(self, gradients: Any) -> Any:
        raise RuntimeError("Correlated noise belongs to the steps of a run: train with DPModel or PrivateLoop. For "
                           "single draws use 'Gaussian'.")
