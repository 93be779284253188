"""The claim that holds for the data set of a run: from its sampler, or from the shape of its pipeline."""
import copy

import mindspore.dataset as ds

from mindarmour.privacy.accounting.events import FULL, SHUFFLE, ZERO_OUT, Sampling
from mindarmour.privacy.diff_privacy.parallel.ranks import Ranks
from mindarmour.utils.mindspore_internals import dataset_nodes

_ALONE = Ranks()
_KEEPS_BATCHES = (dataset_nodes.MapDataset, dataset_nodes.ProjectDataset, dataset_nodes.RenameDataset)
_KEEPS_ROWS = (*_KEEPS_BATCHES, dataset_nodes.ShuffleDataset, dataset_nodes.SkipDataset,
               dataset_nodes.TakeDataset, dataset_nodes.FilterDataset)


def _nodes(dataset):
    """From the end of the pipeline to its source; None in place of a node with several inputs."""
    while dataset is not None:
        yield dataset
        if len(dataset.children) > 1:
            yield None
            return
        dataset = dataset.children[0] if dataset.children else None


def claim_of(dataset, ranks=_ALONE):
    """The claim that holds for a dataset handed to `DPModel.train`.

    Args:
        dataset (Dataset): The pipeline as it is trained on, on this rank.
        ranks (Ranks): Who trains together.

    Returns:
        Sampling, of all ranks together. From a sampler: its claim. From a pipeline that visits
        each record once a pass: a shuffled partition (zero-out, no amplification). From anything else: 'full', as
        if every record could take part in every step.

    Raises:
        ValueError: The pipeline could put copies of one record into one batch, on one rank or on two, or changes a
            sampler's batches.
    """
    nodes = list(_nodes(dataset))
    sampler = getattr(getattr(nodes[-1], "source", None), "sampling", None)
    if isinstance(sampler, Sampling):
        for node in nodes[:-1]:
            if not isinstance(node, _KEEPS_BATCHES):
                raise ValueError(f"The batches of a sampler must not be changed, but the dataset applies "
                                 f"{type(node).__name__} to them. Do that to the data before the sampler.")
        if sampler.shards != ranks.world:
            raise ValueError(f"The sampler made {sampler.shards} shards, but {ranks.world} ranks train. Set the "
                             f"parallel mode before the sampler makes its dataset.")
        return sampler
    return _partition_claim(dataset, nodes, ranks)


def _partition_claim(dataset, nodes, ranks):
    passes, batch_size, known = 1, None, True
    for node in nodes:
        if isinstance(node, dataset_nodes.RepeatDataset):
            if batch_size is not None:
                raise ValueError("dataset.repeat() before dataset.batch() can put copies of one record into one "
                                 "batch, which no stated sensitivity covers. Call repeat() after batch().")
            passes *= max(node.count, 1)
        elif isinstance(node, dataset_nodes.BatchDataset):
            known &= batch_size is None
            batch_size = node.batch_size
        elif node is None or (node.children and not isinstance(node, _KEEPS_ROWS)):
            known = False
    known &= not _draws_with_replacement(nodes[-1]) and isinstance(batch_size, int)
    steps = dataset.get_dataset_size()
    if ranks.world > 1:
        _refuse_shared_records(nodes[-1], known, ranks)
    if not known:
        rows = dataset.get_batch_size() if not isinstance(batch_size, int) else batch_size
        return Sampling(FULL, max(rows, 1), max(rows, 1), ZERO_OUT)
    steps_per_pass = max(1, steps // passes)
    batch_size *= ranks.world
    return Sampling(SHUFFLE, steps_per_pass * batch_size, batch_size, ZERO_OUT, passes_per_epoch=passes,
                    steps_per_epoch=steps_per_pass, shards=ranks.world)


def _refuse_shared_records(source, known, ranks):
    """Raise unless this rank surely reads records that no other rank reads."""
    own = (getattr(source, "num_shards", None), getattr(source, "shard_id", None))
    if not known or own != (ranks.world, ranks.rank):
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


def _draws_with_replacement(source):
    sampler = getattr(source, "sampler", None)
    return isinstance(sampler, ds.WeightedRandomSampler) or getattr(sampler, "replacement", False) is True
