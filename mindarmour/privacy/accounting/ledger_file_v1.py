"""Ledger files of version 1, in which the unit of clipping was a text: read into facts.

A text that the suite itself wrote names its facts. Of any other text nobody knows what it meant, so it is read in the
weakest way, as units of several examples, and the entry says so.
"""
from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Optional

from mindarmour.privacy.accounting.events import FULL, REPLACE_ONE, ReleaseEvent, Sampling, StepEvent, sensitivity_of
from mindarmour.privacy.accounting.ledger import LedgerEntry
from mindarmour.utils import _validate

_STEP_FIELDS = ("noise_multiplier", "sensitivity", "count_multiplier", "unit", "noise_source")
_RELEASE_FIELDS = ("epsilon", "delta", "mechanism", "unit", "noise_source")
_SEVERAL = ("micro-batch", "batch, clipped as one vector")
_UNKNOWN_TRAINING = "unknown training: weights restored without a ledger"
_MICRO_BATCH = re.compile(r"micro-batch of ([1-9][0-9]*) examples")
_VIEWS = re.compile(r"example \(([1-9][0-9]*) views\)")


def entry_of_version_1(row: Sequence[Any], samplings: Sequence[Sampling], _: Any = None) -> LedgerEntry:
    """The entry of a row [kind, sampling, steps, epoch, fields ..].

    Raises:
        TypeError, ValueError: The row states what cannot be true.
    """
    kind, place, steps, epoch, *values = row
    sampling = samplings[place]
    if kind == 1:
        return LedgerEntry(ReleaseEvent(sampling=sampling, **_named(_RELEASE_FIELDS, values)), steps, epoch)
    if kind != 0:
        raise ValueError(f"the kind of an event must be 0 or 1, but got {kind!r}.")
    return LedgerEntry(_step(sampling, **_named(_STEP_FIELDS, values)), steps, epoch)


def _named(names: Sequence[str], values: Sequence[Any]) -> dict[str, Any]:
    if len(names) != len(values):
        raise ValueError(f"an event must have the fields {', '.join(names)}, but has {len(values)} values.")
    return dict(zip(names, values))


def _step(sampling: Sampling, noise_multiplier: Any, sensitivity: Any, count_multiplier: Any, unit: Any,
          noise_source: Any) -> StepEvent:
    stated = _validate.real("sensitivity", sensitivity, low=0)
    known, examples = _examples(_validate.instance("unit", unit, str), sampling)
    note = unit if unit == _UNKNOWN_TRAINING else ""
    if not known or sensitivity_of(examples, sampling.relation) != stated:
        examples = None
        note = f"recorded with {unit!r} as unit and sensitivity {stated:g}, read as units of several examples"
    # what is more sensitive than any unit can be is the same as less noise
    excess = max(1.0, stated / sensitivity_of(examples, sampling.relation))
    multiplier = _validate.real("noise_multiplier", noise_multiplier, low=0, closed="low") / excess
    return StepEvent(sampling, multiplier, count_multiplier=count_multiplier, examples_per_unit=examples,
                     noise_source=noise_source, note=note)


def _examples(unit: str, sampling: Sampling) -> tuple[bool, Optional[int]]:
    """(whether the suite wrote this text, examples per unit)."""
    if unit in _SEVERAL:
        return True, None
    batch, views = _MICRO_BATCH.fullmatch(unit), _VIEWS.fullmatch(unit)
    if batch:
        return True, int(batch.group(1))
    if views:
        return int(views.group(1)) == sampling.views, 1
    released = unit == "record" and sampling.kind == FULL and sampling.relation == REPLACE_ONE
    return unit in ("example", _UNKNOWN_TRAINING) and sampling.views == 1 or released, 1
