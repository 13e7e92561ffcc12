"""Read `.npz` files that may come from strangers."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convlens.files.archive import check_array, open_archive


def read_npz(path: Path) -> dict[str, NDArray[Any]]:
    """Return the arrays of an `.npz` file; pickled objects are refused.

    Raises:
        ValueError: the file is missing, larger than memory has room for, or cannot be read; the
            message is one line.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ValueError("it is no file")
        with path.open("rb") as stream:
            if stream.read(6) == b"\x93NUMPY":
                raise ValueError("it holds one array, not an archive of them")
        arrays = {}
        with open_archive(path) as archive:
            for entry in archive.infolist():
                with archive.open(entry) as stream:
                    check_array(stream, entry.file_size)
                with archive.open(entry) as stream:
                    array = np.lib.format.read_array(stream, allow_pickle=False)
                arrays[entry.filename.removesuffix(".npy")] = array
        return arrays
    except Exception as error:  # a damaged archive raises nearly every type there is
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise ValueError(f"{path} cannot be read as .npz ({reason[:300]})") from None
