"""The host's random stream: distributions with power, resolution, independence of keys, forks, threads and copies."""
import copy
import math
import multiprocessing
import os
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

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


def test_uniform_numbers_have_52_random_bits():
    uniform = SecureStream(derive_key("bits")).uniform(4000)
    whole = (uniform * 2.0 ** 53).astype(np.uint64)
    assert (whole.astype(float) == uniform * 2.0 ** 53).all() and (whole % 2 == 1).all()
    for bit in range(1, 53):
        share = ((whole >> np.uint64(bit)) & np.uint64(1)).mean()
        assert abs(share - 0.5) < 5 * 0.5 / math.sqrt(4000)


class Scripted(SecureStream):
    """Gives out the arrays of words that it was made with."""

    def __init__(self, *drawn):
        super().__init__()
        self.drawn = [np.array(words, np.uint64) for words in drawn]

    def words(self, count):
        return self.drawn.pop(0)


def test_permutation_uses_all_bits_and_redraws_equal_words():
    assert Scripted(range(100, 0, -1)).permutation(100).tolist() == list(range(99, -1, -1))
    assert Scripted([5, 7, 5], [9, 8, 7]).permutation(3).tolist() == [2, 1, 0]
    assert SecureStream().permutation(0).tolist() == []


def test_words_beyond_the_last_whole_multiple_are_redrawn():
    assert Scripted([2 ** 64 - 1, 5], [7]).integers(3 * 2 ** 61, 2).tolist() == [7, 5]


@pytest.mark.parametrize("high", [1, 2, 3, 5, 255, 256, 257])
def test_one_integer_is_uniform_at_any_range(high):
    stream = SecureStream(derive_key("integer", high))
    counts = np.bincount([stream.integer(high) for _ in range(20_000)], minlength=high)
    assert len(counts) == high
    if high > 1:
        assert stats.chisquare(counts).pvalue > 1e-4
        assert stats.chisquare(counts + (np.arange(high) == 0) * 1500).pvalue < 1e-9


def test_integers_beyond_machine_words():
    high = 3 * 2 ** 200
    drawn = [SecureStream().integer(high) for _ in range(3000)]
    thirds = np.bincount([value // 2 ** 200 for value in drawn], minlength=3)
    assert len(thirds) == 3 and stats.chisquare(thirds).pvalue > 1e-4
    assert abs(np.mean([value % 2 for value in drawn]) - 0.5) < 0.05


@pytest.mark.parametrize("numerator, denominator", [(0, 7), (7, 7), (1, 3), (2, 3), (10 ** 20, 3 * 10 ** 20)])
def test_bernoulli_has_exactly_the_stated_probability(numerator, denominator):
    stream = SecureStream()
    count = sum(stream.bernoulli(numerator, denominator) for _ in range(20_000))
    expected = numerator / denominator
    assert stats.binomtest(count, 20_000, expected).pvalue > 1e-5
    if 0 < numerator < denominator:
        assert stats.binomtest(count, 20_000, expected * 1.15).pvalue < 1e-9

    class Every(SecureStream):
        def integer(self, high):
            return next(self.values)

    if denominator < 10:
        every = Every()
        every.values = iter(range(denominator))
        assert sum(every.bernoulli(numerator, denominator) for _ in range(denominator)) == numerator


def test_bad_integers_are_refused():
    with pytest.raises(ValueError, match="high must be at least 1"):
        SecureStream().integer(0)
    for numerator, denominator in ((-1, 3), (4, 3)):
        with pytest.raises(ValueError, match="numerator must be from 0"):
            SecureStream().bernoulli(numerator, denominator)


def forked(draw, children=3):
    """What `draw` returns, as bytes, in forked children."""
    results = []
    for _ in range(children):
        out, into = os.pipe()
        if os.fork() == 0:
            os.write(into, draw())
            os._exit(0)
        os.wait()
        results.append(os.read(out, 4096))
        os.close(out)
        os.close(into)
    return results


def test_forks_of_a_stream_draw_for_themselves():
    stream = SecureStream()
    stream.words(3)
    draws = [*forked(lambda: stream.words(4).tobytes()), stream.words(4).tobytes()]
    grandchildren = forked(lambda: b"".join(forked(lambda: stream.words(4).tobytes(), 2)), 2)
    draws += [part for pair in grandchildren for part in (pair[:32], pair[32:])]
    assert len(set(draws)) == len(draws) == 8


def test_a_fork_is_noticed_by_its_process_id_and_by_the_count_of_forks(monkeypatch):
    from mindarmour.utils import secure_random
    for name, value in (("getpid", lambda: -1), (None, None)):
        stream = SecureStream()
        first = stream._stream
        if name:
            monkeypatch.setattr(os, name, value)
        else:
            monkeypatch.setattr(secure_random, "_forks", secure_random._forks + 1)
        stream.words(1)
        assert stream._stream is not first


def test_a_fork_does_not_wait_for_a_lock_that_nobody_will_release():
    for stream in (SecureStream(), SecureStream(derive_key("lock"))):
        with stream._lock:
            assert len(forked(lambda stream=stream: stream.words(1).tobytes(), 1)[0]) == 8


def _words(stream):
    return stream.words(4).tobytes()


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_of_a_pool_draw_for_themselves(method):
    stream = SecureStream()
    with multiprocessing.get_context(method).Pool(2) as pool:
        draws = pool.map(_words, [stream] * 6, chunksize=1)
    assert len({*draws, _words(stream)}) == 7


def test_threads_share_a_stream_without_repeating():
    stream, barrier = SecureStream(), threading.Barrier(8)

    def draw(_):
        barrier.wait()
        return [stream.words(1000).tobytes() for _ in range(20)]

    with ThreadPoolExecutor(8) as pool:
        draws = [words for part in pool.map(draw, range(8)) for words in part]
    assert len(set(draws)) == 160


def test_a_copy_is_a_new_stream_and_a_keyed_one_is_not_copied():
    stream = SecureStream()
    draws = {_words(s) for s in (stream, copy.copy(stream), copy.deepcopy(stream), pickle.loads(pickle.dumps(stream)))}
    assert len(draws) == 4
    for duplicate in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="would repeat"):
            duplicate(SecureStream(derive_key("copy")))


def test_forks_of_a_keyed_stream_repeat_as_documented():
    stream = SecureStream(derive_key("fork"))
    assert len({*forked(lambda: _words(stream)), _words(stream)}) == 1
