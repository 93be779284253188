"""Two ranks started by msrun: what each of them found, against each other and against one process."""
import json
import re
from pathlib import Path

import numpy as np
import pytest
from launch_ranks import msrun
from mindspore import Tensor
from small_job import (
    BATCH,
    BOUND,
    MULTIPLIER,
    RECORDS,
    ROWS,
    SEEDS,
    SILENT,
    digits,
    loss_fn,
    mlp,
    train_digits,
    union_batch,
)

from mindarmour.privacy.accounting import Ledger, Sampling, StepEvent, privacy_spent
from mindarmour.privacy.diff_privacy import clipped_gradient_fn
from mindarmour.privacy.evaluation import collect_signals

pytestmark = pytest.mark.slow
FOLDER = Path(__file__).resolve().parents[1] / "support"
EXAMPLE = FOLDER.parents[1] / "examples" / "privacy" / "diff_privacy" / "lenet5_dp_distributed.py"


@pytest.fixture(scope="session")
def killed(tmp_path_factory):
    """(findings of the rank that survived, its folder) of a job whose other rank was killed."""
    folder = tmp_path_factory.mktemp("killed")
    _, logs = msrun(FOLDER / "killed_job.py", [folder], folder, join=False)
    assert (folder / "survivor.json").exists(), logs[0][-3000:]
    return json.loads((folder / "survivor.json").read_text())


def findings(mode, tmp_path_factory, *arguments):
    folder = tmp_path_factory.mktemp(mode)
    code, logs = msrun(FOLDER / "rank_job.py", [mode, folder, *arguments], folder)
    assert code == 0, "\n".join(log[-3000:] for log in logs.values())
    return [dict(np.load(folder / f"{rank}.npz")) for rank in (0, 1)]


@pytest.fixture(scope="session")
def graph(tmp_path_factory, killed):
    return findings("graph", tmp_path_factory, killed["checkpoint"])


@pytest.fixture(scope="session")
def pynative(tmp_path_factory):
    return findings("pynative", tmp_path_factory)


@pytest.fixture(params=["graph", "pynative"])
def ranks(request):
    """Findings of ranks 0 and 1, in both of MindSpore's modes."""
    return request.getfixturevalue(request.param)


def test_ranks_know_each_other(ranks):
    assert [str(found["ranks"]) for found in ranks] == [
        f"Ranks(rank={rank}, world=2, noise_placement='every_rank')" for rank in (0, 1)]


def test_clipped_sum_over_ranks_is_that_of_the_union(ranks):
    clipped = clipped_gradient_fn(mlp(), loss_fn(), norm_bound=0.1)
    for step in range(3):
        *columns, is_real = union_batch(step)
        expected = clipped(*map(Tensor, columns), is_real=is_real)
        total = np.concatenate([part.asnumpy().ravel() for part in expected.total])
        for found in ranks:
            np.testing.assert_allclose(found[f"sum{step}"], total, rtol=1e-5, atol=1e-5 * np.abs(total).max())
            assert found[f"loss{step}"] == pytest.approx(float(expected.loss), rel=1e-5)
            assert found["units"] == expected.units == 2 * ROWS


def test_sum_in_several_buckets_is_the_sum(ranks):
    expected = np.concatenate([np.full(size, 20.0 * i + 1) for i, size in enumerate((6, 4, 1, 5))])
    for found in ranks:
        np.testing.assert_array_equal(found["buckets"], [expected, expected])


@pytest.mark.parametrize("kind", ["secure", "rank0", "slices", "seeded"])
def test_summed_noise_has_the_stated_deviation(ranks, kind):
    first, second = (found[f"{kind}_update"] * 2 * ROWS for found in ranks)
    np.testing.assert_array_equal(first, second)
    assert np.std(first) == pytest.approx(MULTIPLIER * BOUND, rel=0.03)
    for update in first:
        assert np.std(update) == pytest.approx(MULTIPLIER * BOUND, rel=0.03)
    correlation = np.corrcoef(first) - np.eye(len(first))
    assert np.abs(correlation).max() < 5 / first.shape[1] ** 0.5


@pytest.mark.parametrize("kind", ["secure", "seeded"])
def test_ranks_draw_independently_and_the_sum_is_made_of_their_shares(ranks, kind):
    drawn = [found[f"{kind}_drawn"] for found in ranks]
    for own, other in zip(*drawn):
        assert abs(np.corrcoef(own, other)[0, 1]) < 5 / own.size ** 0.5
    expected = sum(drawn) / 2 ** 0.5 * MULTIPLIER * BOUND
    np.testing.assert_allclose(ranks[0][f"{kind}_update"] * 2 * ROWS, expected, atol=1e-5)


