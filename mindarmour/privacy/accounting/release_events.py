"""What happened when something other than a training step was released.

A `ReleaseEvent` states the (epsilon, delta) guarantee of one mechanism, where a `StepEvent` states the noise
of a Gaussian one. Both stand in the same ledger and compose there.

Any (epsilon, delta) mechanism is a post-processing of one reference pair: with probability delta it says
everything, otherwise it is randomised response with log-odds epsilon. Composing the reference pair therefore
bounds the composition of the mechanisms, whatever they are.

References:
    Kairouz, Oh, Viswanath 2015, "The composition theorem for differential privacy", theorem 3.4 (the
    reference pair).
    Mironov 2017, "Renyi differential privacy", proposition 5 (the Renyi divergence of randomised response).
"""
import math
from dataclasses import dataclass

import numpy as np

from mindarmour.privacy.accounting.events import FULL, REPLACE_ONE, Sampling

# A release of one record (local differential privacy) or of one client's whole update: nothing is sampled,
# and the neighbour is any other record or update.
ONE_RECORD = Sampling(FULL, 1, 1, REPLACE_ONE)


@dataclass(frozen=True)
class ReleaseEvent:
    """One release with a proven (epsilon, delta) guarantee.

    Args:
        epsilon (float): Of this one release. infinity for a release without any guarantee.
        delta (float): 0 for pure differential privacy.
        mechanism (str): What was run, in words.
        unit (str): What the guarantee hides, in words.
        sampling (Sampling): Who took part, and under which neighbouring relation the guarantee holds.
        noise_source (str): 'secure' or 'seeded', as for a StepEvent.
    """

    epsilon: float
    delta: float = 0.0
    mechanism: str = ""
    unit: str = "record"
    sampling: Sampling = ONE_RECORD
    noise_source: str = "secure"

    def __post_init__(self):
        if not self.epsilon >= 0:
            raise ValueError(f"epsilon must be at least 0, but got {self.epsilon!r}.")
        if self.sampling.kind != FULL or self.sampling.relation != REPLACE_ONE:
            raise ValueError(f"sampling must be of kind 'full' under replace-one, the relation that every ledger "
                             f"can be stated under, but got {self.sampling}.")
        if not 0 <= self.delta < 1:
            raise ValueError(f"delta must be in [0, 1), but got {self.delta!r}.")

    def rdp(self, orders):
        """Renyi divergence of the randomised response that stands for the mechanism, once delta is set aside.

        Args:
            orders (array_like): Renyi orders above 1.

        Returns:
            numpy.ndarray, one divergence per order, at most min(epsilon, order * epsilon ** 2 / 2).
        """
        orders = np.asarray(orders, np.float64)
        if math.isinf(self.epsilon):
            return np.full_like(orders, math.inf)
        log_yes, log_no = -np.logaddexp(0, -self.epsilon), -np.logaddexp(0, self.epsilon)
        same = orders * log_yes + (1 - orders) * log_no
        other = orders * log_no + (1 - orders) * log_yes
        return np.maximum(np.logaddexp(same, other), 0) / (orders - 1)


def basic_composition(entries):
    """Sum of what the releases of a ledger state: sound for any mechanisms, chosen adaptively.

    Args:
        entries (iterable): Ledger entries whose events are all ReleaseEvents.

    Returns:
        tuple, (epsilon, delta).

    Raises:
        TypeError: An entry is a training step, whose cost is no (epsilon, delta) pair.
    """
    epsilon = delta = 0.0
    for entry in entries:
        if not isinstance(entry.event, ReleaseEvent):
            raise TypeError("basic_composition adds releases only, but the ledger also holds training steps; "
                            "use privacy_spent for both.")
        epsilon += entry.steps * entry.event.epsilon
        delta += entry.steps * entry.event.delta
    return epsilon, delta
