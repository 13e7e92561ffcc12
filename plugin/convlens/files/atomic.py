"""Atomic file writing: a file is written completely or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def write_atomic(path: str | os.PathLike[str], content: bytes, *, durable: bool = True) -> None:
    """Write a file atomically: write a temporary file in the same folder, then rename it.

    Args:
        path: path of the file.
        content: content of the file.
        durable: wait until the data is on disk, so that the file survives a crash of the machine.

    Raises:
        OSError: the file cannot be written; the message is one line and names the file or its
            folder.
    """
    folder = Path(path).parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=folder, prefix=".", suffix=".tmp")
    except OSError as error:
        raise OSError(f"cannot write to {folder} ({error.strerror})") from None
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            if durable:
                stream.flush()
                os.fsync(stream.fileno())
        Path(temporary).chmod(0o644)  # mkstemp makes it readable by its owner only
        os.replace(temporary, path)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise OSError(f"cannot write {path} ({error.strerror})") from None
        raise