@pytest.mark.parametrize("placement, slices", [("rank0", (SILENT, 0)), ("slices", (SILENT // 2, SILENT // 2))])
def test_placement_decides_who_adds_which_noise(ranks, placement, slices):
    drawn = [found[f"{placement}_drawn"] for found in ranks]
    assert tuple((part != 0).sum(axis=1).tolist() for part in drawn) == tuple([size] * 4 for size in slices)
    np.testing.assert_allclose(ranks[0][f"{placement}_update"] * 2 * ROWS, sum(drawn) * MULTIPLIER * BOUND, atol=1e-5)


def test_optimizer_of_a_custom_loop_adds_the_noise_once(ranks):
    first, second = (found["custom_loop"] * 2 * ROWS for found in ranks)
    np.testing.assert_array_equal(first, second)
    assert np.std(first) == pytest.approx(MULTIPLIER * BOUND, rel=0.03)


def test_weights_and_adaptive_bounds_stay_bit_equal(graph):
    for seed in SEEDS:
        np.testing.assert_array_equal(graph[0][f"weights{seed}"], graph[1][f"weights{seed}"])
        assert graph[0][f"bound{seed}"] == graph[1][f"bound{seed}"] != BOUND


def test_epsilon_ledger_and_accuracy_are_those_of_one_process(graph):
    runs = [train_digits(seed) for seed in SEEDS]
    for seed, (_, epsilon, _) in zip(SEEDS, runs):
        for found in graph:
            # a shard overflows its part of the physical batch with another tiny probability
            assert found[f"epsilon{seed}"] == pytest.approx(epsilon, rel=1e-6)
    assert str(graph[0]["ledger"]) == str(graph[1]["ledger"])
    assert f"num_examples={RECORDS}, batch_size={BATCH}" in str(graph[0]["ledger"])
    assert f"steps={runs[0][0].ledger.steps}, epoch" in str(graph[0]["ledger"])
    accuracies = np.array([[float(graph[0][f"accuracy{seed}"]), accuracy]
                           for seed, (_, _, accuracy) in zip(SEEDS, runs)])
    assert accuracies.min() > 0.5
    assert abs(accuracies[:, 0].mean() - accuracies[:, 1].mean()) < 0.06


def test_only_rank_0_prints(graph):
    assert "eps is" in str(graph[0]["printed"]) and not str(graph[1]["printed"])


def test_budget_stops_all_ranks_after_the_same_step(ranks):
    assert ranks[0]["stopped_after"] == ranks[1]["stopped_after"]
    assert 0 < ranks[0]["stopped_after"] < 3 * round(RECORDS / BATCH)


def test_partition_by_shards_is_accounted_as_one_of_the_union(ranks):
    for found in ranks:
        assert "kind='shuffle', num_examples=128, batch_size=32" in str(found["shards_event"])
        assert "own shard" in str(found["refused_unsharded"]) and "multiple of the 2" in str(found["refused_odd"])


@pytest.mark.parametrize("what, values", [
    ("weights", ["Parameter '0.weight'"]),
    ("multiplier", ["initial_noise_multiplier of noise_mech", "1.0", "2.0"]),
    ("seed", ["seed of noise_mech", "rank 0 has 1 and rank 1 has 2"]),
    ("steps", ["steps per epoch", "rank 0 has 8 and rank 1 has 9"]),
    ("epochs", ["number of epochs", "rank 0 has 1 and rank 1 has 2"]),
    ("data", ["data set"]),
    ("clip", ["clip_mech", "rank 0 has None and rank 1 has AdaClippingWithGaussianRandom"]),
    ("network", ["same program"]),
    ("bound", ["Parameter 'norm_bound'"])])
def test_ranks_that_differ_are_refused_with_the_difference(graph, what, values):
    for found in graph:
        for value in values:
            assert value in str(found[f"refused_{what}"])


def test_parameter_broadcast_gives_all_ranks_the_weights_of_rank_0(graph):
    np.testing.assert_array_equal(graph[0]["broadcast"], graph[1]["broadcast"])


def test_suppressed_training_runs_data_parallel(ranks):
    np.testing.assert_array_equal(ranks[0]["suppressed"], ranks[1]["suppressed"])
    assert ranks[0]["sparsity"] == ranks[1]["sparsity"] > 0.4


def test_signals_are_those_of_one_process(graph):
    (images, labels), (others, other_labels) = digits()
    expected = collect_signals(mlp((64, 8, 10)), (images[:100], labels[:100]), (others[:100], other_labels[:100]),
                               batch_size=64, progress=False)
    for found in graph:
        np.testing.assert_allclose(found["signals"], expected.losses, rtol=1e-5)


def test_a_rank_whose_peer_died_says_so_and_keeps_checkpoint_and_ledger(killed):
    assert "Another rank has stopped" in killed["message"] and "last checkpoint" in killed["message"]
    assert killed["steps"] >= 3 and Path(killed["checkpoint"]).exists()


def test_restart_continues_with_the_spent_budget(graph, killed):
    # the step in which the peer died was recorded before it ran; no checkpoint shows weights that saw it
    saved = killed["steps"] - 1
    for found in graph:
        assert found["resumed_from"] == saved
        assert found["resumed_steps"] == saved + 2 * round(RECORDS / BATCH)
        assert found["resumed_epsilon"] > 0


def test_example_prints_on_rank_0_the_epsilon_of_one_process(tmp_path):
    code, logs = msrun(EXAMPLE, ["--smoke", "--checkpoints", tmp_path / "checkpoints"], tmp_path)
    assert code == 0, logs[0][-3000:]
    event = StepEvent(Sampling("poisson", 1024, 512, "add-or-remove"), 2.83)
    ledger = Ledger()
    ledger.record(event, 2)
    expected = privacy_spent(ledger.entries, 1e-5).epsilon
    (printed,) = re.findall(r"Privacy spent: epsilon = ([\d.]+)", logs[0])
    assert float(printed) == pytest.approx(expected, abs=2e-3)
    assert "Test accuracy" in logs[0] and "Privacy spent" not in logs[1]
    assert [path.suffix for path in (tmp_path / "checkpoints").glob("*.ckpt")] == [".ckpt"]
