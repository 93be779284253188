"""Samplers: who takes part in a step. The sampler owns the privacy claim.

A sampler turns data into a MindSpore dataset of physical batches of one fixed size with a mask column `is_real`;
`DPModel.train` reads from the dataset which claim it may make. A dataset that comes from no sampler gets the claim
that holds for it: a shuffled partition, without amplification.

References:
    Chua et al. 2024, "How private are DP-SGD implementations?" and "Scalable DP-SGD": shuffling can be far worse
    than Poisson sampling, whose batches a fixed physical size serves by truncation at a harmless cap.
"""
import copy
import math

import mindspore.dataset as ds
import numpy as np
from scipy.special import bdtrc

from mindarmour.privacy.accounting.events import (
    ADD_OR_REMOVE,
    FULL,
    POISSON,
    SHUFFLE,
    ZERO_OUT,
    Sampling,
)
from mindarmour.privacy.diff_privacy.parallel import Ranks, current_ranks
from mindarmour.utils import _validate
from mindarmour.utils.secure_random import SecureStream, derive_key

MASK_COLUMN = "is_real"
_ALONE = Ranks()
# Probability that one step draws more than the physical batch holds: with it, even a million steps at epsilon 10
# add less than 1e-6 to delta, and the accountant adds what they do.
OVERFLOW_PROBABILITY = 1e-16


def physical_batch_size(num_examples, batch_size, probability=OVERFLOW_PROBABILITY):
    """Smallest size that a Poisson batch of expected `batch_size` exceeds with at most `probability`."""
    rate = batch_size / num_examples
    low, high = math.ceil(batch_size), num_examples
    while low < high:
        middle = (low + high) // 2
        if bdtrc(middle, num_examples, rate) <= probability:
            high = middle
        else:
            low = middle + 1
    return low


def gather_rows(data):
    """Data as a list of columns that can be indexed by an integer array.

    `data` may be a tuple of arrays [N, ...], a MindSpore dataset with one example a row (read into memory once), or
    a random-access source (`__len__`, and `__getitem__` that returns the columns of one example).
    """
    if isinstance(data, ds.Dataset):
        rows = data.create_tuple_iterator(num_epochs=1, output_numpy=True)
        return [np.stack(column) for column in zip(*rows)]
    if isinstance(data, (tuple, list)):
        columns = [np.asarray(column) for column in data]
        if not columns or any(column.ndim == 0 or len(column) != len(columns[0]) for column in columns):
            raise ValueError(f"data must be arrays with the same number of rows, but got shapes "
                             f"{[column.shape for column in columns]}.")
        return columns
    if not (hasattr(data, "__getitem__") and hasattr(data, "__len__")):
        raise TypeError(f"data must be a tuple of arrays, a MindSpore dataset or a random-access source with "
                        f"__len__ and __getitem__, but got {type(data).__name__}.")
    return [_SourceColumn(data, position) for position in range(len(data[0]))]


class _SourceColumn:
    """One column of a random-access source, indexable like an array."""

    def __init__(self, source, position):
        self._source = source
        self._position = position

    def __len__(self):
        return len(self._source)

    def __getitem__(self, index):
        return np.stack([np.asarray(self._source[int(i)][self._position]) for i in index])


class PaddedBatches:
    """Iterable of physical batches: the drawn rows first, then rows of zeros, and the mask.

    Args:
        columns (list): Indexable columns of N rows.
        draws (Callable): Called at the start of an epoch, returns the epoch's index arrays.
        steps (int): Steps per epoch.
        size (int): Physical batch size.
        sampling (Sampling): The claim.
    """

    def __init__(self, columns, draws, steps, size, sampling):
        self.columns = columns
        self._draws = draws
        self._steps = steps
        self._size = size
        self.sampling = sampling
        first = [np.asarray(column[np.arange(1)]) for column in columns]
        self._rows = [(row.shape[1:], row.dtype) for row in first]

    def __len__(self):
        return self._steps

    def __iter__(self):
        for index in self._draws():
            yield tuple(self._batch(index))

    def _batch(self, index):
        for column, (shape, dtype) in zip(self.columns, self._rows):
            batch = np.zeros((self._size, *shape), dtype)
            if len(index):
                batch[:len(index)] = column[index]
            yield batch
        yield (np.arange(self._size) < len(index)).astype(np.float32)


