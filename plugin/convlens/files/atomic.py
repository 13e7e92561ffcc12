"""Atomic file writing: a file is written completely or not at all."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import psutil

# Temporary files of another machine are removed after this time; no write takes so long.
_MAX_AGE_SECONDS = 3600.0
_TEMPORARY = re.compile(r"\.convlens-(?P<machine>[0-9a-f]{8})-(?P<process>\d+)-.*\.tmp")


def write_atomic(path: str | os.PathLike[str], content: bytes, *, durable: bool = True) -> None:
    """Write a file atomically: write a temporary file in the same folder, then rename it.

    A process that is killed in between leaves its temporary file. The next durable write in the
    folder removes it.

    Args:
        path: path of the file.
        content: content of the file.
        durable: wait until the data is on disk, so that the file survives a crash of the machine.

    Raises:
        OSError: the file cannot be written; the message is one line and names the file or its
            folder.
    """
    write_all_atomic({path: content}, durable=durable)


def write_all_atomic(
    contents: Mapping[str | os.PathLike[str], bytes] | Mapping[Path, bytes], *, durable: bool = True
) -> None:
    """Write files that belong together, each atomically, and all of them or none.

    All temporary files are written before the first is renamed, in the order given, so that a full
    disk leaves every old file. Only an error in renaming, or a process that is killed then, leaves
    the first ones new and the last ones old.

    Raises:
        OSError: a file cannot be written, as in `write_atomic`.
    """
    temporary: dict[Path, Path] = {}
    try:
        for name, content in contents.items():
            path = Path(name)
            temporary[path] = _create_temporary(path.parent, durable)
            with _naming(path):
                _write(temporary[path], content, durable)
        for path, written in temporary.items():
            with _naming(path):
                os.replace(written, path)
    except BaseException:
        for written in temporary.values():
            written.unlink(missing_ok=True)
        raise


def _create_temporary(folder: Path, durable: bool) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if durable:  # other folders are temporary as a whole
            _remove_abandoned(folder)
        prefix = f".convlens-{_machine()}-{os.getpid()}-"
        handle, name = tempfile.mkstemp(dir=folder, prefix=prefix, suffix=".tmp")
    except OSError as error:
        raise OSError(f"cannot write to {folder} ({error.strerror})") from None
    os.close(handle)
    return Path(name)


def _write(path: Path, content: bytes, durable: bool) -> None:
    with path.open("wb") as stream:
        stream.write(content)
        if durable:
            stream.flush()
            os.fsync(stream.fileno())
    path.chmod(0o644)  # mkstemp makes it readable by its owner only


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Turn an error of the system into one that names the file."""
    try:
        yield
    except OSError as error:
        raise OSError(f"cannot write {path} ({error.strerror})") from None


def _remove_abandoned(folder: Path) -> None:
    """Remove the temporary files that killed processes left in a folder."""
    for name in os.listdir(folder):
        found = _TEMPORARY.fullmatch(name)
        if found is None:
            continue
        path = folder / name
        try:
            is_old = time.time() - path.stat().st_mtime > _MAX_AGE_SECONDS
            is_ours = found["machine"] == _machine()
            if is_old or (is_ours and not _is_running(int(found["process"]))):
                path.unlink()
        except OSError:  # another process removed it, or owns it: the file is not in the way
            continue


@cache
def _machine() -> str:
    """Return a mark of the machine, or of the container, in which process numbers are unique."""
    try:
        processes = os.stat("/proc/self/ns/pid").st_ino
    except OSError:  # not on Linux
        processes = 0
    return hashlib.sha256(f"{platform.node()}{processes}".encode()).hexdigest()[:8]


def _is_running(process: int) -> bool:
    try:
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
    except psutil.Error:  # a process of another user
        return True
