"""Coverage of the evaluators' intervals, and attacks with nothing to find: tables of docs/membership_inference.md.

    python -m tools.evaluator_tables coverage
    python -m tools.evaluator_tables null [attack ...]

The scenes, worlds and attacks are those of the tests, so that the tables show what the tests assert.
"""
import argparse
import inspect
import sys
import tempfile
from pathlib import Path

import numpy as np

from examples.common.tables import markdown

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests" / "support"), str(ROOT / "tests" / "privacy" / "evaluation" / "membership")]


def coverage_table():
    """Coverage of the AUC, the advantage and the rate at 10 % false positives, 200 + 200 records, by scene."""
    import test_intervals as tests
    rows = []
    for name, scene in tests.SCENES.items():
        truths = {"auc": scene.auc, "advantage": scene.advantage}
        found = [tests.coverage(scene, 200, 200, metric, truth) for metric, truth in truths.items()]
        tiny = tests.coverage(scene, 3, 3, "auc", scene.auc)
        rows.append([name, *(_share(value, tests.REPETITIONS) for value in (*found, tiny))])
    return markdown(["scores", "AUC, 200 + 200", "advantage, 200 + 200", "AUC, 3 + 3"], rows)


def _share(value, repetitions):
    return f"{value:.3f} ({(value * (1 - value) / repetitions) ** .5:.3f})"


def null_table(attacks=()):
    """Mean AUC of every attack on models that ignore their data, and the largest deviation over all worlds."""
    import test_null as tests
    draws, rows = {}, []
    with tempfile.TemporaryDirectory() as folder:
        for name, contract in _contracts(tests):
            if attacks and name not in attacks:
                continue
            scores = {world: _deviation(tests, contract, world, draws, folder) for world in contract.worlds}
            plain = scores.get("plain") or next(iter(scores.values()))
            worst = max(scores, key=lambda world: abs(scores[world][2]))
            rows.append([name, f"{plain[0]:.3f} ({plain[1]:.3f})", len(scores), f"{scores[worst][2]:+.1f} ({worst})",
                         contract.repetitions])
    return markdown(["attack", "AUC (standard error)", "worlds", "largest deviation in standard errors", "repetitions"],
                    rows)


def _contracts(tests):
    for name, kind in vars(tests).items():
        if name.startswith("Test") and inspect.isclass(kind) and issubclass(kind, tests.NullContract):
            yield name[4:], kind()


def _deviation(tests, contract, world, draws, folder):
    """(mean AUC, its standard error, deviation from 0.5 in standard errors)."""
    if world not in draws:
        draws[world] = [tests.BlindModels(tests.WORLDS[world], seed, Path(folder) / f"{world}_{seed}")
                        for seed in range(tests.REPETITIONS)]
        for draw in draws[world]:
            draw.store.fit(progress=False)
    areas = np.array([contract.attack(draw).auc for draw in draws[world][:contract.repetitions]])
    error = max(areas.std(ddof=1) / len(areas) ** .5, 1e-12)
    return areas.mean(), error, (areas.mean() - .5) / error


def main():
    """Print the table asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=("coverage", "null"))
    parser.add_argument("attacks", nargs="*", help="attacks of the null table; default: all")
    args = parser.parse_args()
    print(coverage_table() if args.table == "coverage" else null_table(args.attacks))


if __name__ == "__main__":
    main()
