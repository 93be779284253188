"""The host's random stream: distributions with power, resolution, independence of keys."""
import numpy as np
import pytest
from scipy import stats

from mindarmour.utils.secure_random import KEY_BYTES, SecureStream, derive_key

SIZE = 200_000


@pytest.mark.parametrize("draw, distribution", [("normal", "norm"), ("laplace", "laplace"), ("uniform", "uniform")])
def test_distribution_and_power(draw, distribution):
    sample = getattr(SecureStream(derive_key("test", draw)), draw)(SIZE)
    assert stats.kstest(sample, distribution).pvalue > 1e-3
    assert stats.kstest(sample * 1.3, distribution).pvalue < 1e-9
    assert stats.kstest(sample * 0.7, distribution).pvalue < 1e-9


def test_uniform_is_strictly_inside_the_interval_at_the_extreme_words():
    class Extreme(SecureStream):
        def words(self, count):
            return np.array([0, 2 ** 64 - 1], np.uint64)

    low, high = Extreme().uniform(2)
    assert 0 < low < high < 1
    assert np.isfinite(Extreme().normal(2)).all()


def test_fresh_streams_differ_and_keyed_streams_agree():
    assert not np.array_equal(SecureStream().words(4), SecureStream().words(4))
    key = derive_key("seed", 1, 2)
    assert np.array_equal(SecureStream(key).words(4), SecureStream(key).words(4))
    assert derive_key("seed", 1, 2) != derive_key("seed", 12)
    stream = SecureStream(key)
    assert not np.array_equal(stream.words(4), stream.words(4))


def test_integers_are_uniform_without_bias():
    values = SecureStream(derive_key("integers")).integers(6, SIZE)
    assert stats.chisquare(np.bincount(values, minlength=6)).pvalue > 1e-3
    assert values.min() == 0 and values.max() == 5


def test_permutation_holds_every_index_once():
    order = SecureStream().permutation(1000)
    assert sorted(order) == list(range(1000)) and not np.array_equal(order, np.arange(1000))


@pytest.mark.parametrize("key", [b"short", "x" * KEY_BYTES, 7])
def test_bad_key_is_refused(key):
    with pytest.raises(ValueError, match="key must be 32 bytes"):
        SecureStream(key)


@pytest.mark.parametrize("high", [0, -1, 2 ** 63])
def test_bad_range_is_refused(high):
    with pytest.raises(ValueError, match="high must be from 1"):
        SecureStream().integers(high, 3)
