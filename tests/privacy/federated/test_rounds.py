"""Private rounds: who is asked, what an update moves, what the ledger says, and what a killed server still knows."""
import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from mindarmour.privacy.accounting import Ledger, Sampling, StepEvent, ledger_file, privacy_spent
from mindarmour.privacy.errors import LedgerMismatchError
from mindarmour.privacy.federated import PrivateRounds
from mindarmour.privacy.federated.rounds import clipped

ARRAYS = [np.zeros((4, 3), np.float32), np.zeros(5, np.float32)]
SILENT = 1e-12


def rounds_of(clients=40, each=10, bound=0.5, noise=1.0, **arguments):
    return PrivateRounds(clients, each, bound, noise, **arguments)


def update(seed, size=1.0):
    rng = np.random.default_rng(seed)
    return [size * rng.normal(size=array.shape) for array in ARRAYS]


def flat(arrays):
    return np.concatenate([array.ravel() for array in arrays])


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e8, 1e200, np.inf, np.nan])
def test_removing_a_client_moves_the_sum_by_at_most_the_bound(size):
    bound, each = 0.5, 10
    rounds = rounds_of(10, each, bound, SILENT)
    asked = rounds.draw(range(10), ARRAYS)
    updates = {client: update(client) for client in asked}
    updates[asked[0]] = update(99, size)
    whole = flat(rounds.aggregate([a.astype(np.float64) for a in ARRAYS], updates)) * each
    rounds.draw(range(10), ARRAYS)
    del updates[asked[0]]
    without = flat(rounds.aggregate([a.astype(np.float64) for a in ARRAYS], updates)) * each
    moved = np.linalg.norm(whole - without)
    expected = min(bound, size * np.linalg.norm(flat(update(99)))) if np.isfinite(size) else 0.0
    assert moved <= bound * (1 + 1e-9) and moved == pytest.approx(expected, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("kind", ["poisson", "fixed"])
def test_the_noise_has_the_scale_that_the_event_states(kind):
    rounds = rounds_of(10, 4, 0.5, 3.0, sampling=kind)
    big = [np.zeros(200_000)]
    rounds.draw(range(10), big)
    noise = rounds.aggregate(big, {})[0] * 4
    assert noise.std() == pytest.approx(3.0 * 0.5, rel=0.01)


def test_each_client_is_asked_with_the_rate_of_the_claim_and_independently():
    rounds = rounds_of(10, 3)
    table = np.zeros((3000, 10))
    for row in table:
        row[rounds.draw(range(10), [np.zeros(1)])] = 1
    assert np.abs(table.mean(axis=0) - 0.3).max() < 0.045
    assert table.sum(axis=1).std() == pytest.approx(np.sqrt(10 * 0.3 * 0.7), rel=0.1), "sizes are binomial"
    fixed = rounds_of(10, 3, sampling="fixed")
    assert {len(fixed.draw(range(10), [np.zeros(1)])) for _ in range(20)} == {3}


@pytest.mark.parametrize("kind, relation", [("poisson", "add-or-remove"), ("fixed", "replace-one")])
def test_epsilon_of_the_ledger_is_that_of_its_rounds(kind, relation):
    rounds = rounds_of(40, 10, sampling=kind)
    for _ in range(7):
        rounds.aggregate(ARRAYS, dict.fromkeys(rounds.draw(range(40), ARRAYS), update(0)))
    ledger = Ledger()
    ledger.record(StepEvent(Sampling(kind, 40, 10, relation), 1.0), 7)
    spent = rounds.spent(1e-3)
    assert spent.epsilon == privacy_spent(ledger.entries, 1e-3).epsilon
    assert "a user is a client" in spent.note and spent.relation == relation
    if kind == "fixed":
        assert spent.epsilon > 1.5 * privacy_spent(rounds_entries("poisson"), 1e-3).epsilon


def rounds_entries(kind):
    rounds = rounds_of(40, 10, sampling=kind)
    rounds.ledger.record(rounds.event, 7)
    return rounds.ledger.entries


def test_a_client_that_is_missing_or_odd_counts_as_zero():
    shapes = [array.shape for array in ARRAYS]
    for odd in ([], [np.ones(3)], update(0)[::-1], [*update(0)[:1], np.full(5, np.nan)]):
        assert not flat(clipped(odd, shapes, 1.0)).any()
    rounds = rounds_of(10, 10, noise=SILENT)
    asked = rounds.draw(range(10), ARRAYS)
    one = rounds.aggregate(ARRAYS, {asked[0]: update(1), asked[1]: []})
    rounds.draw(range(10), ARRAYS)
    np.testing.assert_allclose(flat(one), flat(rounds.aggregate(ARRAYS, {asked[0]: update(1)})), atol=1e-7)


def test_no_sum_without_a_round_in_the_ledger_and_no_round_twice():
    rounds = rounds_of(10, 10)
    with pytest.raises(ValueError, match="must follow a draw"):
        rounds.aggregate(ARRAYS, {})
    asked = rounds.draw(range(9), ARRAYS)
    with pytest.raises(ValueError, match="9 was not"):
        rounds.aggregate(ARRAYS, {asked[0]: update(0), 9: update(1)})
    rounds.aggregate(ARRAYS, {asked[0]: update(0)})
    with pytest.raises(ValueError, match="must follow a draw"):
        rounds.aggregate(ARRAYS, {asked[0]: update(0)})
    assert rounds.ledger.steps == 1


def test_a_server_goes_on_where_its_checkpoint_ends(tmp_path):
    path = tmp_path / "server.npz"
    first = rounds_of(checkpoint=path)
    arrays = ARRAYS
    for _ in range(3):
        arrays = first.aggregate(arrays, dict.fromkeys(first.draw(range(40), arrays), update(0)))
    first.draw(range(40), arrays)  # and then it is killed, before anybody answers
    second = rounds_of(checkpoint=path)
    assert (second.rounds_done, second.ledger.steps) == (3, 4)
    assert all(np.array_equal(one, other) for one, other in zip(second.arrays, arrays))
    second.aggregate(second.arrays, dict.fromkeys(second.draw(range(40), second.arrays), update(1)))
    third = rounds_of(checkpoint=path)
    assert (third.rounds_done, third.ledger.steps) == (4, 5)
    assert ledger_file.load(path).steps == 5, "the command line reads it"
    path.write_bytes(path.read_bytes().replace(b'"steps"', b'"stepz"').replace(b"poisson", b"pOisson"))
    with pytest.raises(LedgerMismatchError):
        rounds_of(checkpoint=path)


def test_a_server_that_is_killed_mid_round_has_counted_it(tmp_path):
    path = tmp_path / "server.npz"
    job = textwrap.dedent(f"""
        import os, signal, numpy as np
        from mindarmour.privacy.federated import PrivateRounds
        rounds, arrays = PrivateRounds(40, 10, 0.5, 1.0, checkpoint={str(path)!r}), [np.zeros(3)]
        for _ in range(2):
            arrays = rounds.aggregate(arrays, dict.fromkeys(rounds.draw(range(40), arrays), [np.ones(3)]))
        rounds.draw(range(40), arrays)
        os.kill(os.getpid(), signal.SIGKILL)""")
    done = subprocess.run([sys.executable, "-c", job], env={**os.environ, "PYTHONPATH": os.getcwd()}, check=False)
    assert done.returncode == -signal.SIGKILL
    rounds = rounds_of(checkpoint=path)
    assert (rounds.rounds_done, rounds.ledger.steps) == (2, 3)


def test_a_seeded_server_repeats_itself_and_says_so_but_replays_no_round(tmp_path):
    def run(rounds, arrays):
        return rounds.aggregate(arrays, dict.fromkeys(rounds.draw(range(40), arrays), update(0)))

    one, two = run(rounds_of(seed=5), ARRAYS), run(rounds_of(seed=5), ARRAYS)
    assert np.array_equal(flat(one), flat(two))
    assert not np.array_equal(flat(run(rounds_of(), ARRAYS)), flat(run(rounds_of(), ARRAYS)))
    rounds = rounds_of(seed=5, checkpoint=tmp_path / "s.npz")
    first = run(rounds, ARRAYS)
    again = run(rounds_of(seed=5, checkpoint=tmp_path / "s.npz"), ARRAYS)
    assert not np.array_equal(flat(first), flat(again))
    assert "seeded noise" in rounds.spent(1e-3).note


@pytest.mark.parametrize("arguments, error", [
    ({"clients": 0}, ValueError), ({"each": 41}, ValueError), ({"bound": 0.0}, ValueError),
    ({"noise": 0.0}, ValueError),
    ({"sampling": "shuffle"}, ValueError), ({"each": 2.5}, TypeError), ({"seed": -1}, ValueError)])
def test_bad_arguments_are_refused(arguments, error):
    with pytest.raises(error):
        rounds_of(**arguments)


def test_odd_federations_are_refused():
    with pytest.raises(ValueError, match="All 40 clients must be present"):
        rounds_of(sampling="fixed").draw(range(39), ARRAYS)
    with pytest.raises(ValueError, match="each client once"):
        rounds_of().draw([1, 1], ARRAYS)
    with pytest.raises(TypeError, match="floating-point"):
        rounds_of().draw(range(40), [np.zeros(3, np.int64)])


def test_nothing_of_mindspore_is_imported():
    job = "import sys, mindarmour.privacy.federated; assert not any(m.startswith('mindspore') for m in sys.modules)"
    subprocess.run([sys.executable, "-c", job], check=True, env={**os.environ, "PYTHONPATH": os.getcwd()})
