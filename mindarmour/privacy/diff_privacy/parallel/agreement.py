"""Refuse ranks that start with different plans, data or weights."""
from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, ops

from mindarmour.privacy.diff_privacy.parallel.ranks import Ranks

_DIGEST_WORDS = 4
_TEXT_WORDS = 64
_PART_FACTS = {
    "rule": ("groups", "shares", "stability"),
    "noise_mech": ("initial_noise_multiplier", "decay_policy", "noise_decay_rate", "seed", "strategy"),
    "clip_mech": ("decay_policy", "learning_rate", "target_unclipped_quantile", "fraction_stddev", "seed"),
}


def digest_of(array: np.ndarray) -> str:
    """Short fingerprint of an array's bytes."""
    return hashlib.blake2b(np.ascontiguousarray(array).tobytes(), digest_size=8).hexdigest()


def plan_facts(plan: Any) -> dict[str, Any]:
    """What a plan says, for `require_agreement`."""
    facts = {"world": plan.ranks.world, "noise_placement": plan.ranks.noise_placement, "norm_bound": plan.norm_bound,
             "micro_batches": plan.micro_batches, "physical_batch_size": plan.physical_batch_size,
             "engine": plan.engine, "sampling": plan.sampling}
    for name, names in _PART_FACTS.items():
        part = getattr(plan, name)
        facts[name] = None if part is None else type(part).__name__
        facts.update({f"{item} of {name}": getattr(part, item, None) for item in names})
    return facts


def parameter_facts(parameters: Iterable[Parameter]) -> dict[str, str]:
    """Fingerprint of each Parameter, for `require_agreement`."""
    facts = {}
    for parameter in parameters:
        value = parameter.astype(ms.float32) if parameter.dtype == ms.bfloat16 else parameter
        facts[f"Parameter '{parameter.name}'"] = digest_of(value.asnumpy())
    return facts


def require_agreement(ranks: Ranks, facts: dict[str, Any]) -> None:
    """Compare facts of all ranks; a collective call that every rank must make.

    Args:
        ranks (Ranks): Of this job.
        facts (dict): Name to value; values are compared as text. Same names on all ranks.

    Raises:
        ValueError: Ranks differ. Every rank raises, with the first difference and both values.
        RuntimeError: A rank did not take part.
    """
    if ranks.world == 1:
        return
    everything = "\n".join(f"{name}: {value}" for name, value in facts.items())
    heads = _gathered(ranks, np.append(_digest(everything), np.int32(len(facts))))
    if (heads == heads[0]).all():
        return
    if (heads[:, -1] != heads[0, -1]).any():
        raise ValueError(f"All ranks must run the same program, but compare {heads[:, -1].tolist()} facts about "
                         f"their network and plan: their networks differ.")
    digests = np.concatenate([_digest(f"{name}: {value}") for name, value in facts.items()])
    table = _gathered(ranks, digests).reshape(ranks.world, -1, _DIGEST_WORDS)
    place = int(np.flatnonzero((table != table[0]).any(axis=(0, 2)))[0])
    other = int(np.flatnonzero((table[:, place] != table[0, place]).any(axis=1))[0])
    name, value = list(facts.items())[place]
    texts = _gathered(ranks, _words(str(value)))
    raise ValueError(f"All ranks must start with the same {name}, but rank 0 has {_text(texts[0])} and rank {other} "
                     f"has {_text(texts[other])}. Start all ranks with the same arguments, data and weights (load "
                     f"the same checkpoint, or set parameter_broadcast=True in set_auto_parallel_context).")


def _gathered(ranks, words):
    """int32 [n] of every rank, as [world, n]."""
    with ranks.explain_lost("compare their plans and weights"):
        return ops.AllGather()(Tensor(words)).asnumpy().reshape(ranks.world, -1)


def _digest(text):
    return np.frombuffer(hashlib.blake2b(text.encode(), digest_size=4 * _DIGEST_WORDS).digest(), np.int32)


def _words(text):
    return np.frombuffer(text.encode()[:4 * _TEXT_WORDS].ljust(4 * _TEXT_WORDS, b"\0"), np.int32)


def _text(words):
    return words.tobytes().rstrip(b"\0").decode(errors="replace")
