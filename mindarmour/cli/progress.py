"""A line on standard error while a command takes long; nothing where nobody looks at a terminal."""
from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

_PATIENCE = 2.0  # seconds without a line
_ERASE = "\r\x1b[2K"
_stage = ""


def stage(text: str) -> None:
    """Say what a long command is at."""
    global _stage
    _stage = text


@contextlib.contextmanager
def shown(patience: float = _PATIENCE) -> Iterator[None]:
    """Show the seconds and the stage of what runs inside, from `patience` seconds on until it prints or ends."""
    if not sys.stderr.isatty():
        yield
        return
    stage("")
    line, printed = _Line(sys.stderr, patience), sys.stdout
    sys.stdout = _Watched(printed, line)
    try:
        yield
    finally:
        line.end()
        sys.stdout = printed


class _Line:
    """The line, redrawn by a thread of its own."""

    def __init__(self, stream: Any, patience: float) -> None:
        self._stream, self._patience, self._start = stream, patience, time.monotonic()
        self._ended, self._drawn = threading.Event(), False
        self._thread = threading.Thread(target=self._draw, daemon=True)
        self._thread.start()

    def _draw(self) -> None:
        wait = self._patience
        while not self._ended.wait(wait):
            self._drawn, wait = True, 0.5
            text = f"{time.monotonic() - self._start:.0f} s {_stage}"
            self._stream.write(f"{_ERASE}{text}")
            self._stream.flush()

    def end(self) -> None:
        """Erase it, once."""
        if self._ended.is_set():
            return
        self._ended.set()
        self._thread.join()
        if self._drawn:
            self._stream.write(_ERASE)
            self._stream.flush()


class _Watched:
    """Standard output that ends the line before anything is printed."""

    def __init__(self, stream: Any, line: _Line) -> None:
        self._stream, self._line = stream, line

    def write(self, text: str) -> int:
        self._line.end()
        return self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
