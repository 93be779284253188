"""A picture of the sparsity over time."""
import os
from pathlib import Path

import numpy as np

from mindarmour.privacy.sup_privacy.sup_ctrl.conctrl import SuppressCtrl
from mindarmour.utils._validate import instance
from mindarmour.utils.files import replacing


def plot_sparsity(suppress_ctrl, path):
    """Draw the sparsity of each layer over the steps, with the schedule behind it. Needs matplotlib.

    Args:
        suppress_ctrl (SuppressCtrl): After training; its `history` is drawn.
        path (Union[str, Path]): Image file to write; the ending chooses the format.

    Returns:
        Path, the file.

    Raises:
        ValueError: No masks were chosen yet.
    """
    instance("suppress_ctrl", suppress_ctrl, SuppressCtrl)
    instance("path", path, (str, os.PathLike))
    if not suppress_ctrl.history:
        raise ValueError("suppress_ctrl must have chosen masks to have something to draw. Train first.")
    return _write(_draw(suppress_ctrl), Path(path))


def _draw(suppress_ctrl):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.add_subplot()
    history, schedule = suppress_ctrl.history, suppress_ctrl.schedule
    steps = np.arange(1, max(history[-1].step, schedule.end_epoch * schedule.batch_num) + 1)
    axes.plot(steps, schedule.sparsity(steps), color="0.75", linewidth=6, label="schedule")
    at = [record.step for record in history]
    for name in history[0].layers:
        axes.step(at, [record.layers[name] for record in history], where="post", linewidth=1.2, label=name)
    axes.set(xlabel="step", ylabel="suppressed fraction of the weights", ylim=(0, 1), xlim=(0, steps[-1]))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, loc="upper left")
    return figure


def _write(figure, path):
    with replacing(path) as temporary:
        figure.savefig(temporary, format=path.suffix.lstrip(".") or "png", dpi=150)
    return path
