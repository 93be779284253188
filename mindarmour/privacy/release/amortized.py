"""The sanitizer of the first DP-SGD system: clip, add noise for a budget per step, tell an accountant."""
import math
import warnings

import mindspore as ms
import numpy as np
from mindspore import Tensor

from mindarmour.privacy.accounting import Ledger, Sampling, StepEvent
from mindarmour.privacy.accounting.events import FULL, ZERO_OUT
from mindarmour.privacy.accounting.legacy import EpsDelta
from mindarmour.privacy.diff_privacy import ClippedSum
from mindarmour.privacy.diff_privacy.noise.source import NoiseSource
from mindarmour.privacy.diff_privacy.parallel.ranks import refuse_several_ranks
from mindarmour.privacy.errors import PrivacyWarning
from mindarmour.utils import _validate


class AmortizedGaussianSanitizer:
    """Clips each example's gradient and adds Gaussian noise for a given (eps, delta) of the step.

    Args:
        accountant (Union[AmortizedAccountant, GaussianMomentsAccountant]): Told about every step.
        eps (float): Epsilon of one step on the whole batch, above 0.
        delta (float): Delta of one step, in (0, 1).
        norm_bound (float): L2 norm to which each example's gradient is clipped, above 0.
        sampling (Sampling, optional): How batches are drawn; None claims no amplification in the ledger.
        sigma (float, optional): Noise multiplier to use instead of sqrt(2 ln(1.25 / delta)) / eps.
        ledger (Ledger, optional): Where steps are recorded; None makes a new one.

    Guarantee:
        That of the recorded `StepEvent`s: ask `privacy_spent(sanitizer.ledger.entries, delta)`. The stated
        (eps, delta) of a step holds for eps up to 1 only, where the classic formula was proven; above that a
        PrivacyWarning says so. What `AmortizedAccountant` adds up is an estimate.

    Raises:
        TypeError: An argument of the wrong type.
        ValueError: A number outside its range, another bound in the ClippedSum.

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

    def __init__(self, accountant, eps=1.0, delta=1e-7, norm_bound=1.0, sampling=None, sigma=None, ledger=None):
        refuse_several_ranks(type(self).__name__)
        if not callable(getattr(accountant, "accumulate_privacy_spending", None)):
            raise TypeError(f"accountant must be an AmortizedAccountant or a GaussianMomentsAccountant, but got "
                            f"{type(accountant).__name__}.")
        self._accountant = accountant
        self._budget = EpsDelta(_validate.real("eps", eps, low=0), _validate.real("delta", delta, low=0, high=1))
        self.norm_bound = _validate.real("norm_bound", norm_bound, low=0)
        self._sampling = None if sampling is None else _validate.instance("sampling", sampling, Sampling)
        classic = math.sqrt(2 * math.log(1.25 / self._budget.delta)) / self._budget.eps
        self.sigma = classic if sigma is None else _validate.real("sigma", sigma, low=0)
        self.ledger = Ledger() if ledger is None else _validate.instance("ledger", ledger, Ledger)
        self._source = NoiseSource()
        if self._budget.eps > 1 and sigma is None:
            warnings.warn(f"eps = {eps} is above 1, where the formula for its noise was never proven: the step may "
                          "cost more than stated. The ledger holds the noise itself; read privacy_spent.",
                          PrivacyWarning, stacklevel=2)

    def sanitize(self, gradients):
        """Noised sum of the clipped gradients; the accountant and the ledger are told.

        Args:
            gradients (Union[tuple, ClippedSum]): Per-example gradients, one array or Tensor [B, ...] per parameter
                with a common B, or what `clipped_gradient_fn` returned for one unit per example.

        Returns:
            tuple[Tensor], float32, one sum per parameter. Divide by the expected batch size, a public number.
        """
        if isinstance(gradients, ClippedSum):
            total, rows = self._total_of(gradients)
        else:
            total, rows = self._clipped_sum(gradients)
        normals = self._source.normals(self.ledger.steps, [array.shape for array in total])
        sampling = self._sampling or Sampling(FULL, rows, rows, ZERO_OUT)
        self._accountant.accumulate_privacy_spending(self._budget, self.sigma, sampling.batch_size)
        self.ledger.record(StepEvent(sampling, self.sigma, noise_source=self._source.kind))
        stddev = np.float32(self.sigma * self.norm_bound)
        return tuple(Tensor(array + normal * stddev, ms.float32) for array, normal in zip(total, normals))

    def _total_of(self, clipped):
        if clipped.norm_bound != self.norm_bound or clipped.examples_per_unit != 1:
            raise ValueError(f"The clipped sum must have one unit per example and norm_bound = {self.norm_bound}, but "
                             f"has {clipped.examples_per_unit} examples per unit and {clipped.norm_bound}.")
        return [tensor.asnumpy() for tensor in clipped.total], clipped.units

    def _clipped_sum(self, gradients):
        _validate.instance("gradients", gradients, (tuple, list), "tuple or ClippedSum")
        arrays = [np.asarray(g.asnumpy() if isinstance(g, Tensor) else g, np.float32) for g in gradients]
        rows = {len(array) if array.ndim else 0 for array in arrays}
        if len(rows) != 1 or rows == {0}:
            raise ValueError(f"gradients must be arrays [B, ...] with a common B of at least 1, but have shapes "
                             f"{[array.shape for array in arrays]}.")
        flat = [array.reshape(len(array), -1).astype(np.float64) for array in arrays]
        norms = np.sqrt(sum(np.square(array).sum(axis=1) for array in flat))
        real = np.isfinite(norms)
        factors = np.minimum(1.0, self.norm_bound / np.maximum(norms[real], 1e-300))
        sums = [(factors @ array[real]).astype(np.float32).reshape(original.shape[1:])
                for array, original in zip(flat, arrays)]
        return sums, rows.pop()
