"""Max-unpooling written out in NumPy, to hold the engine's against."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def unpool(
    features: NDArray[Any],
    signal: NDArray[Any],
    pool_size: tuple[int, int],
    strides: tuple[int, int],
    padding: str,
) -> NDArray[np.float64]:
    """Put each value of a signal where its window had its maximum; collisions add up.

    Args:
        features: (n, h, w, c) what was pooled on the way up.
        signal: (n, ph, pw, c) what comes down.
        pool_size, strides: (rows, columns) of the windows and between them.
        padding: 'valid' or 'same'.

    Returns:
        (n, h, w, c): zero but at the switches; of equal values the first in row-major order is one.
    """
    n, h, w, c = features.shape
    rows, columns = signal.shape[1:3]
    top = _before(h, rows, pool_size[0], strides[0]) if padding == "same" else 0
    left = _before(w, columns, pool_size[1], strides[1]) if padding == "same" else 0
    out = np.zeros(features.shape, np.float64)
    image, channel = np.ogrid[:n, :c]
    for i in range(rows):
        for j in range(columns):
            y0, x0 = i * strides[0] - top, j * strides[1] - left
            ys = slice(max(y0, 0), min(y0 + pool_size[0], h))
            xs = slice(max(x0, 0), min(x0 + pool_size[1], w))
            window = features[:, ys, xs]
            width = window.shape[2]
            at = window.reshape(n, -1, c).argmax(axis=1)
            np.add.at(
                out,
                (image, ys.start + at // width, xs.start + at % width, channel),
                signal[:, i, j],
            )
    return out


def _before(size: int, windows: int, pool: int, stride: int) -> int:
    """Return how many padded positions come before the first with 'same' padding."""
    return max((windows - 1) * stride + pool - size, 0) // 2