class PoissonSampler:
    """Each example joins each batch independently with probability batch_size / N.

    Args:
        batch_size (int): Expected batch size, over all ranks; the fixed public divisor of the sum.
        steps_per_epoch (int, optional): Default: N / batch_size, rounded.
        max_batch_size (int, optional): Physical batch size. Default: large enough that a step draws more with
            probability at most 1e-16. A larger draw is cut down to it at random; the accountant adds what that
            costs. Under data parallelism the ranks share it evenly.
        seed (int): 0 draws from operating-system entropy, as the privacy claim needs; another seed is reproducible.

    Guarantee:
        Poisson sampling under add-or-remove (units of one example) or zero-out (larger units). Under data
        parallelism each rank draws, independently and at the same rate, from every world-th record: together that
        is Poisson sampling from all records.

    Examples:
        >>> import numpy as np
        >>> from mindarmour.privacy.diff_privacy import PoissonSampler
        >>> images, labels = np.zeros((1000, 1, 32, 32), np.float32), np.zeros(1000, np.int32)
        >>> dataset = PoissonSampler(batch_size=100).dataset((images, labels), ["image", "label"])
        >>> dataset.get_dataset_size(), dataset.get_col_names()
        (10, ['image', 'label', 'is_real'])
    """

    def __init__(self, batch_size, steps_per_epoch=None, max_batch_size=None, seed=0):
        self.batch_size = _validate.integer("batch_size", batch_size, low=1)
        self.steps_per_epoch = steps_per_epoch
        if steps_per_epoch is not None:
            _validate.integer("steps_per_epoch", steps_per_epoch, low=1)
        self.max_batch_size = max_batch_size
        if max_batch_size is not None:
            _validate.integer("max_batch_size", max_batch_size, low=self.batch_size)
        self.seed = _validate.integer("seed", seed, low=0)
        self._epochs = 0

    def dataset(self, data, column_names=("image", "label")):
        """A dataset of padded batches over `data`, with the mask as last column. See `gather_rows` for `data`.

        Under data parallelism hand the whole data to every rank, in the same order.
        """
        columns = gather_rows(data)
        if len(columns) != len(column_names):
            raise ValueError(f"column_names must name the {len(columns)} columns of data, but got "
                             f"{list(column_names)}.")
        count = len(columns[0])
        _validate.integer("batch_size", self.batch_size, low=1, high=count)
        ranks = current_ranks()
        size, largest_shard = self._physical_size(count, ranks.world)
        sampling = Sampling(POISSON, count, self.batch_size, ADD_OR_REMOVE,
                            max_batch_size=size if size < largest_shard else None, shards=ranks.world)
        steps = self.steps_per_epoch or max(1, round(count / self.batch_size))
        batches = PaddedBatches(columns, self._draws_of(count, steps, size, ranks), steps, size, sampling)
        return ds.GeneratorDataset(batches, [*column_names, MASK_COLUMN], shuffle=False)

    def _physical_size(self, count, world):
        """(rows of a rank's batch, records of the largest shard)."""
        shard = math.ceil(count / world)
        if self.max_batch_size is not None:
            return min(math.ceil(self.max_batch_size / world), shard), shard
        return min(physical_batch_size(shard, self.batch_size / count * shard), shard), shard

    def _draws_of(self, count, steps, size, ranks):
        rate = self.batch_size / count
        shard = np.arange(ranks.rank, count, ranks.world)

        def draws():
            key = None if self.seed == 0 else derive_key("poisson", self.seed, self._epochs, ranks.rank)
            stream = SecureStream(key)
            self._epochs += 1
            for _ in range(steps):
                index = shard[stream.uniform(len(shard)) < rate]
                if len(index) > size:
                    index = np.sort(index[stream.permutation(len(index))[:size]])
                yield index

        return draws


_KEEPS_ROWS = (ds.engine.datasets.MapDataset, ds.engine.datasets.ProjectDataset, ds.engine.datasets.RenameDataset,
               ds.engine.datasets.ShuffleDataset, ds.engine.datasets.SkipDataset, ds.engine.datasets.TakeDataset,
               ds.engine.datasets.FilterDataset)


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
        Sampling, of all ranks together. From one of this module's samplers: its claim. From a pipeline that visits
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
            if not isinstance(node, (ds.engine.datasets.MapDataset, ds.engine.datasets.ProjectDataset,
                                     ds.engine.datasets.RenameDataset)):
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
        if isinstance(node, ds.engine.datasets.RepeatDataset):
            if batch_size is not None:
                raise ValueError("dataset.repeat() before dataset.batch() can put copies of one record into one "
                                 "batch, which no stated sensitivity covers. Call repeat() after batch().")
            passes *= max(node.count, 1)
        elif isinstance(node, ds.engine.datasets.BatchDataset):
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
