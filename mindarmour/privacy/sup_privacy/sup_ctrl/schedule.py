"""How sparse the weights are at each step. NumPy only."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Union

import numpy as np

from mindarmour.utils._validate import integer, real


@dataclass(frozen=True)
class SuppressSchedule:
    """The documented schedule: s_t = s_end + (s_start - s_end) * (1 - (t - t0) / T) ** 3.

    Steps count from 1 over the whole run. t0 is the first step of `start_epoch` and T the steps from there to
    the end of `end_epoch`. Masks are chosen at t0, then every ceil(T / mask_times) steps, and for the last
    time at step `batch_num - 2` of `end_epoch` (its first step if it has fewer than three), where the target
    is `sparse_end` itself.

    Args:
        end_epoch (int): Epoch in which the target is reached, counted from 1.
        batch_num (int): Steps of an epoch.
        start_epoch (int): First epoch with suppression, counted from 1.
        mask_times (int): How often masks are chosen; more often than every step is not possible.
        sparse_end (float): Fraction of suppressed weights at the end, in (0, 1).
        sparse_start (float): Fraction at t0, in [0, sparse_end).

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An argument is out of its range, or `start_epoch` lies behind `end_epoch`.

    Examples:
        >>> schedule = SuppressSchedule(10, 1875, 3, 1000, 0.95, 0.0)
        >>> schedule.stride, round(float(schedule.sparsity(3751 + 7500)), 5)
        (15, 0.83125)
    """

    end_epoch: int
    batch_num: int
    start_epoch: int
    mask_times: int
    sparse_end: float
    sparse_start: float = 0.0

    def __post_init__(self):
        for name in ("end_epoch", "batch_num", "start_epoch", "mask_times"):
            integer(name, getattr(self, name), low=1, bool_error=ValueError)
        if self.start_epoch > self.end_epoch:
            raise ValueError(f"start_epoch must not lie behind end_epoch, but got start_epoch={self.start_epoch} "
                             f"and end_epoch={self.end_epoch}. Start earlier or end later.")
        real("sparse_end", self.sparse_end, low=0, high=1, strict_float=True)
        real("sparse_start", self.sparse_start, low=0, high=self.sparse_end, closed="low")

    @property
    def first_step(self) -> int:
        """t0, the first step with a mask."""
        return (self.start_epoch - 1) * self.batch_num + 1

    @property
    def last_step(self) -> int:
        """The step whose mask is the last to be chosen."""
        return (self.end_epoch - 1) * self.batch_num + max(1, self.batch_num - 2)

    @property
    def total(self) -> int:
        """T, in steps."""
        return (self.end_epoch - self.start_epoch + 1) * self.batch_num

    @property
    def stride(self) -> int:
        """Whole steps from one choice to the next."""
        return -(-self.total // self.mask_times)

    def sparsity(self, step: Union[int, np.ndarray]) -> np.ndarray:
        """Fraction of the weights to suppress at `step` (a number or an array of steps); 0 before t0."""
        step = np.asarray(step)
        rest = np.clip(1 - (step - self.first_step) / self.total, 0, 1)
        value = self.sparse_end + (self.sparse_start - self.sparse_end) * rest ** 3
        value = np.where(step >= self.last_step, self.sparse_end, value)
        return np.where(step < self.first_step, 0.0, value)

    def update_steps(self) -> np.ndarray:
        """All steps at which masks are chosen, ascending."""
        return np.append(np.arange(self.first_step, self.last_step, self.stride), self.last_step)

    def updates_until(self, step: int) -> int:
        """How many choices fall on the steps 1 to `step`."""
        if step >= self.last_step:
            return 1 - (self.first_step - self.last_step) // self.stride
        return 0 if step < self.first_step else (step - self.first_step) // self.stride + 1
