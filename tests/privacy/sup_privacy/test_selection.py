"""The choice of weights against a sort, and what small layers undergo besides."""
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mindarmour.privacy.sup_privacy.sup_ctrl.selection import adjust_kept, grow_suppression, suppressed_count

PLAIN = {"is_add_noise": False, "is_lower_clip": False, "upper_bound": 1e9}


def by_sorting(weights, kept, count):
    """The slow way: suppressed ones first, then by magnitude, then by position."""
    order = sorted(range(len(weights)), key=lambda i: (kept[i], abs(weights[i]), i))
    result = kept.copy()
    result[order[:max(count, int((~kept).sum()))]] = False
    return result


@given(st.integers(1, 60), st.integers(0, 2**31), st.booleans())
@settings(max_examples=200, deadline=None)
def test_equals_sorting(size, seed, ties):
    rng = np.random.default_rng(seed)
    weights = (rng.integers(-3, 4, size) if ties else rng.normal(size=size)).astype(np.float32)
    kept = rng.random(size) > 0.3
    count = int(rng.integers(0, size + 1))
    chosen = grow_suppression(weights, kept, count)
    np.testing.assert_array_equal(chosen, by_sorting(weights, kept, count))
    assert not np.any(chosen & ~kept)
    assert (~chosen).sum() == max(count, (~kept).sum())


def test_suppressed_stay_so_whatever_they_became():
    kept = np.array([False, True, True])
    np.testing.assert_array_equal(grow_suppression(np.array([9.0, 1.0, 2.0]), kept, 2), [False, False, True])


@pytest.mark.parametrize(("size", "sparsity", "min_num", "count"), [
    (2400, 0.95, -1, 2280), (100, 0.29, -1, 29), (150, 0.95, 10, 140), (840, 0.95, 50, 790), (48000, 0.95, -1, 45600),
    (10, 0.99, 0, 9), (3, 0.0, -1, 0)])
def test_count(size, sparsity, min_num, count):
    assert suppressed_count(size, sparsity, min_num) == count


def test_floor_lifts_kept_weights_only():
    weights = np.array([0.001, -0.001, 0.005, -0.3, 0.0, 0.002], np.float32)
    kept = np.array([1, 1, 1, 1, 1, 0], bool)
    changed = adjust_kept(weights, kept, **{**PLAIN, "is_lower_clip": True}, rng=np.random.default_rng(0))
    np.testing.assert_allclose(changed, [0.005, -0.005, 0.005, -0.3, 0.005, 0.002], rtol=1e-6)
    assert changed.dtype == weights.dtype


@pytest.mark.parametrize(("bound", "expected"), [(1.2, 1.2), (0.01, 0.1)])
def test_cap(bound, expected):
    changed = adjust_kept(np.array([5.0, -5.0, 0.05]), np.ones(3, bool), **{**PLAIN, "upper_bound": bound},
                          rng=np.random.default_rng(0))
    np.testing.assert_allclose(changed, [expected, -expected, 0.05])


def test_noise_is_uniform_on_large_weights():
    weights = np.repeat(np.array([0.8, -0.8, 0.5, 0.1]), 5000)
    changed = adjust_kept(weights, np.ones(20000, bool), **{**PLAIN, "is_add_noise": True},
                          rng=np.random.default_rng(4))
    noise = (changed - weights).reshape(4, -1)
    assert np.all(noise[2:] == 0)
    assert np.abs(noise).max() <= 0.1
    # uniform on [-0.1, 0.1]: standard deviation 0.0577; 10,000 draws settle it to about 0.5 %
    assert noise[:2].std() == pytest.approx(0.2 / np.sqrt(12), rel=0.02)
    assert abs(noise[:2].mean()) < 0.002


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_masks_grow_over_weights_that_diverged(value):
    kept = np.array([False, True, True, True])
    weights = np.array([0, value, value, 1.0], np.float32)
    np.testing.assert_array_equal(grow_suppression(weights, kept, 2), [False, True, True, False])
    np.testing.assert_array_equal(grow_suppression(weights, kept, 3), [False, False, True, False])
    np.testing.assert_array_equal(grow_suppression(weights, kept, 1), kept)
