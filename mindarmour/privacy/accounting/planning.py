"""A run that has not happened yet, written down as the ledger it would leave."""
from __future__ import annotations

from typing import Any, Optional

from mindarmour.privacy.accounting.events import (
    ADD_OR_REMOVE,
    CYCLIC_POISSON,
    FIXED_SIZE,
    PARTITIONS,
    PER_EPOCH,
    RELATIONS,
    REPLACE_ONE,
    ZERO_OUT,
    Relation,
    Sampling,
    SamplingKind,
    StepEvent,
)
from mindarmour.privacy.accounting.ledger import LedgerEntry
from mindarmour.privacy.accounting.sampling import steps_of_epoch
from mindarmour.utils import _validate

# What a plan may clip, and how many examples share a factor; of a planned micro-batch it is not known how many.
UNITS: dict[str, Optional[int]] = {"example": 1, "micro-batch": None}


def natural_relation(kind: str, unit: str = "example") -> Relation:
    """What a sampler proves by itself; see docs/accounting.md.

    A record that is missing from a partition moves others to new places, so there it can only be zeroed, not
    removed. The same holds for micro-batches, unless the sampler leaves a hole where a record is missing.
    """
    if kind == FIXED_SIZE:
        return REPLACE_ONE
    return ZERO_OUT if kind in PARTITIONS or UNITS[unit] != 1 else ADD_OR_REMOVE


def plan_sampling(kind: str, num_examples: int, batch_size: float, relation: Optional[str] = None,
                  unit: str = "example", groups: int = 1) -> Sampling:
    """`Sampling` of a standard run.

    Args:
        kind (str): One of `SAMPLINGS`.
        num_examples (int): Records in the data set.
        batch_size (int): Expected batch size.
        relation (str, optional): Neighbouring relation; None takes what the sampler proves by itself.
        unit (str): 'example' or 'micro-batch'.
        groups (int): Groups that take turns, of 'cyclic-poisson' only; an epoch is cut to whole turns.

    Raises:
        ValueError: If the sampler's claim does not hold under `relation`.
    """
    kind = SamplingKind.checked("sampling", kind)
    _validate.choice("unit", unit, UNITS)
    num_examples = _validate.integer("num_examples", num_examples, low=1)
    _validate.real("batch_size", batch_size, low=0, high=num_examples, closed="high")
    natural = natural_relation(kind, unit)
    relation = Relation.checked("relation", natural if relation is None else relation)
    # each relation follows from those before it
    if RELATIONS.index(relation) < RELATIONS.index(natural_relation(kind)):
        raise ValueError(f"relation must be one that {kind} sampling proves, but got {relation!r}. Leave it out to "
                         f"use {natural!r}.")
    steps, groups = steps_of_epoch(kind, num_examples, batch_size), _validate.integer("groups", groups, low=1)
    if kind == CYCLIC_POISSON:
        steps = max(1, steps // groups) * groups
    return Sampling(kind, num_examples, batch_size, relation, steps_per_epoch=steps, groups=groups)


def planned_entries(sampling: Sampling, noise_multiplier: Any, steps: int,
                    unit: str = "example") -> tuple[LedgerEntry, ...]:
    """Ledger entries of `steps` steps with one noise multiplier.

    Args:
        sampling (Sampling): As `plan_sampling` returns it.
        noise_multiplier (float): Standard deviation of the noise divided by the clipping bound.
        steps (int): Steps in all.
        unit (str): 'example', or 'micro-batch' for units of several examples, whose clipped mean moves by up to
            twice the bound when one example changes.

    Returns:
        tuple[LedgerEntry].
    """
    steps = _validate.integer("steps", steps, low=0)
    _validate.choice("unit", unit, UNITS)
    event = StepEvent(sampling, noise_multiplier, examples_per_unit=UNITS[unit])
    return (LedgerEntry(event, steps, int(sampling.kind in PER_EPOCH)),) if steps else ()
