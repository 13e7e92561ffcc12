"""Check ZIP archives from untrusted sources before anything is unpacked."""

from __future__ import annotations

import stat
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np
import psutil

MAX_ENTRIES = 100_000
_MAX_HEADER_BYTES = 2**16


def open_archive(source: Path | IO[bytes], *, max_bytes: int | None = None) -> zipfile.ZipFile:
    """Open an archive after checking the names, the number and the unpacked size of its entries.

    Args:
        source: path or stream of the archive.
        max_bytes: limit of the unpacked size in bytes; None for half of the free memory.

    Raises:
        ValueError: a name that points outside its folder, a duplicate name, a link, too many
            entries, or a too large unpacked size.
        zipfile.BadZipFile, OSError: not an archive, or an unreadable one.
    """
    if isinstance(source, Path) and not source.is_file():
        raise ValueError("not a regular file")
    archive = zipfile.ZipFile(source)
    try:
        _examine(
            archive, psutil.virtual_memory().available // 2 if max_bytes is None else max_bytes
        )
    except BaseException:
        archive.close()
        raise
    return archive


def _examine(archive: zipfile.ZipFile, max_bytes: int) -> None:
    entries = archive.infolist()
    if len(entries) > MAX_ENTRIES:
        raise ValueError(f"the archive has {len(entries)} entries, more than {MAX_ENTRIES}")
    names = [entry.filename for entry in entries]
    if len(set(names)) < len(names):
        raise ValueError("two entries of the archive have the same name")
    for entry in entries:
        parts = entry.filename.replace("\\", "/").split("/")
        if ".." in parts or parts[0] == "" or ":" in parts[0] or not entry.filename.isprintable():
            raise ValueError(f"the entry name {entry.filename!r} points outside its folder")
        if stat.S_ISLNK(entry.external_attr >> 16):
            raise ValueError(f"the entry {entry.filename!r} is a link")
    total = sum(entry.file_size for entry in entries)
    if total > max_bytes:
        raise ValueError(
            f"the archive unpacks to {total} bytes, more than the limit of {max_bytes}"
        )


def check_array(stream: IO[bytes], size: int) -> None:
    """Check that an array's header does not declare more bytes than the entry has.

    Args:
        stream: an entry in NumPy's format, at its start; the header is consumed.
        size: size of the entry in bytes.

    Raises:
        ValueError: an unreadable header, pickled objects, or an array larger than the entry.
    """
    version = np.lib.format.read_magic(stream)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if read is None:
        raise ValueError(f"an array must be in version 1.0 or 2.0 of NumPy's format, not {version}")
    shape, _, dtype = read(stream, max_header_size=_MAX_HEADER_BYTES)
    _check_size(shape, dtype, size)


def _check_size(shape: tuple[int, ...], dtype: np.dtype[Any], size: int) -> None:
    if dtype.hasobject:
        raise ValueError("an array holds pickled objects, which can run code and are not loaded")
    declared = dtype.itemsize
    for side in shape:
        declared *= side
    if declared > size or min(shape, default=0) < 0:
        raise ValueError(f"an array declares {declared} bytes, but at most {size} are there")
