"""Draw the pictures of the pages on concepts: python -m tools.concept_pictures"""
from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from mindarmour.privacy.accounting import privacy_spent
from mindarmour.privacy.accounting.planning import plan_sampling, planned_entries
from tools.epsilon_against_steps import BATCH_SIZE, DELTA, EPOCH, NUM_EXAMPLES

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "plots"
# colours that stay apart for colour-blind readers (Okabe and Ito)
COLOURS = ("#0072B2", "#009E73", "#E69F00", "#D55E00")


def attacks(axes: Any) -> None:
    """Largest true positive rate that (epsilon, delta) allows at every false positive rate."""
    false_positives = np.geomspace(1e-4, 1, 400)
    for colour, epsilon in zip(COLOURS, (0.5, 1, 3, 8)):
        rates = np.minimum(math.exp(epsilon) * false_positives + DELTA,
                           1 - math.exp(-epsilon) * (1 - false_positives - DELTA))
        axes.plot(false_positives, np.minimum(rates, 1), color=colour, label=f"epsilon {epsilon:g}")
    axes.plot(false_positives, false_positives, "k:", label="guessing")
    axes.set(xscale="log", yscale="log", xlabel="non-members accused", ylabel="members recognised, at most",
             xlim=(1e-4, 1), ylim=(1e-4, 1.1))


def clipping(axes: Any) -> None:
    """Gradients of records, clipped to a ball, and the deviation of the noise on their sum."""
    rng = np.random.default_rng(3)
    gradients = rng.normal(size=(14, 2)) * rng.gamma(2.0, 0.7, size=(14, 1)) + 0.3
    factors = np.minimum(1, 1 / np.linalg.norm(gradients, axis=1))[:, None]
    for start, end in zip(gradients, gradients * factors):
        axes.annotate("", start, (0, 0), arrowprops={"arrowstyle": "-", "color": "#BBBBBB", "lw": 1})
        axes.annotate("", end, (0, 0), arrowprops={"arrowstyle": "->", "color": COLOURS[0], "lw": 1.4})
    axes.add_patch(plt.Circle((0, 0), 1, fill=False, color=COLOURS[3], label="bound C"))
    axes.add_patch(plt.Circle((0, 0), 1.5, fill=False, linestyle="--", color=COLOURS[2],
                              label="noise on the sum, multiplier 1.5"))
    axes.set(xlim=(-3, 3), ylim=(-3, 3), aspect="equal", xlabel="first coordinate", ylabel="second coordinate")


def composition(axes: Any) -> None:
    """What steps cost together: added up one by one, and as one run."""
    steps = np.array([1, *range(EPOCH // 3, 10 * EPOCH + 1, EPOCH // 3)])
    sampling = plan_sampling("poisson", NUM_EXAMPLES, BATCH_SIZE)

    def epsilon(count: int, delta: float) -> float:
        return privacy_spent(planned_entries(sampling, 1.0, int(count)), delta, "rdp").epsilon

    axes.plot(steps, [count * epsilon(1, DELTA / count) for count in steps], color=COLOURS[3],
              label="epsilons of single steps, added up")
    axes.plot(steps, [epsilon(count, DELTA) for count in steps], color=COLOURS[0], label="the run as a whole (RDP)")
    axes.set(xlabel=f"steps (one epoch: {EPOCH})", ylabel=f"epsilon at delta = {DELTA:g}", yscale="log")


PICTURES = {"attacks": attacks, "clipping": clipping, "composition": composition}


def main(folder: Path) -> None:
    """Draw every picture into a folder."""
    for name, draw in PICTURES.items():
        figure, axes = plt.subplots(figsize=(5.6, 4.2), layout="constrained")
        draw(axes)
        axes.grid(True, which="both", alpha=0.25)
        axes.legend(fontsize=8)
        figure.savefig(folder / f"{name}.png", dpi=120)
        plt.close(figure)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=FOLDER)
    main(parser.parse_args().output)
