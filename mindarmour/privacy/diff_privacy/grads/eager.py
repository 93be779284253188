"""Run a network at once on a few rows, whatever MindSpore's mode."""
from __future__ import annotations

import contextlib
from collections.abc import Iterator

import mindspore as ms

from mindarmour.utils.mindspore_internals import forget_failed_gradient, wait_for_operators, waits_for_operators

# What a network may raise that does not take to being run on a few rows.
EAGER_ERRORS = (RuntimeError, ValueError, TypeError, AttributeError, IndexError, KeyError)


@contextlib.contextmanager
def eager() -> Iterator[None]:
    """Run cells at once instead of compiling them, whatever the mode, and each operator to its end.

    MindSpore hands operators from thread to thread otherwise. With the few rows of a check that takes three to eight
    times as long as the operators themselves, because the threads wait actively.
    """
    mode, waits = ms.get_context("mode"), waits_for_operators()
    ms.set_context(mode=ms.PYNATIVE_MODE)
    wait_for_operators(True)
    forget_failed_gradient()
    try:
        yield
    finally:
        forget_failed_gradient()
        wait_for_operators(waits)
        ms.set_context(mode=mode)
