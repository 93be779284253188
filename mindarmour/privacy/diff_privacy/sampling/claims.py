"""The claim that holds for the data set of a run, earned by its construction.

A claim is carried by the node that a sampler of this package made, and by no other object. It survives `project` and
`rename` while the mask stays. A pipeline of the user's own is a partition if it consists of parts that are known to
show every record at most once a pass and to make each row of a batch from one record; where that cannot be known, the
claim is 'full' with its reason; where a batch could hold two copies of a record, or a row could depend on several
records, there is no sensitivity to state, and the data set is refused.
"""
from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any, Optional

import mindspore.dataset as ds
import numpy as np

from mindarmour.privacy.accounting.events import CYCLIC_POISSON, FIXED_ORDER, FULL, SHUFFLE, ZERO_OUT, Sampling
from mindarmour.privacy.diff_privacy.parallel.ranks import Ranks
from mindarmour.privacy.diff_privacy.sampling import pipelines
from mindarmour.privacy.diff_privacy.sampling.batches import MASK_COLUMN, SamplerDataset
from mindarmour.utils import LogUtil
from mindarmour.utils.mindspore_internals import dataset_nodes as nodes

LOGGER = LogUtil.get_instance()
TAG = "Sampling"
_ALONE = Ranks()
_KEEPS_BATCHES = (nodes.ProjectDataset, nodes.RenameDataset)
_SOME_BATCHES = (nodes.ShuffleDataset, nodes.SkipDataset, nodes.TakeDataset)
# Transforms that make each element of a batch from the same row's elements, whatever stands before it.
_ROWWISE = (ds.transforms.TypeCast, ds.vision.Rescale)
_BATCHING = (nodes.BatchDataset, nodes.PaddedBatchDataset)
_MOVE = "Do that to single records, before .batch(...)."
_REFUSED = {
    nodes.ConcatDataset: "concat (+) can put copies of one record into one batch. Put the arrays or files together "
                         "before the source",
    nodes.ZipDataset: "zip can put one record into several rows. Make one source that returns all columns of a record",
    nodes.BucketBatchByLengthDataset: "bucket_batch_by_length lets the other records decide which batch a record is in "
                                      "and how far it is padded. Pad with pad_to in a sampler's dataset(...), or with "
                                      "padded_batch and full shapes",
}


def claim_of(dataset: Any, ranks: Ranks = _ALONE) -> Sampling:
    """The claim that holds for a dataset handed to `DPModel.train`.

    Args:
        dataset (Dataset): The pipeline as it is trained on, on this rank.
        ranks (Ranks): Who trains together.

    Returns:
        Sampling, of all ranks together. From a sampler: its claim. From a pipeline that visits
        each record once a pass: a shuffled partition (zero-out, no amplification). From a pipeline of which too little
        is known: 'full', as if every record could take part in every step.

    Raises:
        ValueError: The pipeline could put copies of one record into one batch, on one rank or on two, makes rows of
            several records, or changes a sampler's batches.
    """
    if any(isinstance(node, SamplerDataset) for node in pipelines.all_nodes(dataset)):
        return _claim_of_sampler(dataset, ranks)
    facts = _facts_of(dataset)
    if ranks.world > 1:
        _refuse_shared_records(facts, ranks)
    if facts.reason:
        return _full(dataset, facts)
    steps = facts.steps
    batch_size = facts.batch_size * ranks.world
    num_examples = min(facts.records * ranks.world, steps * batch_size)
    return Sampling(SHUFFLE, num_examples, min(batch_size, num_examples), ZERO_OUT, passes_per_epoch=facts.passes,
                    steps_per_epoch=steps, shards=ranks.world)


def order_of(dataset: Any) -> Optional[object]:
    """What holds the order or the groups that a data set's batches follow; None where every epoch draws anew."""
    for node in pipelines.all_nodes(dataset):
        if isinstance(node, SamplerDataset) and node.claim.kind in (FIXED_ORDER, CYCLIC_POISSON):
            return node.source
    return None


