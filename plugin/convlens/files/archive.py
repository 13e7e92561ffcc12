"""ZIP archives that may come from strangers, examined before anything is unpacked."""

from __future__ import annotations

import stat
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np
import psutil

MOST_ENTRIES = 100_000
_LARGEST_HEADER = 2**16


def open_archive(source: Path | IO[bytes], *, largest: int | None = None) -> zipfile.ZipFile:
    """Open an archive whose names stay inside it, and which unpacks to what memory can hold.

    Args:
        source: the file.
        largest: how many bytes it may unpack to; None for half of the memory that is free.

    Raises:
        ValueError: an entry's name would lead out of a folder, is there twice, or is that of a
            link; too many entries, or too large ones.
        zipfile.BadZipFile, OSError: no archive, or one that cannot be read.
    """
    if isinstance(source, Path) and not source.is_file():
        raise ValueError("it is no file")
    archive = zipfile.ZipFile(source)
    try:
        _examine(archive, psutil.virtual_memory().available // 2 if largest is None else largest)
    except BaseException:
        archive.close()
        raise
    return archive


def _examine(archive: zipfile.ZipFile, largest: int) -> None:
    entries = archive.infolist()
    if len(entries) > MOST_ENTRIES:
        raise ValueError(f"it has {len(entries)} entries, more than {MOST_ENTRIES}")
    names = [entry.filename for entry in entries]
    if len(set(names)) < len(names):
        raise ValueError("an entry is there twice")
    for entry in entries:
        parts = entry.filename.replace("\\", "/").split("/")
        if ".." in parts or parts[0] == "" or ":" in parts[0] or not entry.filename.isprintable():
            raise ValueError(f"the entry {entry.filename!r} would lead out of its folder")
        if stat.S_ISLNK(entry.external_attr >> 16):
            raise ValueError(f"the entry {entry.filename!r} is a link")
    total = sum(entry.file_size for entry in entries)
    if total > largest:
        raise ValueError(f"it unpacks to {total} bytes, more than there is room for, {largest}")


def check_array(stream: IO[bytes], size: int) -> None:
    """Hold what an array's header declares against how many bytes there are.

    Args:
        stream: an entry in NumPy's format, at its beginning; what was read of it is lost.
        size: how many bytes the entry has.

    Raises:
        ValueError: a header that cannot be read, pickled objects, or a larger array than is there.
    """
    version = np.lib.format.read_magic(stream)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if read is None:
        raise ValueError(f"an array is in version {version} of NumPy's format, not 1.0 or 2.0")
    shape, _, dtype = read(stream, max_header_size=_LARGEST_HEADER)
    _check_size(shape, dtype, size)


def _check_size(shape: tuple[int, ...], dtype: np.dtype[Any], size: int) -> None:
    if dtype.hasobject:
        raise ValueError("it holds pickled objects, which can run code, and which are not read")
    declared = dtype.itemsize
    for side in shape:
        declared *= side
    if declared > size or min(shape, default=0) < 0:
        raise ValueError(f"an array declares {declared} bytes, of which {size} at most are there")
