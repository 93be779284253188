"""What happened in one training step, as far as privacy is concerned.

A `StepEvent` is a mathematical definition, not an implementation: the accountants fold over events and never
ask anybody else. All multipliers are relative: a noise multiplier is the standard deviation of the noise
divided by the clipping bound, so that an event says the same whatever the bound was.

References:
    Poisson and shuffled sampling differ: Chua et al. 2024, "How private are DP-SGD implementations?"
    Joint release of gradient and count: Andrew et al. 2021, "Differentially private learning with adaptive
    clipping", theorem 1.
"""
import math
from dataclasses import dataclass
from typing import Optional

import numpy as np

ADD_OR_REMOVE = "add-or-remove"
ZERO_OUT = "zero-out"
REPLACE_ONE = "replace-one"
RELATIONS = (ADD_OR_REMOVE, ZERO_OUT, REPLACE_ONE)

POISSON = "poisson"
BALLS_IN_BINS = "balls-in-bins"
SHUFFLE = "shuffle"
FIXED_SIZE = "fixed"
FULL = "full"
SAMPLINGS = (POISSON, BALLS_IN_BINS, SHUFFLE, FIXED_SIZE, FULL)
PER_EPOCH = (BALLS_IN_BINS, SHUFFLE)


@dataclass(frozen=True)
class Sampling:
    """How a step's examples were chosen, and under which neighbouring relation the claim holds.

    Args:
        kind (str): One of `SAMPLINGS`. 'full' means that every record may take part in every step: no
            amplification of any kind.
        num_examples (int): Records in the data set, a public number.
        batch_size (float): Expected number of records in a batch, a fixed public number.
        relation (str): Neighbouring relation, one of `RELATIONS`.
        passes_per_epoch (int): How often one epoch visits each record (kinds in `PER_EPOCH`).
        steps_per_epoch (int, optional): Steps of one pass (kinds in `PER_EPOCH`).
        max_batch_size (int, optional): Poisson batches above this size are cut down to it at random; None if
            they never are. With several shards, the size of one shard's part of a batch.
        shards (int): Disjoint shards of (almost) equal size, one a rank, from which the parts of a batch are drawn.
        views (int): Rows that stand for one record, its augmented views; together they form its unit.
    """

    kind: str
    num_examples: int
    batch_size: float
    relation: str
    passes_per_epoch: int = 1
    steps_per_epoch: Optional[int] = None
    max_batch_size: Optional[int] = None
    shards: int = 1
    views: int = 1

    def __post_init__(self):
        if self.kind not in SAMPLINGS:
            raise ValueError(f"kind must be one of {SAMPLINGS}, but got {self.kind!r}.")
        if self.relation not in RELATIONS:
            raise ValueError(f"relation must be one of {RELATIONS}, but got {self.relation!r}.")
        if not 0 < self.batch_size <= self.num_examples:
            raise ValueError(f"batch_size must be in (0, num_examples = {self.num_examples}], but got "
                             f"{self.batch_size}.")
        if self.kind in PER_EPOCH and not (self.steps_per_epoch or 0) > 0:
            raise ValueError(f"{self.kind} sampling is accounted per epoch: steps_per_epoch must be a positive "
                             f"int, but got {self.steps_per_epoch}.")

    @property
    def rate(self):
        """Probability that a given record takes part in a given step."""
        return self.batch_size / self.num_examples


@dataclass(frozen=True)
class StepEvent:
    """One noised step.

    Args:
        sampling (Sampling): Who took part.
        noise_multiplier (float): Standard deviation of the noise on the clipped sum, divided by the clipping
            bound of that step.
        sensitivity (float): L2 sensitivity of the clipped sum under `sampling.relation`, divided by the bound:
            1 for units of one example under add-or-remove or zero-out, otherwise 2.
        count_multiplier (float, optional): Adaptive clipping also releases how many units stayed unclipped:
            standard deviation of that count's noise divided by the count's sensitivity.
        unit (str): What one clipping factor applied to, in words.
        noise_source (str): 'secure', 'seeded' (reproducible: no protection against whoever knows the seed) or
            'device'.
    """

    sampling: Sampling
    noise_multiplier: float
    sensitivity: float = 1.0
    count_multiplier: Optional[float] = None
    unit: str = "example"
    noise_source: str = "secure"

    @property
    def effective_multiplier(self):
        """Multiplier of the one Gaussian mechanism that costs as much as everything this step released.

        Gaussian mechanisms on the same data compose into one whose squared inverse multiplier is the sum of
        theirs. 0 when the step had no noise at all.
        """
        if self.noise_multiplier == 0 or self.count_multiplier == 0:
            return 0.0
        inverse = (self.sensitivity / self.noise_multiplier) ** 2
        if self.count_multiplier is not None:
            inverse += self.count_multiplier ** -2
        return inverse ** -0.5 if math.isfinite(inverse) else 0.0


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
