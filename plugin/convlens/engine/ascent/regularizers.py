"""Regularizers of activation maximization, one value for each image."""

from __future__ import annotations

import math
from typing import Any

from keras import ops


def total_variation(images: Any) -> Any:
    """Return Σ(dx² + dy²) / (c·h·w) over the (h-1)×(w-1) interior of each image, (n,).

    As in Mahendran & Vedaldi 2015 with β = 2, normalized as in keras-vis. Series have dx alone, and
    volumes a third difference.
    """
    sides = range(1, len(images.shape) - 1)

    def interior(moved: int | None) -> Any:
        return images[
            (slice(None), *(slice(1, None) if i == moved else slice(None, -1) for i in sides))
        ]

    squares = sum(ops.square(interior(side) - interior(None)) for side in sides)
    return ops.sum(squares, axis=tuple(range(1, len(images.shape)))) / _size(images)


def image_norm(images: Any) -> Any:
    """Return (Σ|x|⁶)^(1/6) / (c·h·w) for each image, (n,), normalized as in keras-vis."""
    square = ops.square(images)
    total = ops.sum(square * square * square, axis=tuple(range(1, len(images.shape))))
    # The root has an infinite slope at 0: a black image would get a NaN gradient.
    return (total + 1e-12) ** (1 / 6) / _size(images)


def _size(images: Any) -> float:
    return float(math.prod(images.shape[1:]))
