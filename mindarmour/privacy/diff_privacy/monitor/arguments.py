"""The monitors' arguments: checked alone, and against what a model really runs."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from mindarmour.privacy.accounting import PrivacySpent
from mindarmour.privacy.accounting.events import FULL, SHUFFLE
from mindarmour.privacy.diff_privacy.train.plan import Plan
from mindarmour.utils import _validate

DECAY_MODES = (None, "Step", "Time", "Exp")


class _DefaultText(str):
    """A default value that can be told from the same text given by the user."""


class _DefaultNumber(float):
    """A default value that can be told from the same number given by the user."""


class _DefaultCount(int):
    """A default value that can be told from the same number given by the user."""


DEFAULT_INTERVAL = _DefaultCount(50)
DEFAULT_MULTIPLIER = _DefaultNumber(1.5)
DEFAULT_MODE = _DefaultText("Time")
DEFAULT_RATE = _DefaultNumber(6e-4)


def _given(value: object) -> bool:
    return not isinstance(value, (_DefaultText, _DefaultNumber))


@dataclass(frozen=True)
class MonitorArguments:
    """What a monitor was told about the run. See `RDPMonitor` for the meaning of each."""

    num_samples: int
    batch_size: int
    initial_noise_multiplier: float
    noise_decay_mode: Optional[str]
    noise_decay_rate: float
    per_print_times: int
    dataset_sink_mode: bool

    def __post_init__(self) -> None:
        for name in ("num_samples", "batch_size", "per_print_times"):
            _validate.integer(name, getattr(self, name), low=1, bool_error=ValueError)
        if self.batch_size >= self.num_samples:
            raise ValueError(f"batch_size must be below num_samples = {self.num_samples}, but got {self.batch_size}.")
        _validate.real("initial_noise_multiplier", self.initial_noise_multiplier, low=0)
        _validate.choice("noise_decay_mode", self.noise_decay_mode, DECAY_MODES)
        if self.noise_decay_mode is not None:
            _validate.real("noise_decay_rate", self.noise_decay_rate, low=0, high=1, strict_float=True)
        _validate.boolean("dataset_sink_mode", self.dataset_sink_mode)

    def check_against(self, plan: Plan) -> None:
        """Raise ValueError where a given argument contradicts what the model runs; defaults contradict nothing."""
        mechanism = plan.noise_mech
        self._agree("initial_noise_multiplier", mechanism.initial_noise_multiplier)
        self._agree("noise_decay_mode", mechanism.decay_policy)
        if mechanism.decay_policy is not None:
            self._agree("noise_decay_rate", mechanism.noise_decay_rate)
        sampling = plan.sampling
        if sampling is None or sampling.kind == FULL:
            return
        self._agree("batch_size", sampling.batch_size)
        # a partition into whole batches drops up to one batch of records; the user counts them too
        dropped = self.num_samples - sampling.num_examples
        whole = sampling.kind == SHUFFLE and sampling.num_examples % sampling.batch_size == 0
        if not 0 <= dropped < (sampling.batch_size if whole else 1):
            self._agree("num_samples", sampling.num_examples)

    def _agree(self, name: str, actual: object) -> None:
        told = getattr(self, name)
        if _given(told) and told != actual:
            raise ValueError(f"{name} of the monitor must agree with what the model runs, but the monitor was told "
                             f"{told!r} and the model runs {actual!r}. Correct it, or leave it out where it has a "
                             f"default.")


@dataclass(frozen=True)
class Targets:
    """What a monitor computes, and its budget: epsilon at a target delta, or delta at a target epsilon.

    Args:
        delta (float, optional): Target delta.
        epsilon (float, optional): Target epsilon. Exactly one target is None.
        max_epsilon (float, optional): Budget that belongs to the target delta.
        max_delta (float, optional): Budget that belongs to the target epsilon.
        stop (bool): Stop before the step that would pass the budget.
    """

    delta: Optional[float]
    epsilon: Optional[float]
    max_epsilon: Optional[float]
    max_delta: Optional[float]
    stop: bool

    def __post_init__(self) -> None:
        for name, value in (("max_eps", self.max_epsilon), ("target_eps", self.epsilon)):
            if value is not None:
                _validate.real(name, value, low=0)
        for name, value in (("target_delta", self.delta), ("max_delta", self.max_delta)):
            if value is not None:
                _validate.real(name, value, low=0, high=1)
        if (self.delta is None) == (self.epsilon is None):
            raise ValueError(f"Exactly one of target_delta and target_eps must be None, but got target_delta = "
                             f"{self.delta} and target_eps = {self.epsilon}.")
        _validate.boolean("stop_at_budget", self.stop)
        if self.stop and self.limit is None:
            raise ValueError("stop_at_budget needs a budget: max_eps with target_delta, max_delta with target_eps.")

    @property
    def name(self) -> str:
        """What is computed, as printed."""
        return "eps" if self.delta is not None else "delta"

    @property
    def limit(self) -> Optional[float]:
        """The budget on what is computed, or None."""
        return self.max_epsilon if self.delta is not None else self.max_delta

    def value_of(self, spent: PrivacySpent) -> float:
        """The computed value of a `PrivacySpent`."""
        return spent.epsilon if self.delta is not None else spent.delta

    def kept_by(self, spent: PrivacySpent) -> bool:
        """Whether a `PrivacySpent` is inside the budget; without one everything is."""
        return self.limit is None or self.value_of(spent) <= self.limit

    def require_limit(self, purpose: str) -> None:
        """Raise ValueError without a budget."""
        if self.limit is None:
            raise ValueError(f"max_{self.name} must be given to {purpose}, but got None.")
