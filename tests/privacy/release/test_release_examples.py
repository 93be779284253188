"""The examples of this part run from their own command lines, at smoke size."""
import pytest

from examples.privacy.diff_privacy import dpsgd_dense_cnn
from examples.privacy.release import three_placements


@pytest.mark.slow
def test_dense_and_cnn_rows(capsys):
    for arguments in (["--row", "0"], ["--row", "1", "--parameters", "calibrated"]):
        results = dpsgd_dense_cnn.main([*arguments, "--smoke"])
        for result in results:
            assert 0 < result["spent"].epsilon <= result["row"].eps
            assert result["spent"].delta == result["row"].delta and result["spent"].kind == "guarantee"
    lines = capsys.readouterr().out.splitlines()  # per call headings, one line a run, the table, two lines of notes
    assert len(lines) == (1 + 2 + 2 + 2 + 2) + (1 + 1 + 2 + 1 + 2)


@pytest.mark.slow
def test_three_placements_spend_the_same():
    results = three_placements.main(["--smoke", "--epsilons", "2"])
    assert results["none", None][0].mean() > 0.85
    for placement in ("output", "objective", "gradients", "records"):
        spent = results[placement, 2.0][1]
        # two local mechanisms are split by adding epsilons; the ledger's RDP states a little more for the pair
        limit = 2.2 if placement == "records" else 2.0 * (1 + 1e-6)
        assert 1.5 < spent.epsilon <= limit and spent.relation == "replace-one"
    assert results["objective", 2.0][0].mean() > 0.75
