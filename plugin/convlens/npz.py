"""Read `.npz` files that may come from strangers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def read_npz(path: Path) -> dict[str, NDArray[Any]]:
    """Return the arrays of an `.npz` file; pickled objects are refused.

    Raises:
        ValueError: the file is missing or cannot be read; the message is one line.
    """
    try:
        # NumPy leaves a file that it opened itself open when it is no archive.
        with path.open("rb") as stream:
            data = np.load(stream, allow_pickle=False)
            if isinstance(data, np.ndarray):
                raise ValueError("it holds one array, not an archive of them")
            return {name: data[name] for name in data.files}
    except Exception as error:  # a damaged archive raises nearly every type there is
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise ValueError(f"{path} cannot be read as .npz ({reason})") from None
