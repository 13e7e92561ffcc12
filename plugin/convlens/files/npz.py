"""Read `.npz` files from untrusted sources."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convlens.files.archive import check_array, open_archive


def read_npz(path: Path) -> dict[str, NDArray[Any]]:
    """Return the arrays of an `.npz` file by name; pickled objects are refused.

    Raises:
        ValueError: a file that is missing, cannot be read, or does not fit in memory; the message
            is one line.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ValueError("not a regular file")
        with path.open("rb") as stream:
            if stream.read(6) == b"\x93NUMPY":
                raise ValueError("a single array in .npy format, not an .npz archive")
        arrays = {}
        with open_archive(path) as archive:
            for entry in archive.infolist():
                with archive.open(entry) as stream:
                    check_array(stream, entry.file_size)
                with archive.open(entry) as stream:
                    array = np.lib.format.read_array(stream, allow_pickle=False)
                arrays[entry.filename.removesuffix(".npy")] = array
        return arrays
    except Exception as error:  # a damaged archive raises errors of nearly every type
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise ValueError(f"{path} cannot be read as .npz ({reason[:300]})") from None
