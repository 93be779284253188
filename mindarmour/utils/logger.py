"""The suite's logger, behind the documented `LogUtil` singleton."""
from __future__ import annotations

import logging
from typing import Any, Optional, Union

_FORMAT = ("[%(levelname)s] %(name)s(%(process)d:%(thread)d,%(processName)s):%(asctime)s "
           "[%(filename)s:%(lineno)d] %(message)s")


class LogUtil:
    """Singleton logger of the suite: name 'MA', level WARNING until set otherwise.

    Call `LogUtil.get_instance()`; constructing it raises SyntaxError, as documented.

    Examples:
        >>> from mindarmour.utils.logger import LogUtil
        >>> LogUtil.get_instance().info("Train", "epoch %d of %d", 1, 10)
    """

    _instance: Optional[LogUtil] = None
    _logger: logging.Logger

    def __init__(self) -> None:
        raise SyntaxError("LogUtil is a singleton: call LogUtil.get_instance().")

    @classmethod
    def get_instance(cls) -> LogUtil:
        """The one instance."""
        if cls._instance is None:
            instance = object.__new__(cls)
            instance._logger = logging.getLogger("MA")
            instance._logger.setLevel(logging.WARNING)
            instance._logger.propagate = False
            handler = logging.StreamHandler()
            handler.setFormatter(logging.Formatter(_FORMAT))
            instance._logger.addHandler(handler)
            cls._instance = instance
        return cls._instance

    def set_level(self, level: Union[int, str]) -> None:
        """Set the level, by name ('INFO') or number; an unknown level raises ValueError."""
        self._logger.setLevel(level)

    def add_handler(self, handler: logging.Handler) -> None:
        """Send records to one more `logging.Handler`."""
        if not isinstance(handler, logging.Handler):
            raise ValueError(f"handler must be a logging.Handler, but got {type(handler).__name__}.")
        self._logger.addHandler(handler)

    def _log(self, level, tag, msg, args):
        # stacklevel 3: the caller of debug/info/warn/error; without args a '%' in the text is literal
        self._logger.log(level, f"[%s] {msg}" if args else "[%s] %s", tag, *(args or (msg,)), stacklevel=3)

    def debug(self, tag: str, msg: str, *args: Any) -> None:
        """Log at DEBUG."""
        self._log(logging.DEBUG, tag, msg, args)

    def info(self, tag: str, msg: str, *args: Any) -> None:
        """Log at INFO."""
        self._log(logging.INFO, tag, msg, args)

    def warn(self, tag: str, msg: str, *args: Any) -> None:
        """Log at WARNING."""
        self._log(logging.WARNING, tag, msg, args)

    def error(self, tag: str, msg: str, *args: Any) -> None:
        """Log at ERROR."""
        self._log(logging.ERROR, tag, msg, args)
