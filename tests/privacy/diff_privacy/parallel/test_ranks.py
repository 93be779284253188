"""Ranks, shards and shares of the noise, as far as one process can tell."""
import mindspore as ms
import mindspore.dataset as ds
import numpy as np
import pytest

from mindarmour.privacy.accounting import Ledger, StepEvent, privacy_spent
from mindarmour.privacy.accounting.events import POISSON, SHUFFLE
from mindarmour.privacy.accounting.legacy import AmortizedAccountant
from mindarmour.privacy.diff_privacy import ClipMechanismsFactory, PoissonSampler
from mindarmour.privacy.diff_privacy.noise.source import NoiseSource
from mindarmour.privacy.diff_privacy.parallel import ranks as parallel
from mindarmour.privacy.diff_privacy.parallel.agreement import require_agreement
from mindarmour.privacy.diff_privacy.parallel.ranks import (
    PLACEMENTS,
    RANK0,
    SLICES,
    Ranks,
    current_ranks,
    is_main_rank,
    outlive_sigterm,
)
from mindarmour.privacy.diff_privacy.parallel.sums import buckets_of
from mindarmour.privacy.diff_privacy.sampling import samplers as sampling
from mindarmour.privacy.diff_privacy.sampling.claims import claim_of
from mindarmour.privacy.diff_privacy.sampling.samplers import physical_batch_size
from mindarmour.privacy.release import DPSGD, AmortizedGaussianSanitizer

RECORDS, BATCH, WORLD = 1001, 64, 4


@pytest.fixture
def as_rank(monkeypatch):
    """Let samplers believe that they run on a rank."""
    def become(rank, world=WORLD):
        monkeypatch.setattr(sampling, "current_ranks", lambda: Ranks(rank, world))
    return become


@pytest.fixture
def parallel_mode():
    yield lambda mode: ms.set_auto_parallel_context(parallel_mode=mode)
    ms.reset_auto_parallel_context()


@pytest.mark.parametrize("arguments, error", [
    ((-1, 2), ValueError), ((2, 2), ValueError), ((0, 0), ValueError), ((0.0, 2), TypeError), ((0, True), TypeError),
    ((0, 2, "rank1"), ValueError), ((0, 2, None), ValueError), ((float("nan"), 2), TypeError)])
def test_ranks_refuse_bad_arguments(arguments, error):
    with pytest.raises(error):
        Ranks(*arguments)


@pytest.mark.parametrize("placement", [RANK0, SLICES])
@pytest.mark.parametrize("world", [1, 2, 3, 8])
def test_each_element_gets_the_noise_of_one_rank(placement, world):
    shapes = [(3, 2), (1,), (), (5,)]
    touched = sum(np.concatenate([z.ravel() for z in Ranks(rank, world, placement).normals(NoiseSource(), 0, shapes)])
                  != 0 for rank in range(world))
    np.testing.assert_array_equal(touched, 1)


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_noise_on_the_fraction_adds_up_to_its_deviation(placement):
    clip = ClipMechanismsFactory.create("Gaussian", fraction_stddev=0.05)
    sums = [sum(clip.fraction_noise(step, Ranks(rank, WORLD, placement)) for rank in range(WORLD))
            for step in range(4000)]
    assert np.std(sums) == pytest.approx(0.05, rel=0.06)


@pytest.mark.parametrize("seed", [0, 5])
@pytest.mark.parametrize("placement", PLACEMENTS)
def test_sum_of_the_shares_is_one_standard_normal(seed, placement):
    size, steps = 40000, 2
    sources = [NoiseSource(seed) for _ in range(WORLD)]  # what WORLD processes would make
    ranks = [Ranks(rank, WORLD, placement) for rank in range(WORLD)]
    sums = [sum(r.noise_share * r.normals(source, step, [(size,)])[0] for r, source in zip(ranks, sources))
            for step in range(steps)]
    for total in sums:
        assert np.std(total) == pytest.approx(1, rel=0.03)
    assert abs(np.corrcoef(*sums)[0, 1]) < 5 / size ** 0.5


