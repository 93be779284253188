"""Every way in which a record can take part: the definition that formulas of the sensitivity are held against."""
import itertools

import numpy as np


def toeplitz_matrix(column, steps):
    """Lower triangular Toeplitz matrix of a first column, zero beyond it."""
    padded = np.zeros(steps)
    padded[:min(len(column), steps)] = column[:steps]
    return np.array([[padded[i - j] if i >= j else 0.0 for j in range(steps)] for i in range(steps)])


def spaced_patterns(steps, min_sep, participations):
    """All non-empty sets of at most `participations` steps that are at least `min_sep` apart."""
    for count in range(1, participations + 1):
        for pattern in itertools.combinations(range(steps), count):
            if all(b - a >= min_sep for a, b in zip(pattern, pattern[1:])):
                yield pattern


def once_per_epoch_patterns(lengths):
    """One step of each epoch, for epochs of these lengths."""
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    yield from itertools.product(*(range(start, start + length) for start, length in zip(starts, lengths)))


def enumerated(matrix, patterns):
    """Largest sensitivity over patterns, contributions in the worst directions: the sum over |C^T C|."""
    products = np.abs(matrix.T @ matrix)
    return max(np.sqrt(products[np.ix_(pattern, pattern)].sum()) for pattern in patterns)
