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
