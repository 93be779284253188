"""Draw epsilon against steps for the four samplers: python -m tools.epsilon_against_steps"""
import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from mindarmour.privacy.accounting import privacy_spent
from mindarmour.privacy.accounting.planning import plan_sampling, planned_entries

PICTURE = Path(__file__).resolve().parents[1] / "docs" / "plots" / "epsilon_against_steps.png"
NUM_EXAMPLES, BATCH_SIZE, NOISE_MULTIPLIER, DELTA = 60000, 256, 1.0, 1e-5
EPOCH = NUM_EXAMPLES // BATCH_SIZE
SAMPLERS = {"shuffle": "shuffled partition", "fixed": "fixed size", "poisson": "Poisson",
            "balls-in-bins": "balls in bins"}
# colours that stay apart for colour-blind readers (Okabe and Ito)
STYLES = {"poisson": ("#0072B2", "-"), "balls-in-bins": ("#009E73", "--"), "fixed": ("#E69F00", "-."),
          "shuffle": ("#D55E00", "-")}


def curve(kind, steps, relation, accountant="rdp"):
    """Epsilon after each number of steps."""
    sampling = plan_sampling(kind, NUM_EXAMPLES, BATCH_SIZE)
    return [privacy_spent(planned_entries(sampling, NOISE_MULTIPLIER, n), DELTA, accountant, relation).epsilon
            for n in steps]


def draw(axes, relation, title):
    """One panel: all samplers under one choice of relation (None: what each of them proves)."""
    starts = range(0, 20 * EPOCH, EPOCH)
    steps = sorted({start + step for start in starts for step in (1, EPOCH // 3, 2 * EPOCH // 3, EPOCH)})
    for kind, name in SAMPLERS.items():
        colour, style = STYLES[kind]
        proven = plan_sampling(kind, NUM_EXAMPLES, BATCH_SIZE).relation
        label = f"{name} ({proven})" if relation is None else name
        axes.plot(steps, curve(kind, steps, relation), style, color=colour, label=label)
    sparse = [1, 20, 60, 120, *range(EPOCH, 20 * EPOCH + 1, 19 * EPOCH // 8)]
    axes.plot(sparse, curve("poisson", sparse, relation, "pld"), ":", color=STYLES["poisson"][0],
              label="Poisson, by PLD")
    axes.set(title=title, xlabel=f"steps (one epoch: {EPOCH})", yscale="log", xlim=(0, 20 * EPOCH))
    axes.grid(True, which="both", alpha=0.25)
    axes.legend(fontsize=8, loc="lower right")


def main(path):
    """Draw both panels into a file."""
    figure, axes = plt.subplots(1, 2, figsize=(10.5, 4.4), sharey=True, layout="constrained")
    draw(axes[0], None, "the relation that each sampler proves")
    draw(axes[1], "replace-one", "all under replace-one")
    axes[0].set_ylabel(f"epsilon at delta = {DELTA:g}")
    figure.suptitle(f"{NUM_EXAMPLES} records, batch size {BATCH_SIZE}, noise multiplier {NOISE_MULTIPLIER:g}, RDP "
                    "unless stated", fontsize=10)
    figure.savefig(path, dpi=130)
    plt.close(figure)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", default=str(PICTURE))
    main(parser.parse_args().output)
