"""Files written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def write_whole(path: str | os.PathLike[str], content: bytes, *, durable: bool = True) -> None:
    """Write a file: to a temporary one beside it, which then takes its place.

    Args:
        path: of the file.
        content: all of it.
        durable: whether it must outlive a machine that stops, for which the disk is waited for.

    Raises:
        OSError: it cannot be written; the message is one line and names the file or its folder.
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
        Path(temporary).chmod(0o644)  # mkstemp's own is for its owner alone
        os.replace(temporary, path)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise OSError(f"cannot write {path} ({error.strerror})") from None
        raise
