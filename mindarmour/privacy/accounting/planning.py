"""A run that has not happened yet, written down as the ledger it would leave."""
import math
from dataclasses import replace

from mindarmour.privacy.accounting.events import (
    ADD_OR_REMOVE,
    BALLS_IN_BINS,
    FIXED_SIZE,
    FULL,
    PER_EPOCH,
    POISSON,
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
# What each sampler proves by itself; see docs/accounting.md.
NATURAL_RELATION = {POISSON: ADD_OR_REMOVE, BALLS_IN_BINS: ADD_OR_REMOVE, SHUFFLE: ZERO_OUT,
                    FIXED_SIZE: REPLACE_ONE, FULL: ADD_OR_REMOVE}


def plan_sampling(kind, num_examples, batch_size, relation=None):
    """`Sampling` of a standard run.

    Args:
        kind (str): One of `SAMPLINGS`.
        num_examples (int): Records in the data set.
        batch_size (int): Expected batch size.
        relation (str, optional): Neighbouring relation; None takes what the sampler proves by itself.

    Raises:
        ValueError: If the sampler's claim does not hold under `relation`.
    """
    _validate.choice("sampling", kind, SAMPLINGS)
    num_examples = _validate.integer("num_examples", num_examples, low=1)
    batch_size = _validate.real("batch_size", batch_size, low=0, high=num_examples, closed="high")
    relation = _validate.choice("relation", relation or NATURAL_RELATION[kind], RELATIONS)
    if (kind == SHUFFLE and relation == ADD_OR_REMOVE) or (kind == FIXED_SIZE and relation != REPLACE_ONE):
        raise ValueError(f"relation must be one that {kind} sampling proves, but got {relation!r}. Leave it out to "
                         f"use {NATURAL_RELATION[kind]!r}.")
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
