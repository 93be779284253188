"""Float32 normals: distribution with power, tails, extreme words, and no word used twice."""
import numpy as np
import pytest
from scipy import stats

from mindarmour.privacy.diff_privacy.noise import normals
from mindarmour.privacy.diff_privacy.noise.normals import standard_normals
from mindarmour.utils.secure_random import SecureStream, derive_key

COUNT = 4_000_000


class Words:
    """A stream of given words, which counts how many were taken."""

    def __init__(self, *words):
        self.words, self.taken = words, 0

    def fill(self, buffer):
        for place in range(len(buffer)):
            buffer[place] = self.words[min(self.taken, len(self.words) - 1)]
            self.taken += 1


@pytest.fixture(scope="module")
def sample():
    return standard_normals(SecureStream(derive_key("normals")), COUNT)


def test_distribution_and_power(sample):
    assert sample.dtype == np.float32
    assert stats.kstest(sample, "norm").pvalue > 1e-3
    assert stats.kstest(sample[:100_000] * 1.02, "norm").pvalue < 1e-3
    for scale in (0.7, 1.3):
        assert stats.kstest(sample[:10_000] * scale, "norm").pvalue < 1e-9


def test_moments(sample):
    wide = sample.astype(np.float64)
    for power, expected, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs((wide ** power).mean() - expected) < 4 * np.sqrt(variance / COUNT)


@pytest.mark.parametrize("limit", [2.5, 3.0, 3.5, 4.0, 4.5])
def test_tails(sample, limit):
    for tail in (sample, -sample):
        expected = COUNT * stats.norm.sf(limit)
        assert abs((tail > limit).sum() - expected) < 4 * np.sqrt(expected)


def test_seam_between_32_and_64_bits():
    """Radii on both sides of the word where more bits are taken: their squares are exponential there too."""
    edge = -2 * np.log(2.0 ** -12)
    values = standard_normals(SecureStream(derive_key("seam")), 2 * COUNT).astype(np.float64)
    chunks = values.reshape(-1, 2, normals._PAIRS) if len(values) % (2 * normals._PAIRS) == 0 else \
        values[:len(values) // (2 * normals._PAIRS) * 2 * normals._PAIRS].reshape(-1, 2, normals._PAIRS)
    squares = (chunks ** 2).sum(axis=1).ravel()
    beyond = squares[squares > edge - 1] - (edge - 1)
    assert len(beyond) > 1000
    assert stats.kstest(beyond / 2, "expon").pvalue > 1e-3


def test_numbers_of_a_pair_and_of_neighbours_are_uncorrelated(sample):
    pairs = sample[:len(sample) // (2 * normals._PAIRS) * 2 * normals._PAIRS].reshape(-1, 2, normals._PAIRS)
    cosines, sines = pairs[:, 0].ravel(), pairs[:, 1].ravel()
    for one, other in ((cosines, sines), (cosines ** 2, sines ** 2), (sample[1:], sample[:-1])):
        assert abs(np.corrcoef(one, other)[0, 1]) < 4 / np.sqrt(len(one))


def test_extreme_words():
    everything = 2 ** 32 - 1
    deepest = standard_normals(Words(0, 0, 0), 2)
    assert deepest[0] > 9.4 and abs(deepest[1]) < 1e-6
    assert np.isfinite(standard_normals(Words(everything), 2)).all()
    assert np.isfinite(standard_normals(Words(0, everything, everything), 2)).all()
    first_coarse = standard_normals(Words(int(normals._TAIL), 0), 1)[0]
    last_fine = standard_normals(Words(int(normals._TAIL) - 1, 0, everything), 1)[0]
    assert first_coarse == pytest.approx(last_fine, rel=1e-6)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7, 2 * normals._PAIRS, 2 * normals._PAIRS + 1])
def test_any_count(count):
    values = standard_normals(SecureStream(), count)
    assert values.shape == (count,) and np.isfinite(values).all()
    assert len(np.unique(values)) >= 0.99 * count


def test_no_word_serves_two_calls():
    stream = SecureStream(derive_key("twice"))
    draws = [standard_normals(stream, 1000) for _ in range(20)]
    draws += [standard_normals(stream, 2 * normals._PAIRS)[:1000]]
    assert len({draw.tobytes() for draw in draws}) == len(draws)
    assert not np.shares_memory(draws[0], draws[1])
