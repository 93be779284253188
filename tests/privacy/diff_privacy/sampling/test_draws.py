"""Draws at the cost of what is drawn: exact where floats are not, right in distribution with power, flat in N."""
import tracemalloc
from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mindarmour.privacy.diff_privacy.sampling import draws
from mindarmour.privacy.diff_privacy.sampling.draws import poisson_draw, subset_draw
from mindarmour.utils.secure_random import SecureStream

RATES = [Fraction(1, 2), Fraction(1, 3), Fraction(99, 100), Fraction(256, 60000), Fraction(1024, 10 ** 7),
         Fraction(10, 10 ** 8), Fraction(1, 10 ** 12)]


class Scripted(SecureStream):
    """Gives out the words that it was made with, one call after the other."""

    def __init__(self, *words):
        super().__init__()
        self.given = [int(word) for word in words]

    def words(self, count):
        taken, self.given = self.given[:count], self.given[count:]
        assert len(taken) == count, "more words drawn than foreseen"
        return np.array(taken, np.uint64)


def digits_of_power(rate, gap, words):
    """floor((1 - rate)^gap * 2^(64 * words)), exactly enough."""
    with localcontext() as context:
        context.prec = 200 + 20 * words
        power = (Decimal((1 - rate).numerator) / Decimal((1 - rate).denominator)) ** gap
        return int(power * 2 ** (64 * words))


def split(value, words):
    return [value >> 64 * (words - 1 - i) & (2 ** 64 - 1) for i in range(words)]


EDGES = [(rate, gap, words) for rate in RATES for gap in (1, 2, 7, 1000) for words in (1, 2, 3)
         if gap < 2 or rate < Fraction(98, 100) and (gap < 10 or rate < Fraction(1, 4))]


@pytest.mark.parametrize("rate, gap, words", EDGES)
def test_a_gap_on_the_edge_is_decided_by_further_digits(rate, gap, words):
    # U agrees with (1 - q)^g in its first digits and lies just below or just above it
    edge = digits_of_power(rate, gap, words)
    assert edge > 0
    below, above = split(edge - 1, words) + [0, 5], split(edge + 1, words) + [0, 5]
    assert draws._exact_gap(below[0], rate, 10 ** 15, Scripted(*below[1:])) == gap
    assert draws._exact_gap(above[0], rate, 10 ** 15, Scripted(*above[1:])) == gap - 1


@settings(max_examples=60, deadline=None)
@given(words=st.lists(st.integers(0, 2 ** 64 - 1), min_size=1, max_size=20), rate=st.sampled_from(RATES))
def test_floats_decide_as_the_exact_arithmetic_does(words, rate):
    fast = draws._gaps(len(words), rate, 10 ** 15, Scripted(*words, *[77] * 50))
    exact = [draws._exact_gap(word, rate, 10 ** 15, Scripted(*[77] * 50)) for word in words]
    assert fast.tolist() == exact


@pytest.mark.parametrize("rate", RATES)
def test_words_at_the_edges_go_the_exact_way(rate):
    edges = [digits_of_power(rate, gap, 1) + off for gap in (1, 2, 5, 50) for off in (-1, 0, 1)]
    words = [word for word in edges if 0 <= word < 2 ** 64] + [0, 1, 2 ** 32 - 1, 2 ** 64 - 1]
    fast = draws._gaps(len(words), rate, 10 ** 15, Scripted(*words, *[2 ** 63] * 80))
    exact = [draws._exact_gap(word, rate, 10 ** 15, Scripted(*[2 ** 63] * 80)) for word in words]
    assert fast.tolist() == exact


def test_hardly_any_gap_needs_the_exact_way(monkeypatch):
    calls, exact = [], draws._exact_gap
    monkeypatch.setattr(draws, "_exact_gap", lambda *a: calls.append(1) or exact(*a))
    draws._gaps(1_000_000, Fraction(1024, 10 ** 7), 10 ** 7, SecureStream())
    assert len(calls) < 10


@pytest.mark.parametrize("count, rate", [(50, Fraction(1, 5)), (50, Fraction(9, 10)), (7, Fraction(1, 2))])
def test_poisson_draws_are_independent_coins(count, rate):
    steps, stream = 6000, SecureStream()
    table = np.zeros((steps, count), bool)
    for step in range(steps):
        drawn = poisson_draw(count, rate, stream)
        assert (np.diff(drawn) > 0).all()
        table[step, drawn] = True
    q = float(rate)
    counts, variance = table.sum(axis=0), steps * q * (1 - q)
    assert stats.chi2.sf(((counts - steps * q) ** 2).sum() / variance, count) > 1e-4
    total = int(counts.sum())
    assert stats.binomtest(total, steps * count, q).pvalue > 1e-5
    for wrong in (0.97 * q, q + 0.03 * (1 - q)):
        assert stats.binomtest(total, steps * count, wrong).pvalue < 0.05, "a rate that is 3% off would be seen"
    sizes = np.bincount(table.sum(axis=1), minlength=count + 1)
    expected = steps * stats.binom.pmf(np.arange(count + 1), count, q)
    keep = expected > 8
    assert stats.chi2.sf(((sizes[keep] - expected[keep]) ** 2 / expected[keep]).sum(), keep.sum()) > 1e-4
    pairs = np.corrcoef(table.T)[np.triu_indices(count, 1)] * np.sqrt(steps)
    lags = [np.corrcoef(table[:-1, i], table[1:, i])[0, 1] * np.sqrt(steps) for i in range(count)]
    assert np.abs(pairs).max() < 5.5 and np.abs(lags).max() < 5


def test_the_ends_are_drawn_like_everybody_and_rate_1_draws_all():
    stream = SecureStream()
    ends = np.zeros(2)
    for _ in range(4000):
        drawn = poisson_draw(10 ** 9, Fraction(5, 10 ** 9), stream)
        ends += [(drawn < 10 ** 8).sum(), (drawn >= 9 * 10 ** 8).sum()]
        assert not len(drawn) or drawn[-1] < 10 ** 9
    assert (stats.poisson.sf(ends.max(), 2000) > 1e-5) and (stats.poisson.cdf(ends.min(), 2000) > 1e-5)
    assert poisson_draw(6, Fraction(1), stream).tolist() == list(range(6))
    assert set(map(tuple, (poisson_draw(1, Fraction(1, 2), stream) for _ in range(50)))) == {(), (0,)}


@pytest.mark.parametrize("count, size", [(20, 5), (20, 8), (20, 20), (1000, 3), (5, 0)])
def test_subsets_are_uniform_and_in_random_order(count, size):
    stream = SecureStream()
    drawn = np.array([subset_draw(count, size, stream) for _ in range(3000)])
    assert drawn.shape == (3000, size)
    assert all(len(set(row)) == size for row in drawn)
    for place in range(min(size, 5)):
        blocks = np.bincount(drawn[:, place] * 5 // count, minlength=5)
        assert stats.chisquare(blocks).pvalue > 1e-5


def test_cost_follows_what_is_drawn_not_the_records():
    stream = SecureStream()
    tracemalloc.start()
    poisson_draw(10 ** 12, Fraction(1000, 10 ** 12), stream)
    subset_draw(10 ** 12, 1000, stream)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2e6


@pytest.mark.parametrize("rate", [Fraction(0), Fraction(-1, 2), Fraction(3, 2)])
def test_bad_rates_are_refused(rate):
    with pytest.raises(ValueError, match="rate"):
        poisson_draw(5, rate, SecureStream())
    with pytest.raises(ValueError, match="size"):
        subset_draw(5, 6, SecureStream())
