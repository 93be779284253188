"""Drawing ROC curves. matplotlib loads when the first picture is drawn."""
import numpy as np

from mindarmour.utils import _validate


def new_axes():
    """Axes of a new figure."""
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError("Plots need matplotlib: pip install 'mindarmour[evaluation]'.") from error
    return pyplot.subplots(figsize=(5, 5), layout="constrained")[1]


def draw(result, ax=None, *, log=True, label=None, chance=True):
    """Draw one result's ROC curve on `ax`; see `AttackResult.plot_roc`."""
    log = _validate.boolean("log", log)
    ax = new_axes() if ax is None else ax
    curve = result.curve
    # one false positive is the smallest rate the sample shows: left of it there is nothing to draw
    floor = 1 / max(curve.num_members, curve.num_non_members) / 2
    label = f"{result.attack or 'attack'} (AUC {result.auc:.3f})" if label is None else label
    fpr, tpr = (np.maximum(rate, floor) if log else rate for rate in (curve.fpr, curve.tpr))
    ax.step(fpr, tpr, where="post", label=label, linewidth=1.6)
    low = min(floor, ax.get_xlim()[0]) if log and ax.get_xscale() == "log" else (floor if log else 0.0)
    if chance and not any(line.get_gid() == "chance" for line in ax.lines):
        ends = np.geomspace(1e-7, 1, 50) if log else np.array([0.0, 1.0])
        ax.plot(ends, ends, "--", color="0.6", linewidth=1, gid="chance", zorder=0)
    if log:
        ax.set_xscale("log")
        ax.set_yscale("log")
    ax.set_xlim(low, 1)
    ax.set_ylim(low, 1.02 if not log else 1.15)
    ax.set_aspect("auto" if log else "equal")
    ax.set_xlabel("False positive rate")
    ax.set_ylabel("True positive rate")
    ax.grid(True, which="major", color="0.9")
    ax.legend(loc="lower right", fontsize=9)
    return ax
