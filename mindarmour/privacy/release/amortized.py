"""The sanitizer of the first DP-SGD system: clip, add noise for a budget per step, tell an accountant."""
from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Optional, Union

import mindspore as ms
import numpy as np
from mindspore import Tensor

from mindarmour.privacy.accounting import Ledger, Sampling, StepEvent
from mindarmour.privacy.accounting.curves.gaussian import epsilon_of_gaussian
from mindarmour.privacy.accounting.events import ADD_OR_REMOVE, FULL, POISSON, ZERO_OUT
from mindarmour.privacy.accounting.legacy import AmortizedAccountant, EpsDelta, GaussianMomentsAccountant
from mindarmour.privacy.diff_privacy import ClippedSum
from mindarmour.privacy.diff_privacy.parallel.ranks import refuse_several_ranks
from mindarmour.privacy.errors import PrivacyWarning
from mindarmour.privacy.release.inputs import as_floats, clipped_records
from mindarmour.privacy.release.rounding import GAUSSIAN_BITS, grid_step, with_gaussian_noise
from mindarmour.utils import _validate
from mindarmour.utils.parameters import values_of
from mindarmour.utils.secure_random import SecureStream


class AmortizedGaussianSanitizer:
    """Clips each example's gradient and adds Gaussian noise for a given (eps, delta) of the step.

    Args:
        accountant (Union[AmortizedAccountant, GaussianMomentsAccountant]): Told about every step what follows from its
            noise: the larger of `eps` and the exact epsilon of the noise at `delta`, and the sampled part of the data
            only if `sampling` is Poisson; all of the data otherwise.
        eps (float, optional): Epsilon of one step on the whole batch, above 0. None: 1.0, or with `sigma` what that
            gives.
        delta (float): Delta of one step, in (0, 1).
        norm_bound (float): L2 norm to which each example's gradient is clipped, above 0.
        sampling (Sampling, optional): How batches are drawn; None claims no amplification.
        sigma (float, optional): Noise multiplier to use instead of sqrt(2 ln(1.25 / delta)) / eps; at least what `eps`
            needs, if that is given as well.
        ledger (Ledger, optional): Where steps are recorded; None makes a new one.

    Guarantee:
        That of the recorded `StepEvent`s: ask `privacy_spent(sanitizer.ledger.entries, delta)`. The sum is clipped in
        float64 and gets discrete Gaussian noise on a grid of 2**-24 of the noise. The stated (eps, delta) of a step
        holds for eps up to 1 only, where the classic formula was proven; above that a PrivacyWarning says so. What
        `AmortizedAccountant` adds up is an estimate.

    Raises:
        TypeError: An argument of the wrong type.
        ValueError: A number outside its range, another bound in the ClippedSum, `sigma` too small for `eps`, an
            accountant of another number of examples than `sampling`.

    References:
        Abadi et al. 2016, "Deep learning with differential privacy", and the accompanying code.
        Dwork, Roth 2014, "The algorithmic foundations of differential privacy", theorem A.1 (eps below 1).

    Examples:
        >>> import numpy as np
        >>> from mindarmour.privacy.accounting.legacy import AmortizedAccountant
        >>> from mindarmour.privacy.release import AmortizedGaussianSanitizer
        >>> accountant = AmortizedAccountant(total_examples=4000)
        >>> sanitizer = AmortizedGaussianSanitizer(accountant, eps=1.0, delta=1e-7, norm_bound=4.0)
        >>> round(sanitizer.sigma, 3)
        5.717
        >>> per_example = (np.ones((8, 3, 2), np.float32), np.ones((8, 2), np.float32))
        >>> [tensor.shape for tensor in sanitizer.sanitize(per_example)]
        [(3, 2), (2,)]
    """

    def __init__(self, accountant: Union[AmortizedAccountant, GaussianMomentsAccountant], eps: Optional[float] = None,
                 delta: float = 1e-7, norm_bound: float = 1.0, sampling: Optional[Sampling] = None,
                 sigma: Optional[float] = None, ledger: Optional[Ledger] = None) -> None:
        refuse_several_ranks(type(self).__name__)
        self._accountant = _validate.instance("accountant", accountant,
                                              (AmortizedAccountant, GaussianMomentsAccountant),
                                              "AmortizedAccountant or GaussianMomentsAccountant")
        self._delta = _validate.real("delta", delta, low=0, high=1)
        self.norm_bound = _validate.real("norm_bound", norm_bound, low=0)
        self._sampling = None if sampling is None else _validate.instance("sampling", sampling, Sampling)
        _refuse_other_total(accountant, sampling)
        self.sigma = _multiplier(eps, self._delta, sigma)
        grid_step(self.sigma * self.norm_bound, GAUSSIAN_BITS)  # refuses noise that no grid can carry
        self._stated = 0.0 if eps is None and sigma is not None else float(1.0 if eps is None else eps)
        self.ledger = Ledger() if ledger is None else _validate.instance("ledger", ledger, Ledger)
        if self._stated > 1 and sigma is None:
            warnings.warn(f"eps = {eps} is above 1, where the formula for its noise was never proven: the step may "
                          "cost more than stated. The ledger holds the noise itself; read privacy_spent.",
                          PrivacyWarning, stacklevel=2)

    def sanitize(self, gradients: Union[Sequence, ClippedSum]) -> tuple[Tensor, ...]:
        """Noised sum of the clipped gradients; the accountant and the ledger are told.

        Args:
            gradients (Union[tuple, ClippedSum]): Per-example gradients, one array or Tensor [B, ...] per parameter
                with a common B, or what `clipped_gradient_fn` returned for one unit per example. An example with a
                NaN or an infinity contributes nothing.

        Returns:
            tuple[Tensor], float32, one sum per parameter. Divide by the expected batch size, a public number.
        """
        total, rows = self._total_of(gradients) if isinstance(gradients, ClippedSum) else self._clipped_sum(gradients)
        sampling = self._sampling or Sampling(FULL, rows, rows, ZERO_OUT)
        event = StepEvent(sampling, self.sigma)
        flat = np.concatenate([array.ravel() for array in total])
        multiplier = event.effective_multiplier
        noised = with_gaussian_noise(flat, self.sigma * self.norm_bound / multiplier, multiplier, flat.size,
                                     SecureStream())
        self._tell(event)
        parts = np.split(noised, np.cumsum([array.size for array in total])[:-1])
        return tuple(Tensor(part.reshape(array.shape), ms.float32) for part, array in zip(parts, total))

    def _tell(self, event: StepEvent) -> None:
        """Accountant and ledger learn the same step; the accountant first, because it may refuse."""
        amplified = event.sampling.kind == POISSON and event.sampling.relation in (ADD_OR_REMOVE, ZERO_OUT)
        examples = event.sampling.batch_size if amplified else self._accountant.total_examples
        epsilon = max(self._stated, epsilon_of_gaussian(1 / event.effective_multiplier, self._delta))
        self._accountant.accumulate_privacy_spending(EpsDelta(epsilon, self._delta), event.effective_multiplier,
                                                     examples)
        self.ledger.record(event)

    def _total_of(self, clipped: ClippedSum) -> tuple[list[np.ndarray], int]:
        if clipped.norm_bound != self.norm_bound or clipped.examples_per_unit != 1:
            raise ValueError(f"The clipped sum must have one unit per example and norm_bound = {self.norm_bound}, but "
                             f"has {clipped.examples_per_unit} examples per unit and {clipped.norm_bound}.")
        return [tensor.asnumpy() for tensor in clipped.total], clipped.units

    def _clipped_sum(self, gradients: Sequence) -> tuple[list[np.ndarray], int]:
        _validate.instance("gradients", gradients, (tuple, list), "tuple or ClippedSum")
        arrays = [as_floats("gradients", values_of(g) if isinstance(g, Tensor) else g) for g in gradients]
        rows = {len(array) if array.ndim else 0 for array in arrays}
        if len(rows) != 1 or rows == {0}:
            raise ValueError(f"gradients must be arrays [B, ...] with a common B of at least 1, but have shapes "
                             f"{[array.shape for array in arrays]}.")
        flat = np.concatenate([array.reshape(len(array), -1) for array in arrays], axis=1)
        real = np.isfinite(flat).all(axis=1)
        total = clipped_records(flat[real], self.norm_bound, 2).sum(axis=0)
        parts = np.split(total, np.cumsum([array[0].size for array in arrays])[:-1])
        return [part.reshape(array.shape[1:]) for part, array in zip(parts, arrays)], rows.pop()


def _multiplier(eps: Optional[float], delta: float, sigma: Optional[float]) -> float:
    """The noise multiplier of a step; a given one must keep a given eps."""
    if sigma is None:
        return math.sqrt(2 * math.log(1.25 / delta)) / _validate.real("eps", 1.0 if eps is None else eps, low=0)
    sigma = _validate.real("sigma", sigma, low=0)
    if eps is not None and (exact := epsilon_of_gaussian(1 / sigma, delta)) > _validate.real("eps", eps, low=0):
        raise ValueError(f"sigma must give a step at most eps = {eps} at delta = {delta}, but sigma = {sigma} gives "
                         f"{exact:.6g}. Leave out one of them.")
    return sigma


def _refuse_other_total(accountant: Union[AmortizedAccountant, GaussianMomentsAccountant],
                        sampling: Optional[Sampling]) -> None:
    if sampling is not None and sampling.num_examples != accountant.total_examples:
        raise ValueError(f"total_examples of the accountant and num_examples of sampling must agree, but are "
                         f"{accountant.total_examples} and {sampling.num_examples}.")
