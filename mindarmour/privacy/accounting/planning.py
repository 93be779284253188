"""A run that has not happened yet, written down as the ledger it would leave."""
import math
from dataclasses import replace

from mindarmour.privacy.accounting.events import (
    ADD_OR_REMOVE,
    FIXED_SIZE,
    PER_EPOCH,
    RELATIONS,
    REPLACE_ONE,
    SAMPLINGS,
    SHUFFLE,
    ZERO_OUT,
    Sampling,
    StepEvent,
)
from mindarmour.privacy.accounting.ledger import LedgerEntry
from mindarmour.utils import _validate

UNITS = ("example", "micro-batch")


def natural_relation(kind, unit="example"):
    """What a sampler proves by itself; see docs/accounting.md.

    A record that is missing from a partition moves others to new places, so there it can only be zeroed, not
    removed. The same holds for micro-batches, unless the sampler leaves a hole where a record is missing.
    """
    if kind == FIXED_SIZE:
        return REPLACE_ONE
    return ZERO_OUT if kind == SHUFFLE or unit != "example" else ADD_OR_REMOVE


def plan_sampling(kind, num_examples, batch_size, relation=None, unit="example"):
    """`Sampling` of a standard run.

    Args:
        kind (str): One of `SAMPLINGS`.
        num_examples (int): Records in the data set.
        batch_size (int): Expected batch size.
        relation (str, optional): Neighbouring relation; None takes what the sampler proves by itself.
        unit (str): 'example' or 'micro-batch'.

    Raises:
        ValueError: If the sampler's claim does not hold under `relation`.
    """
    _validate.choice("sampling", kind, SAMPLINGS)
    _validate.choice("unit", unit, UNITS)
    num_examples = _validate.integer("num_examples", num_examples, low=1)
    batch_size = _validate.real("batch_size", batch_size, low=0, high=num_examples, closed="high")
    natural = natural_relation(kind, unit)
    relation = _validate.choice("relation", natural if relation is None else relation, RELATIONS)
    # each relation follows from those before it
    if RELATIONS.index(relation) < RELATIONS.index(natural_relation(kind)):
        raise ValueError(f"relation must be one that {kind} sampling proves, but got {relation!r}. Leave it out to "
                         f"use {natural!r}.")
    return Sampling(kind, num_examples, batch_size, relation,
                    steps_per_epoch=steps_of_epoch(kind, num_examples, batch_size))


def steps_of_epoch(kind, num_examples, batch_size):
    """Steps that one epoch takes: a partition drops its remainder, the other samplers round."""
    if kind == SHUFFLE:
        return max(1, int(num_examples // batch_size))
    return max(1, round(num_examples / batch_size))


def planned_entries(sampling, noise_multiplier, steps, unit="example"):
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
    sensitivity = 2.0 if unit != "example" or sampling.relation == REPLACE_ONE else 1.0
    event = StepEvent(sampling, float(noise_multiplier), sensitivity, unit=unit)
    if steps == 0:
        return ()
    if sampling.kind not in PER_EPOCH:
        return (LedgerEntry(event, steps),)
    # all full epochs in one entry: an epoch that visits each record p times costs what p epochs cost
    epochs = math.ceil(steps / sampling.steps_per_epoch)
    whole = replace(event, sampling=replace(sampling, passes_per_epoch=sampling.passes_per_epoch * epochs))
    return (LedgerEntry(whole, steps, 1),)
