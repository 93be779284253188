"""The plan of a run: the only place where clipping, noise, units and sampling meet the event that describes them."""
from dataclasses import dataclass
from typing import Optional, Union

from mindspore import nn

from mindarmour.privacy.accounting.correlated import require_proven
from mindarmour.privacy.accounting.events import (
    FULL,
    REPLACE_ONE,
    ZERO_OUT,
    Event,
    Randomness,
    Sampling,
    StepEvent,
    weakest_randomness,
)
from mindarmour.privacy.diff_privacy.clipping.adaptive import AdaClippingWithGaussianRandom
from mindarmour.privacy.diff_privacy.clipping.rules import (
    AutomaticClipping,
    FlatClipping,
    PerLayerClipping,
    checked_rule,
)
from mindarmour.privacy.diff_privacy.grads.accumulate import check_physical_batch_size
from mindarmour.privacy.diff_privacy.grads.protocol import ENGINES
from mindarmour.privacy.diff_privacy.noise.mechanisms import NoiseAdaGaussianRandom, NoiseGaussianRandom
from mindarmour.privacy.diff_privacy.parallel.ranks import EVERY_RANK, Ranks, current_ranks
from mindarmour.utils import _validate

# Why a step has no claim; a label for statements.
_NOT_OF_THE_DATA_SET = "batches that did not come straight from the data set"

Rule = Union[FlatClipping, PerLayerClipping, AutomaticClipping]


@dataclass(frozen=True)
class Units:
    """What one clipping factor applies to.

    Args:
        rows (int): Rows of a batch that form one unit.
        views (int): How many of these rows belong to one example, as its augmented views, or to one user, as his
            examples.
    """

    rows: int = 1
    views: int = 1

    def __post_init__(self) -> None:
        _validate.integer("rows", self.rows, low=1)
        _validate.integer("views", self.views, low=1)
        if self.rows % self.views:
            raise ValueError(f"rows of a unit must be a multiple of views = {self.views}, but got {self.rows}: the "
                             f"views of one example, or the examples of one user, are clipped together.")

    @property
    def examples(self) -> int:
        """Different examples in one unit; users, if users are drawn."""
        return self.rows // self.views


def event_of_sum(sampling: Sampling, noise_multiplier: float, units: Units, noise_source: Randomness,
                 count_multiplier: Optional[float] = None) -> StepEvent:
    """The event of one noised sum of clipped units; every step of this package is recorded through it.

    Args:
        sampling (Sampling): Who took part.
        noise_multiplier (float): Standard deviation of the noise divided by the bound that clipped.
        units (Units): What was clipped.
        noise_source (Randomness): The weakest randomness that the guarantee needs.
        count_multiplier (float, optional): See `StepEvent`.

    Raises:
        ValueError: The sampling brings another number of rows of an example, or of a user, than the units hold
            together.
    """
    if sampling.rows != units.views:
        whose = "an example" if sampling.examples_per_user is None else "a user"
        raise ValueError(f"The units must hold the {sampling.rows} rows of {whose} that the sampling brings, but hold "
                         f"{units.views}: one of them would move the sum by several times the bound. Pass "
                         f"views={sampling.rows} to clipped_gradient_fn.")
    return StepEvent(sampling, noise_multiplier, count_multiplier=count_multiplier, examples_per_unit=units.examples,
                     noise_source=noise_source)


