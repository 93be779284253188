"""Run a network at once on a few rows, whatever MindSpore's mode."""
import contextlib

import mindspore as ms
import numpy as np
from mindspore import Tensor
from mindspore._c_expression import MSContext, ms_ctx_param
from mindspore.common.api import _pynative_executor


@contextlib.contextmanager
def eager():
    """Run cells at once instead of compiling them, whatever the mode, and each operator to its end.

    MindSpore hands operators from thread to thread otherwise. With the few rows of a check that takes three to eight
    times as long as the operators themselves, because the threads wait actively.
    """
    mode, waits = ms.get_context("mode"), ms.get_context("pynative_synchronize")
    ms.set_context(mode=ms.PYNATIVE_MODE)
    _wait_for_operators(True)
    _forget_failed_gradient()
    try:
        yield
    finally:
        _forget_failed_gradient()
        _wait_for_operators(waits)
        ms.set_context(mode=mode)


def _forget_failed_gradient():
    """Where an exception left the inside of a gradient, MindSpore would go on as if it were still being taken."""
    if _pynative_executor.grad_flag():
        _pynative_executor.clear_res()


def _wait_for_operators(waits):
    # as ms.set_context(pynative_synchronize=...) does, which logs at each call that a function will replace it one day
    MSContext.get_instance().set_param(ms_ctx_param.pynative_synchronize, waits)


def few_rows(columns, rows):
    """The first rows of a batch, repeated if it has fewer."""
    return tuple(Tensor(column.asnumpy()[np.arange(rows) % column.shape[0]]) for column in columns)
