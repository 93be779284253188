"""Pipelines of MindSpore, read as what they do to records: which records one pass visits, and how to read chosen ones.

Nothing is known of a node by default. A node is listed here with what was proved of it, and whatever is not listed is
refused by name.
"""
from __future__ import annotations

import copy
import weakref
from collections.abc import Iterator, Sequence
from typing import Any, Optional, Union

import mindspore.dataset as ds
import numpy as np

from mindarmour.utils.mindspore_internals import dataset_nodes as nodes

Numbers = Union[range, np.ndarray]
# One row in, one row out, made of nothing else: callables of `map` are called with the columns of one record.
EACH_ROW = (nodes.MapDataset, nodes.ProjectDataset, nodes.RenameDataset)
# Rows are left out or come in another order; none is changed, none comes twice.
SOME_ROWS = (nodes.ShuffleDataset, nodes.SkipDataset, nodes.TakeDataset, nodes.FilterDataset)


def chain_of(dataset: Any) -> Optional[list[Any]]:
    """Nodes from the end of the pipeline to its source; None where a node has several inputs."""
    found = [dataset]
    while found[-1].children:
        if len(found[-1].children) > 1:
            return None
        found.append(found[-1].children[0])
    return found


def all_nodes(dataset: Any) -> Iterator[Any]:
    """Every node of a pipeline, also where it branches."""
    yield dataset
    for child in dataset.children:
        yield from all_nodes(child)


def name_of(node: Any) -> str:
    """A node as the user wrote it: 'repeat()' or 'ImageFolderDataset'."""
    text = type(node).__name__
    if not node.children or not text.endswith("Dataset"):
        return text
    words = "".join(f"_{c.lower()}" if c.isupper() else c for c in text[:-len("Dataset")]).lstrip("_")
    return f"{words}()"


def has_random_access(source: Any) -> bool:
    """Whether records can be read by their number."""
    if isinstance(source, ds.GeneratorDataset):
        return hasattr(source.source, "__getitem__") and source.source_len >= 0 and not source.has_batch_sampler
    return isinstance(source, nodes.MappableDataset)


def refuse_repeats(source: Any) -> None:
    """Raise ValueError unless one pass over `source` visits each of its records at most once."""
    name = name_of(source)
    if getattr(source, "has_batch_sampler", False):
        raise ValueError(f"{name} has a batch_sampler, whose batches may hold a record twice. Leave it out and batch "
                         f"with .batch(size), or use PoissonSampler(size).dataset(...).")
    files = getattr(source, "dataset_files", None)
    if isinstance(files, (list, tuple)) and len(set(files)) < len(files):
        raise ValueError(f"dataset_files of {name} must be different files, but some of the {len(files)} come twice: "
                         f"their records would be visited twice.")
    if getattr(source, "num_padded", 0):
        raise ValueError(f"{name} must be made without num_padded, but has {source.num_padded} copies of padded_sample "
                         f"among its records. Samplers of this package pad batches themselves.")
    if getattr(source, "shard_equal_rows", False):
        raise ValueError(f"{name} needs shard_equal_rows=False: shards become equal by repeating records.")
    sampler = getattr(source, "sampler", None)
    if sampler is not None:
        _refuse_repeating_sampler(name, sampler)


def _refuse_repeating_sampler(name: str, sampler: Any) -> None:
    kind = type(sampler)
    advice = ("Use shuffle=True without num_samples, or SubsetRandomSampler with different indices; to draw at random, "
              "PoissonSampler(size).dataset(...).")
    if sampler.child_sampler is not None:
        raise ValueError(f"{name} draws by a {kind.__name__} that has a child sampler, which may visit a record more "
                         f"than once. {advice}")
    if kind in (ds.SubsetSampler, ds.SubsetRandomSampler):
        if len(np.unique(sampler.indices)) < len(sampler.indices):
            raise ValueError(f"indices of {name}'s {kind.__name__} must be different, but some repeat: a record could "
                             f"stand in one batch twice. {advice}")
        return
    if kind is ds.RandomSampler and sampler.replacement:
        raise ValueError(f"{name} draws with replacement (as RandomSampler(replacement=True) does, and shuffle=True "
                         f"with num_samples): a record could stand in one batch twice. {advice}")
    if kind in (ds.SequentialSampler, ds.RandomSampler):
        return
    if kind is ds.DistributedSampler and sampler.offset == -1:
        return
    raise ValueError(f"{name} draws by a {kind.__name__}, which may visit a record more than once a pass. {advice}")


