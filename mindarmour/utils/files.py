"""Files that a reader sees whole: the old content or the new one, never half of it."""
from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Union


@contextlib.contextmanager
def replacing(path: Union[str, os.PathLike]) -> Iterator[Path]:
    """A temporary path in the folder of `path` that takes its place when the block ends without an error.

    Args:
        path (Union[str, PathLike]): The file to write; missing folders are made.

    Yields:
        Path to write to, with the suffix of `path`. After an error it is removed and `path` is as it was.

    Examples:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from mindarmour.utils.files import replacing
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with replacing(Path(folder) / "result.txt") as temporary:
        ...         _ = temporary.write_text("whole")
        ...     print((Path(folder) / "result.txt").read_text())
        whole
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem[:100]}.{secrets.token_hex(4)}{path.suffix}")
    try:
        yield temporary
        with open(temporary, "rb") as file:  # on the disk before the name points to it
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
