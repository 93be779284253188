"""Padded batches: fixed shapes, a mask column, real rows at random places."""
import mindspore.dataset as ds
import numpy as np

MASK_COLUMN = "is_real"
HOLE = -1


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
    """Iterable of physical batches: drawn rows, holes of zeros, and the mask that tells them apart.

    Args:
        columns (list): Indexable columns of N rows.
        draws (Callable): Called at the start of an epoch, returns the epoch's batches: arrays of record numbers, all
            of one size, with `HOLE` where no record stands.
        steps (int): Steps per epoch.
        sampling (Sampling): The claim.
    """

    def __init__(self, columns, draws, steps, sampling):
        self.columns = columns
        self._draws = draws
        self._steps = steps
        self.sampling = sampling
        first = [np.asarray(column[np.arange(1)]) for column in columns]
        self._rows = [(row.shape[1:], row.dtype) for row in first]

    def __len__(self):
        return self._steps

    def __iter__(self):
        for places in self._draws():
            yield tuple(self._batch(places))

    def _batch(self, places):
        real = places != HOLE
        for column, (shape, dtype) in zip(self.columns, self._rows):
            batch = np.zeros((len(places), *shape), dtype)
            if real.any():
                batch[real] = column[places[real]]
            yield batch
        yield real.astype(np.float32)


def at_random_places(records, size, stream):
    """Array of `size` places with the records at random ones and holes elsewhere; surplus records are cut at random.

    A missing record leaves a hole (or, where some were cut, one other record in its place) and moves no other.
    """
    order = stream.permutation(max(len(records), size))[:len(records)]
    places = np.full(size, HOLE)
    places[order[order < size]] = records[order < size]
    return places
