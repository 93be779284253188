"""Rows to try a network on."""
import numpy as np
import pytest
from mindspore import Tensor

from mindarmour.privacy.diff_privacy.grads.rows import different_rows, holes_filled, poisoned, separating_sets

ROWS = 8
RNG = np.random.default_rng(0)
X = RNG.normal(size=(ROWS, 4)).astype(np.float32)
Y = RNG.integers(0, 3, ROWS).astype(np.int32)


@pytest.mark.parametrize("rows", [1, 2, 3, 8, 70, 256])
def test_some_set_tells_every_two_rows_apart(rows):
    member = separating_sets(rows)
    apart = (member[:, :, None] & ~member[:, None, :]).any(axis=0) if rows > 1 else np.zeros((1, 1), bool)
    assert (apart | np.eye(rows, dtype=bool)).all()
    assert len(member) <= 2 * np.log2(max(rows, 2))


def test_rows_to_try_are_real_and_differ():
    columns = Tensor(np.repeat(X[:2], 4, axis=0)), Tensor(np.repeat(Y[:2], 4))
    filled = holes_filled(columns, np.array([1, 5]))[0].asnumpy()
    assert (filled[[1, 5]] == columns[0].asnumpy()[[1, 5]]).all() and len(np.unique(filled, axis=0)) == 2
    assert len(np.unique(different_rows(columns, 4)[0].asnumpy(), axis=0)) == 4
    floats, integers = (c.asnumpy() for c in poisoned((Tensor(X), Tensor(Y)), np.arange(ROWS) == 3, 2))
    assert not np.isfinite(floats[3]).any() and (floats[:3] == X[:3]).all() and integers[3] == Y.max()