def continue_draws(dataset: Any, step: int) -> None:
    """Let a sampler's data set draw as after `step` steps of training, so that a seeded sampler replays no draw."""
    for node in pipelines.all_nodes(dataset):
        if isinstance(node, SamplerDataset):
            node.source.continue_at(step)


def _claim_of_sampler(dataset: Any, ranks: Ranks) -> Sampling:
    chain = pipelines.chain_of(dataset)
    for node in chain[:-1] if chain else [dataset]:
        if not isinstance(node, _KEEPS_BATCHES):
            raise ValueError(f"The batches of a sampler must not be changed, but the dataset applies "
                             f"{pipelines.name_of(node)} to them. Do that to the data before the sampler.")
        if _loses_mask(node):
            raise ValueError(f"The mask {MASK_COLUMN!r} of a sampler must stay as it is, but the dataset applies "
                             f"{pipelines.name_of(node)} to it: without it holes would count as records. Name "
                             f"{MASK_COLUMN!r} among the columns of project(), and do not rename it.")
    claim = chain[-1].claim
    if claim.shards != ranks.world:
        raise ValueError(f"The sampler made {claim.shards} shards, but {ranks.world} ranks train. Set the "
                         f"parallel mode before the sampler makes its dataset.")
    return claim


def _loses_mask(node: Any) -> bool:
    if isinstance(node, nodes.RenameDataset):
        return MASK_COLUMN in (*node.input_column_names, *node.output_column_names)
    return MASK_COLUMN not in node.columns


@dataclass(frozen=True)
class _Facts:
    """What is known of a pipeline that no sampler made, from its source up to one of its nodes.

    Args:
        source (Dataset): Its source.
        reason (str): Why more than 'full' cannot be claimed; empty if it can.
        batch_size (int, optional): Rows of a batch; None before there are batches.
        records (int, optional): Records that one pass brings to the batches.
        steps (int, optional): Batches of one pass.
        passes (int): Passes in one epoch.
        repeated (bool): Whether one epoch makes several passes.
    """

    source: Any
    reason: str = ""
    batch_size: Optional[int] = None
    records: Optional[int] = None
    steps: Optional[int] = None
    passes: int = 1
    repeated: bool = False


def _facts_of(dataset: Any) -> _Facts:
    for node in pipelines.all_nodes(dataset):
        for kind, why in _REFUSED.items():
            if isinstance(node, kind):
                raise ValueError(f"{why}.")
    chain = pipelines.chain_of(dataset)
    if chain is None:
        raise ValueError(f"{pipelines.name_of(dataset)} joins several pipelines, and may show a record more than once. "
                         f"Put the data together before the source.")
    facts = _facts_of_source(chain[-1])
    for node in reversed(chain[:-1]):
        facts = _after(node, facts)
    if facts.batch_size is None:
        return replace(facts, reason=facts.reason or "no batch() of MindSpore made its batches")
    return facts if facts.steps else replace(facts, steps=_size(chain[0]))


def _size(node: Any) -> int:
    return max(1, node.get_dataset_size())


def _facts_of_source(source: Any) -> _Facts:
    pipelines.refuse_repeats(source)
    if pipelines.has_random_access(source) or type(source).__module__.startswith("mindspore.dataset"):
        iterable = isinstance(source, ds.GeneratorDataset) and not pipelines.has_random_access(source)
        return _Facts(source, "its source is a generator, which may show any record in any step" if iterable else "")
    return _Facts(source, f"nothing is known of its source, {type(source).__name__}")


def _after(node: Any, facts: _Facts) -> _Facts:
    """The facts after one more node."""
    if isinstance(node, nodes.RepeatDataset):
        return _after_repeat(node, facts)
    if isinstance(node, _BATCHING):
        return _after_batch(node, facts)
    if isinstance(node, _KEEPS_BATCHES):
        return facts
    if facts.batch_size is None:
        if isinstance(node, (*pipelines.EACH_ROW, *pipelines.SOME_ROWS)):
            return facts
        raise ValueError(f"Nothing is known of what {pipelines.name_of(node)} does to records, so no guarantee can be "
                         f"stated. Leave it out.")
    if isinstance(node, nodes.MapDataset):
        _refuse_mixing(node)
        return facts
    if not isinstance(node, _SOME_BATCHES):
        raise ValueError(f"{pipelines.name_of(node)} after batch() sees several records at once, so one of them can "
                         f"decide what the others do. {_MOVE}")
    if not facts.repeated:
        return replace(facts, steps=None)
    return replace(facts, reason=facts.reason or f"{pipelines.name_of(node)} after repeat() mixes passes")


