"""The course of a training: loss, metrics and privacy spent by epoch, as a picture and in an experiment tracker."""
from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any, Optional, Union

import numpy as np
from mindspore.train import Callback, RunContext

from mindarmour.privacy.diff_privacy.monitor.base import Monitor
from mindarmour.privacy.diff_privacy.parallel.ranks import is_main_rank
from mindarmour.utils.files import replacing

_TRACKERS = ("mlflow", "swanlab")
_PICTURES = (".png", ".svg", ".html")


class TrainingCurve(Callback):
    """Keeps loss, metrics of `DPModel.fit` and privacy spent of every epoch; draws them and logs them.

    Args:
        path (str, optional): Picture that is written when training ends: .png, .svg or .html; needs matplotlib.
        monitor (RDPMonitor, PLDMonitor, ZCDPMonitor, optional): Its privacy spent is drawn; list it before this one.
        tracker (str, Callable, optional): 'mlflow' or 'swanlab', if installed and with a run that you started, or
            a function of (dict of numbers, epoch).

    Attributes:
        rows (list[dict]): One dictionary an epoch: 'epoch', 'loss' (of its last step), metrics, 'epsilon', 'delta'.

    Raises:
        ValueError: Another kind of picture, or an unknown tracker.
        ImportError: What the picture or the tracker needs is not installed.

    Guarantee:
        None: loss and metrics of training data carry no noise. They are for whoever trains, not for publication.

    Examples:
        >>> from mindarmour.privacy.diff_privacy import TrainingCurve
        >>> curve = TrainingCurve(tracker=lambda numbers, epoch: print(epoch, numbers))
    """

    def __init__(self, path: Optional[str] = None, monitor: Optional[Monitor] = None,
                 tracker: Optional[Union[str, Callable[[dict, int], Any]]] = None) -> None:
        super().__init__()
        self._path = None if path is None else _checked(Path(path))
        self._monitor = monitor
        self._log = _logger(tracker)
        self.rows: list[dict[str, float]] = []

    def on_train_epoch_end(self, run_context: RunContext) -> None:
        """Keep and log the epoch's row."""
        cb_params = run_context.original_args()
        outputs = cb_params.net_outputs
        loss = outputs[0] if isinstance(outputs, (tuple, list)) else outputs
        row = {"loss": float(np.mean(loss.asnumpy()))}
        row.update({name: float(value) for name, value in (cb_params.get("eval_results") or {}).items()})
        if self._monitor is not None:
            spent = self._monitor.spent()
            row.update(epsilon=spent.epsilon, delta=spent.delta)
        self.rows.append({"epoch": cb_params.cur_epoch_num, **row})
        if self._log is not None and is_main_rank():
            self._log(row, cb_params.cur_epoch_num)

    def on_train_end(self, run_context: RunContext) -> None:
        """Draw what was kept."""
        if self._path is not None and self.rows and is_main_rank():
            draw(self.rows, self._path)


def draw(rows: list[dict[str, float]], path: Path) -> None:
    """Write the picture of rows by epoch."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    names = [name for name in dict.fromkeys(name for row in rows for name in row) if name not in ("epoch", "delta")]
    figure = Figure(figsize=(3.6 * len(names), 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, name in zip(np.ravel(figure.subplots(1, len(names))), names):
        points = [(row["epoch"], row[name]) for row in rows if name in row]
        axes.plot(*zip(*points), marker=".")
        axes.set(title=name, xlabel="epoch")
        axes.grid(True, alpha=0.3)
    with replacing(path) as temporary:
        if path.suffix != ".html":
            figure.savefig(temporary, format=path.suffix[1:], dpi=120)
            return
        figure.savefig(temporary, format="svg")
        svg = temporary.read_text(encoding="utf-8").partition("<svg")
        temporary.write_text(f"<!doctype html><meta charset=utf-8><title>Training</title>{svg[1]}{svg[2]}",
                             encoding="utf-8")


def _checked(path: Path) -> Path:
    if path.suffix not in _PICTURES:
        raise ValueError(f"path must end in {', '.join(_PICTURES)}, but got {str(path)!r}.")
    _require("matplotlib", "path")
    return path


def _require(module: str, argument: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise ImportError(f"{argument} needs {module}, which is not installed. Install it, or leave {argument} out.")


def _logger(tracker: Any) -> Optional[Callable[[dict, int], Any]]:
    if tracker is None or callable(tracker):
        return tracker
    if tracker not in _TRACKERS:
        raise ValueError(f"tracker must be {' or '.join(map(repr, _TRACKERS))} or a function, but got {tracker!r}.")
    _require(tracker, "tracker")
    module = importlib.import_module(tracker)
    return module.log_metrics if tracker == "mlflow" else module.log