def test_equal_seeds_give_ranks_independent_noise_that_repeats_on_the_same_rank():
    drawn = [NoiseSource(7).of_rank(rank).normals(3, [(20000,)])[0] for rank in (0, 1, 1)]
    assert abs(np.corrcoef(drawn[0], drawn[1])[0, 1]) < 5 / 20000 ** 0.5
    np.testing.assert_array_equal(drawn[1], drawn[2])


def test_a_rank_without_share_draws_nothing():
    zeros, = Ranks(1, 2, RANK0).normals(NoiseSource(), 0, [(2, 3)])
    assert zeros.shape == (2, 3) and zeros.dtype == np.float32 and not zeros.any()


def test_one_process_is_the_main_rank_of_a_world_of_one():
    assert current_ranks() == Ranks(0, 1) and is_main_rank()
    assert Ranks().rank_sum([(2,)]) is None and Ranks().step_sum([(2,)]) is None
    require_agreement(Ranks(), {"anything": 1})


def test_a_mechanism_for_one_process_refuses_several_ranks(monkeypatch):
    monkeypatch.setattr(parallel, "current_ranks", lambda: Ranks(0, 2))
    network = ms.nn.Dense(2, 2)
    with pytest.raises(ValueError, match="DPSGD serves one process"):
        DPSGD(network.trainable_params(), 0.1)
    with pytest.raises(ValueError, match="AmortizedGaussianSanitizer serves one process"):
        AmortizedGaussianSanitizer(AmortizedAccountant(100))


def test_rank_0_alone_draws_what_one_process_draws():
    shapes = [(3, 2), (4,)]
    for own, single in zip(Ranks(0, WORLD, RANK0).normals(NoiseSource(5), 2, shapes),
                           NoiseSource(5).normals(2, shapes)):
        np.testing.assert_array_equal(own, single)


def test_a_split_model_is_refused(parallel_mode):
    parallel_mode("semi_auto_parallel")
    with pytest.raises(ValueError, match="semi_auto_parallel"):
        current_ranks()


@pytest.mark.parametrize("sizes, expected", [
    ([3, 3, 3], [[0, 1], [2]]), ([9, 1], [[0], [1]]), ([1, 9, 1], [[0], [1], [2]]), ([6], [[0]]),
    ([2, 2, 2], [[0, 1, 2]])])
def test_buckets_hold_every_tensor_once_in_order(sizes, expected):
    buckets = buckets_of(sizes, 6)
    assert [[i for i, _, _ in bucket] for bucket in buckets] == expected
    for bucket in buckets:
        assert [stop - start for _, start, stop in bucket] == [sizes[i] for i, _, _ in bucket]
        assert [start for _, start, _ in bucket] == [0, *[stop for _, _, stop in bucket]][:-1]


def test_lost_ranks_are_explained_and_other_errors_are_not():
    with pytest.raises(RuntimeError, match="Another rank has stopped.*cannot add.*last checkpoint"), \
            Ranks(0, 2).explain_lost("add"):
        raise RuntimeError("Launch kernel failed, name:Default/AllReduce-op0")
    with pytest.raises(RuntimeError, match="^out of memory$"), Ranks(0, 2).explain_lost("add"):
        raise RuntimeError("out of memory")


def test_a_stopped_rank_says_why():
    import os
    import signal
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(RuntimeError, match="Another rank has stopped"), outlive_sigterm(Ranks(0, 2)):
        os.kill(os.getpid(), signal.SIGTERM)
        signal.sigtimedwait([], 1)
    assert signal.getsignal(signal.SIGTERM) is before