def _after_repeat(node: Any, facts: _Facts) -> _Facts:
    if node.count == 1:
        return facts
    if facts.batch_size is None:
        raise ValueError("dataset.repeat() before dataset.batch() can put copies of one record into one "
                         "batch, which no stated sensitivity covers. Call repeat() after batch().")
    steps = facts.steps or _size(node.children[0])
    return replace(facts, passes=facts.passes * max(node.count, 1), steps=steps, repeated=True)


def _after_batch(node: Any, facts: _Facts) -> _Facts:
    name = pipelines.name_of(node)
    if facts.batch_size is not None:
        raise ValueError(f"{name} after batch() makes each row of a whole batch, so a unit would hold several records. "
                         f"Batch once.")
    if getattr(node, "per_batch_map", None) is not None:
        raise ValueError(f"per_batch_map sees several records at once, so one of them can change the rows of the "
                         f"others. {_MOVE}")
    if isinstance(node, nodes.PaddedBatchDataset):
        _refuse_padding_by_neighbours(node)
    if node.batch_size_func is not None:
        return replace(facts, batch_size=1, reason=facts.reason or "a function decides how large its batches are")
    return replace(facts, batch_size=node.batch_size, records=None if facts.reason else _size(node.children[0]))


def _refuse_padding_by_neighbours(node: Any) -> None:
    for name in node.children[0].get_col_names():
        shape = (node.pad_info.get(name) or (None,))[0]
        if shape is None or any(length is None for length in shape):
            raise ValueError(f"padded_batch() pads column {name!r} to the longest row of the batch, so a record's row "
                             f"would depend on the other records. Give its full shape: "
                             f"pad_info={{{name!r}: ([length, ...], 0)}}.")


def _refuse_mixing(node: Any) -> None:
    """Raise unless every operation of a `map` after batching is known to work on each row by itself."""
    for operation in node.operations:
        elementwise = isinstance(operation, np.ufunc) and operation.signature is None
        if not elementwise and type(operation) not in _ROWWISE:
            name = getattr(operation, "__name__", type(operation).__name__)
            raise ValueError(f"map({name}) after batch() sees several records at once, and nothing shows that it works "
                             f"on each row by itself. {_MOVE}")


def _full(dataset: Any, facts: _Facts) -> Sampling:
    rows = max(dataset.get_batch_size(), 1)
    LOGGER.warn(TAG, "Every record is taken to be in every step, because %s. It is for you to see that no batch holds "
                     "a record twice. A sampler such as PoissonSampler(size).dataset(data) claims much more.",
                facts.reason)
    return Sampling(FULL, rows, rows, ZERO_OUT, reason=facts.reason)


def _refuse_shared_records(facts: _Facts, ranks: Ranks) -> None:
    """Raise unless this rank surely reads records that no other rank reads."""
    source = facts.source
    own = (getattr(source, "num_shards", None), getattr(source, "shard_id", None))
    if facts.reason or own != (ranks.world, ranks.rank):
        raise ValueError(f"Under data parallelism each rank must read its own shard of the records, but rank "
                         f"{ranks.rank} of {ranks.world} reads shard {own[1]} of {own[0]}. Use PoissonSampler, or a "
                         f"plain source with num_shards={ranks.world} and shard_id={ranks.rank}.")
    whole = copy.copy(source)
    whole.sampler, whole.dataset_size = ds.SequentialSampler(), None
    records = whole.get_dataset_size()
    if records % ranks.world:
        raise ValueError(f"The number of records must be a multiple of the {ranks.world} ranks, but is {records}: "
                         f"MindSpore's sharding would give some of them to two ranks. Leave some out, or use "
                         f"PoissonSampler.")
