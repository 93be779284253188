"""A progress bar with loss, epsilon spent and budget."""
from __future__ import annotations

import sys
from typing import Any, Optional

import numpy as np
from mindspore.train import Callback, RunContext
from tqdm import tqdm

from mindarmour.privacy.diff_privacy.monitor.base import Monitor
from mindarmour.privacy.diff_privacy.parallel.ranks import is_main_rank
from mindarmour.utils import _validate


class PrivacyProgress(Callback):
    """One line for a training run: steps, time left, loss, privacy spent of the budget, engine.

    Args:
        monitor (RDPMonitor, PLDMonitor, ZCDPMonitor, optional): Its privacy spent is shown, and the steps that its
            budget leaves; list the monitor in the callbacks too.
        refresh (int): Steps between two updates of loss and epsilon: each waits for the device.

    Examples:
        >>> from mindarmour.privacy.diff_privacy import PrivacyMonitorFactory, PrivacyProgress
        >>> rdp = PrivacyMonitorFactory.create('rdp', num_samples=4000, batch_size=512, target_delta=1e-5)
        >>> callbacks = [rdp, PrivacyProgress(rdp)]
    """

    def __init__(self, monitor: Optional[Monitor] = None, refresh: int = 8) -> None:
        super().__init__()
        self._monitor = monitor
        self._refresh = _validate.integer("refresh", refresh, low=1)
        self._bar = None

    def on_train_begin(self, run_context: RunContext) -> None:
        cb_params = run_context.original_args()
        self._bar = tqdm(total=cb_params.epoch_num * cb_params.batch_num, unit="step", file=sys.stderr,
                         dynamic_ncols=True, disable=not is_main_rank())

    def on_train_step_end(self, run_context: RunContext) -> None:
        cb_params = run_context.original_args()
        self._bar.update(1)
        if cb_params.cur_step_num % self._refresh == 0:
            self._bar.set_postfix_str(self._text(cb_params))

    def on_train_end(self, run_context: RunContext) -> None:
        self._bar.set_postfix_str(self._text(run_context.original_args(), ended=True))
        self._bar.close()

    def _text(self, cb_params: Any, ended: bool = False) -> str:
        outputs = cb_params.net_outputs
        loss = outputs[0] if isinstance(outputs, (tuple, list)) else outputs
        text = f"loss {float(np.mean(loss.asnumpy())):.3f}"
        if self._monitor is not None:
            text = f"{text}, {self._monitor.summary(ended)}"
        report = getattr(cb_params.train_network, "engine_report", None)
        return text if report is None else f"{text}, {report.engine} engine"