@dataclass(frozen=True)
class Plan:
    """Everything that decides what a step costs, checked against each other.

    Args:
        norm_bound (float): Clipping bound C of the first step, > 0.
        rule (Cell): Clipping rule; keeps each unit inside the bound.
        noise_mech (NoiseGaussianRandom): Noise multiplier by step, and the source of the noise.
        clip_mech (AdaClippingWithGaussianRandom, optional): Adapts the bound.
        micro_batches (int, optional): Units per physical batch of a rank; None for one unit per row.
        engine (str): 'auto', 'ghost', 'vmap' or 'loop'.
        physical_batch_size (int, optional): Rows computed at once; larger batches are summed in parts.
        sampling (Sampling, optional): The claim of the data set in training; None before training starts.
        ranks (Ranks): This process among those that train together; the sampling is that of all of them.

    Raises:
        TypeError: A part of the wrong type.
        ValueError: A number outside its range, or parts that contradict each other.
    """

    norm_bound: float
    rule: Rule
    noise_mech: NoiseGaussianRandom
    clip_mech: Optional[AdaClippingWithGaussianRandom] = None
    micro_batches: Optional[int] = None
    engine: str = "auto"
    physical_batch_size: Optional[int] = None
    sampling: Optional[Sampling] = None
    ranks: Ranks = Ranks()

    def __post_init__(self) -> None:
        if self.micro_batches is not None:
            _validate.integer("micro_batches", self.micro_batches, low=1, bool_error=ValueError)
        _validate.real("norm_bound", self.norm_bound, low=0, strict_float=True)
        _validate.choice("engine", self.engine, ENGINES)
        check_physical_batch_size(self.physical_batch_size)
        _validate.instance("clipping", self.rule, (FlatClipping, PerLayerClipping, AutomaticClipping))
        _validate.instance("noise_mech", self.noise_mech, NoiseGaussianRandom)
        _validate.instance("ranks", self.ranks, Ranks)
        if self.sampling is not None:
            _validate.instance("sampling", self.sampling, Sampling)
        self._check_mechanisms()

    def _check_mechanisms(self) -> None:
        if self.clip_mech is not None:
            _validate.instance("clip_mech", self.clip_mech, AdaClippingWithGaussianRandom)
            if isinstance(self.noise_mech, NoiseAdaGaussianRandom):
                raise ValueError("clip_mech must be None with decaying noise: choose one of them.")
            if self.noise_mech.strategy is not None:
                raise ValueError("clip_mech must be None with correlated noise: where the bound moves, the sensitivity "
                                 "of the stream is not the bound times that of its strategy.")
        if self.noise_mech.strategy is not None and self.sampling is not None:
            require_proven(self.sampling, self.noise_mech.strategy)
        if self.noise_mech.norm_bound != self.norm_bound:
            raise ValueError(f"norm_bound of the model and of its noise mechanism must agree, but are "
                             f"{self.norm_bound} and {self.noise_mech.norm_bound}.")

    @property
    def rows_together(self) -> int:
        """Rows that one unit must hold together: an example's augmented views, or a user's examples."""
        return 1 if self.sampling is None else self.sampling.rows

    def units(self, rows: int) -> Units:
        """What is clipped in a physical batch of `rows` rows."""
        together = self.rows_together
        if self.micro_batches is None:
            if rows % together:
                raise ValueError(f"A batch must hold whole units of {together} rows, but has {rows} rows. Train on the "
                                 f"batches of the data set as they come.")
            return Units(together, together)
        if self.sampling is not None and (together > 1 or self.sampling.examples_per_user is not None):
            what = "users" if self.sampling.examples_per_user else f"{together} views of each example"
            raise ValueError(f"micro_batches must be None when the data set brings {what}, whose rows are the unit, "
                             f"but got {self.micro_batches}.")
        if rows % self.micro_batches:
            raise ValueError(f"micro_batches must divide the batch size, but {self.micro_batches} does not divide "
                             f"{rows}. Change one of them, or pass micro_batches=None for one unit per example.")
        return Units(rows // self.micro_batches)

    def expected_units(self, rows: int) -> float:
        """Public divisor of the clipped sum: the units that a batch is expected to hold."""
        size = self.sampling.batch_size if self.sampling is not None else rows
        return size / self.units(rows).examples

    def event(self, step: int, rows: int, claimed: bool = True) -> Event:
        """What a step does.

        Args:
            step (int): Number of the step, from 0; a decaying multiplier depends on it.
            rows (int): Rows of its physical batch.
            claimed (bool): Whether the batch came out of the data set that the plan was bound to. The sampling of any
                other batch is unknown: every record may have been in it.
        """
        if self.sampling is None:
            raise ValueError("sampling must be known to write down a step. Bind the plan to a data set.")
        sampling, units = (self.sampling, self.units(rows)) if claimed else self._unknown_origin(rows)
        return self.noise_mech.event_of(
            event_of_sum(sampling, self.noise_mech.multiplier_at(step), units, self._noise_source(),
                         self._count_multiplier(rows, sampling.relation, units)))

    def _unknown_origin(self, rows: int) -> tuple[Sampling, Units]:
        """No amplification, and the strongest claim that holds for batches of unknown origin.

        Nobody knows whose rows stand together in them: what was one user's is a micro-batch of examples.
        """
        units, views = self.units(rows), self.sampling.views
        relation = REPLACE_ONE if self.sampling.relation == REPLACE_ONE else ZERO_OUT
        everybody = max(1, rows * self.ranks.world // views)
        return Sampling(FULL, everybody, everybody, relation, shards=self.ranks.world, views=views,
                        reason=_NOT_OF_THE_DATA_SET), Units(units.rows, views)

    def _noise_source(self) -> Randomness:
        """The weakest randomness that the guarantee needs."""
        parts = (self.noise_mech, self.clip_mech)
        return weakest_randomness(*(part.source.kind for part in parts if part is not None))

    def _count_multiplier(self, rows: int, relation: str, units: Units) -> Optional[float]:
        if self.clip_mech is None:
            return None
        return self.clip_mech.count_multiplier(self.expected_units(rows), units.examples, relation)


def noise_of(noise_mech: Optional[NoiseGaussianRandom], optimizer: nn.Optimizer,
             micro_batches: Optional[int]) -> NoiseGaussianRandom:
    """The one noise mechanism of a run: given directly, or inside a DP optimizer.

    Raises:
        TypeError: One of them is of the wrong type.
        ValueError: There are two mechanisms, or none, or the DP optimizer was made for other units.
    """
    if optimizer is None or isinstance(optimizer, type):
        raise ValueError(f"optimizer must be an optimizer over the network's parameters, but got {optimizer!r}.")
    _validate.instance("optimizer", optimizer, nn.Optimizer)
    inside = getattr(optimizer, "_mech", None)
    if noise_mech is not None and inside is not None:
        raise ValueError("noise_mech must be None with a DP optimizer, which brings its own mechanism.")
    if noise_mech is None and inside is None:
        raise ValueError("noise_mech must be given, or an optimizer from DPOptimizerClassFactory.")
    if inside is not None and hasattr(optimizer, "micro_batches") and optimizer.micro_batches != micro_batches:
        raise ValueError(f"micro_batches of the model and of the DP optimizer must agree, but are {micro_batches} and "
                         f"{optimizer.micro_batches}.")
    return noise_mech if inside is None else inside


def plan_of(network: nn.Cell, optimizer: nn.Optimizer, norm_bound: float,
            noise_mech: Optional[NoiseGaussianRandom], *, micro_batches: Optional[int] = None,
            clip_mech: Optional[AdaClippingWithGaussianRandom] = None, engine: str = "auto",
            physical_batch_size: Optional[int] = None, clipping: Optional[Rule] = None,
            noise_placement: str = EVERY_RANK) -> Plan:
    """The plan that the arguments of `DPModel` and `PrivateLoop` describe; see there."""
    if micro_batches is not None:
        _validate.integer("micro_batches", micro_batches, low=1, bool_error=ValueError)
    _validate.real("norm_bound", norm_bound, low=0, strict_float=True)
    rule = checked_rule(clipping, _validate.instance("network", network, nn.Cell), clip_mech)
    return Plan(norm_bound, rule, noise_of(noise_mech, optimizer, micro_batches), clip_mech, micro_batches, engine,
                physical_batch_size, ranks=current_ranks(noise_placement))
