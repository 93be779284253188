"""Flags, tables and plots of the language-model examples."""
import json
import os
from pathlib import Path


def add_flags(parser, epsilons=(float("inf"), 8.0, 2.0, 0.5)):
    """Flags that these examples share."""
    parser.add_argument("--epsilons", type=float, nargs="+", default=list(epsilons), help="inf trains without noise")
    parser.add_argument("--seeds", type=int, default=1, help="repetitions")
    parser.add_argument("--cache", default=os.path.join(Path.home(), ".cache", "mindarmour-examples"),
                        help="folder for archives and the pretrained network")
    parser.add_argument("--output", help="write all rows to this JSON file after each run")
    parser.add_argument("--plot", help="write a plot to this file")


def finished(rows, output):
    """Print the newest row under its columns, and write all of them."""
    if len(rows) == 1:
        print(" | ".join(rows[0]))
    print(" | ".join(f"{value:.3g}" if isinstance(value, float) else str(value) for value in rows[-1].values()),
          flush=True)
    if output:
        Path(output).write_text(json.dumps(rows, indent=1))


def plotted(rows, value, label, path, by=None):
    """Mean of a value against epsilon, with all runs as points; one line for each `by`."""
    if not path:
        return
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot
    figure, axes = pyplot.subplots(figsize=(6, 3.6))
    for name in dict.fromkeys(row.get(by, value) for row in rows):
        mine = [row for row in rows if row.get(by, value) == name]
        texts = [f"{epsilon:g}" for epsilon in sorted({row["epsilon"] for row in mine})]
        groups = [[row[value] for row in mine if f"{row['epsilon']:g}" == text] for text in texts]
        axes.plot(texts, [sum(group) / len(group) for group in groups], marker="o", label=name)
    axes.set_xlabel("epsilon")
    axes.set_ylabel(label)
    axes.legend()
    figure.tight_layout()
    figure.savefig(path)
    pyplot.close(figure)
