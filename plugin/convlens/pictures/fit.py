"""Images of another size, without resampling."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def fitted(images: NDArray[Any], size: tuple[int, ...]) -> NDArray[Any]:
    """Return images of a size along each side: their middle, or continued by mirror images.

    Args:
        images: (n, *positions, c).
        size: the size along each side, (h, w).
    """
    cut: list[slice] = [slice(None)]
    widths = [(0, 0)]
    for side, wanted in zip(images.shape[1:-1], size, strict=True):
        first, missing = max(0, side - wanted) // 2, max(0, wanted - side)
        cut.append(slice(first, first + min(side, wanted)))
        widths.append((missing // 2, missing - missing // 2))
    middle = images[tuple(cut)]
    return np.pad(middle, [*widths, (0, 0)], mode="symmetric") if any(map(any, widths)) else middle