def test_shards_are_disjoint_and_together_poisson(as_rank):
    rows = np.arange(RECORDS)
    counts = np.zeros(RECORDS)
    steps = 300
    totals = np.zeros(steps)
    for rank in range(WORLD):
        as_rank(rank)
        dataset = PoissonSampler(BATCH, steps_per_epoch=steps).dataset((rows,), ["row"])
        assert claim_of(dataset, Ranks(rank, WORLD)) == claim_of(dataset, Ranks(0, WORLD))
        for step, (row, is_real) in enumerate(dataset.create_tuple_iterator(num_epochs=1, output_numpy=True)):
            own = row[is_real > 0]
            assert (own % WORLD == rank).all() and len(np.unique(own)) == len(own)
            counts[own] += 1
            totals[step] += len(own)
    rate = BATCH / RECORDS
    assert counts.mean() / steps == pytest.approx(rate, rel=0.02)
    # binomial, as if one sampler had drawn from all records: a common draw on all ranks would double the spread
    assert totals.std() == pytest.approx((RECORDS * rate * (1 - rate)) ** 0.5, rel=0.2)


def test_equal_sampler_seeds_draw_independently_on_each_rank(as_rank):
    drawn = []
    for rank in range(2):
        as_rank(rank, 2)
        dataset = PoissonSampler(500, steps_per_epoch=1, seed=3).dataset((np.arange(2000),), ["row"])
        row, is_real = next(dataset.create_tuple_iterator(num_epochs=1, output_numpy=True))
        drawn.append(np.isin(np.arange(rank, 2000, 2), row[is_real > 0]))
    assert abs(np.corrcoef(*drawn)[0, 1]) < 5 / 1000 ** 0.5


def test_claim_of_a_sampler_is_that_of_all_ranks(as_rank):
    as_rank(1)
    claim = claim_of(PoissonSampler(BATCH).dataset((np.arange(RECORDS),), ["row"]), Ranks(1, WORLD))
    assert (claim.kind, claim.num_examples, claim.batch_size, claim.shards) == (POISSON, RECORDS, BATCH, WORLD)
    shard = -(-RECORDS // WORLD)
    assert claim.max_batch_size == physical_batch_size(shard, BATCH / RECORDS * shard) < BATCH


def test_sampler_made_before_the_parallel_mode_is_refused():
    dataset = PoissonSampler(BATCH).dataset((np.arange(RECORDS),), ["row"])
    with pytest.raises(ValueError, match="1 shards, but 4 ranks"):
        claim_of(dataset, Ranks(0, WORLD))


def test_cut_batches_of_a_shard_cost_what_that_shard_says():
    def epsilon(**claim):
        ledger = Ledger()
        ledger.record(StepEvent(sampling.Sampling(POISSON, 4000, 400, "add-or-remove", **claim), 1.0), 50)
        return privacy_spent(ledger.entries, 1e-5).epsilon

    whole, shards = epsilon(), epsilon(max_batch_size=200, shards=4)
    # 200 of a shard of 1000 at rate 0.1 is far out; of 4000 records it would be cut in every step
    assert whole == pytest.approx(shards, rel=1e-6) and epsilon(max_batch_size=200) > 2 * whole


def source(count, **arguments):
    return ds.NumpySlicesDataset((np.arange(count),), ["row"], **arguments)


def test_partition_of_own_shards_claims_the_union():
    own = source(96, num_shards=2, shard_id=1).shuffle(96).batch(8, drop_remainder=True)
    claim = claim_of(own, Ranks(1, 2))
    assert (claim.kind, claim.num_examples, claim.batch_size) == (SHUFFLE, 96, 16)
    assert (claim.steps_per_epoch, claim.shards) == (6, 2)


@pytest.mark.parametrize("dataset, match", [
    (source(96).batch(8), "shard 0 of 1"),
    (source(96, num_shards=2, shard_id=1).batch(8), "shard 1 of 2"),
    (source(96, num_shards=4, shard_id=0).batch(8), "shard 0 of 4"),
    (source(97, num_shards=2, shard_id=0).batch(8), "multiple of the 2 ranks, but is 97"),
    (source(96, num_shards=2, shard_id=0).concat(source(96)).batch(8), "concat")])
def test_records_on_two_ranks_are_refused(dataset, match):
    with pytest.raises(ValueError, match=match):
        claim_of(dataset, Ranks(0, 2))