def record_numbers(source: Any) -> Numbers:
    """Which records of a random-access source its own sampler chooses, where these are the same in every pass.

    Raises:
        ValueError: They are not, or a record could come more than once.
    """
    refuse_repeats(source)
    whole = copy.copy(source)
    whole.sampler, whole.dataset_size, whole.num_samples = ds.SequentialSampler(), None, 0
    count, sampler = whole.get_dataset_size(), source.sampler
    if isinstance(sampler, (ds.SubsetSampler, ds.SubsetRandomSampler)):
        chosen = np.asarray(sampler.indices, np.int64)
        return chosen if not sampler.num_samples else chosen[:sampler.num_samples]
    if isinstance(sampler, ds.DistributedSampler):
        raise ValueError(f"{name_of(source)} must be made without num_shards: hand the whole data to every rank, and "
                         f"the sampler gives each rank its share.")
    if isinstance(sampler, ds.SequentialSampler):
        first = sampler.start_index or 0
        return range(first, min(count, first + (sampler.num_samples or count)))
    if sampler is not None and sampler.num_samples and sampler.num_samples < count:
        raise ValueError(f"{name_of(source)} chooses {sampler.num_samples} of {count} records anew in each pass. "
                         f"Choose them once: sampler=mindspore.dataset.SubsetSampler(indices).")
    return range(count)


class _Chosen:
    """A random-access source that consists of chosen records of another, in that order."""

    def __init__(self, source: Any, numbers: Sequence[int]) -> None:
        self._source = source
        self._numbers = numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, place: int) -> Any:
        return self._source[int(self._numbers[place])]


def onto(node: Any, child: Any) -> Any:
    """A copy of a node that reads another child; neither the node nor its pipeline is changed."""
    node = copy.copy(node)
    node.parent, node.dataset_size, node.children = [], None, [child]
    for name in ("saved_output_types", "saved_output_shapes", "estimated_output_shapes", "_col_names"):
        setattr(node, name, None)
    child.parent = [weakref.ref(node)]
    return node


def copied(dataset: Any) -> Any:
    """A chain of its own, so that nodes put on it are not seen by the user's pipeline, which may have one end only."""
    if dataset.children:
        return onto(dataset, copied(dataset.children[0]))
    source = copy.copy(dataset)
    source.parent = []
    return source


def reading(dataset: Any, numbers: np.ndarray) -> Any:
    """The pipeline over chosen records of its source, in that order, repetitions included.

    Args:
        dataset (Dataset): A chain of `EACH_ROW` nodes over a random-access source; it is not changed.
        numbers (numpy.ndarray): Of the records, as the source counts them.
    """
    if dataset.children:
        return onto(dataset, reading(dataset.children[0], numbers))
    node = copy.copy(dataset)
    node.parent, node.dataset_size = [], None
    if isinstance(node, ds.GeneratorDataset):
        node.source, node.source_len = _Chosen(node.source, numbers), len(numbers)
        node.sampler, node.num_samples = ds.SequentialSampler(), 0
        # prepared once for a source that is gone
        for name in ("generator_op", "prepared_source"):
            node.__dict__.pop(name, None)
        node.prepared_source = None
    else:
        node.sampler, node.num_samples = ds.SubsetSampler(numbers.tolist()), 0
    return node
