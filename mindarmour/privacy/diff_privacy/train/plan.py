"""The plan of a run: the only place where clipping, noise, units and sampling meet the event that describes them."""
from dataclasses import dataclass
from typing import Any, Optional

from mindarmour.privacy.accounting.events import Sampling, StepEvent, sensitivity_of, weakest_randomness
from mindarmour.privacy.diff_privacy.parallel.ranks import Ranks


@dataclass(frozen=True)
class Plan:
    """Everything that decides what a step costs.

    Args:
        norm_bound (float): Clipping bound C of the first step.
        rule (Cell): Clipping rule; states the sensitivity.
        noise_mech (NoiseGaussianRandom): Noise multiplier by step, and the source of the noise.
        clip_mech (AdaClippingWithGaussianRandom, optional): Adapts the bound.
        micro_batches (int, optional): Units per physical batch of a rank; None for one unit per row.
        engine (str): 'auto', 'ghost', 'vmap' or 'loop'.
        physical_batch_size (int, optional): Rows computed at once; larger batches are summed in parts.
        sampling (Sampling, optional): The claim of the data set in training; None before training starts.
        ranks (Ranks): This process among those that train together; the sampling is that of all of them.
    """

    norm_bound: float
    rule: Any
    noise_mech: Any
    clip_mech: Any = None
    micro_batches: Optional[int] = None
    engine: str = "auto"
    physical_batch_size: Optional[int] = None
    sampling: Optional[Sampling] = None
    ranks: Ranks = Ranks()

    @property
    def views(self):
        """Augmented views of one example, which form one unit; 1 without augmentation."""
        return 1 if self.sampling is None else self.sampling.views

    def rows_per_unit(self, rows):
        """Rows of one unit in a physical batch of `rows` rows."""
        if self.views > 1:
            if self.micro_batches is not None:
                raise ValueError(f"micro_batches must be None when the data set brings {self.views} views of each "
                                 f"example: the views of one example are the unit.")
            return self.views
        units = self.micro_batches or rows
        if rows % units:
            raise ValueError(f"micro_batches must divide the batch size, but {self.micro_batches} does not divide "
                             f"{rows}. Change one of them, or pass micro_batches=None for one unit per example.")
        return rows // units

    def examples_per_unit(self, rows):
        """Different examples in one unit."""
        return self.rows_per_unit(rows) // self.views

    def expected_units(self, rows):
        """Public divisor of the clipped sum: the units that a batch is expected to hold."""
        size = self.sampling.batch_size if self.sampling is not None else rows
        return size / self.examples_per_unit(rows)

    def event(self, step, rows):
        """What step `step` (from 0) does with a physical batch of `rows` rows."""
        examples = self.examples_per_unit(rows)
        sampling = self.sampling
        return StepEvent(
            sampling=sampling,
            noise_multiplier=self.noise_mech.multiplier_at(step),
            sensitivity=self.rule.sensitivity(examples, sampling.relation),
            examples_per_unit=examples,
            count_multiplier=self._count_multiplier(rows, examples),
            noise_source=weakest_randomness(*self._randomness()),
        )

    def _randomness(self):
        return (part.source.kind for part in (self.noise_mech, self.clip_mech) if part is not None)

    def _count_multiplier(self, rows, examples):
        """Noise on the count of unclipped units, divided by the count's sensitivity.

        The count is centred (each unit contributes +1/2 or -1/2), so a vanishing unit moves it by 1/2; a unit that
        changes sides, by 1.
        """
        if self.clip_mech is None:
            return None
        sensitivity = 0.5 * sensitivity_of(examples, self.sampling.relation)
        return self.clip_mech.fraction_stddev * self.expected_units(rows) / sensitivity
