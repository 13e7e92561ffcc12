"""Regularizers of activation maximization, one value for each image."""

from __future__ import annotations

from typing import Any

from keras import ops


def total_variation(images: Any) -> Any:
    """Return Σ(dx² + dy²) / (c·h·w) over the (h-1)×(w-1) interior of each image, (n,).

    As in Mahendran & Vedaldi 2015 with β = 2, normalized as in keras-vis.
    """
    down = images[:, 1:, :-1] - images[:, :-1, :-1]
    right = images[:, :-1, 1:] - images[:, :-1, :-1]
    total = ops.sum(ops.square(down) + ops.square(right), axis=(1, 2, 3))
    return total / _size(images)


def image_norm(images: Any) -> Any:
    """Return (Σ|x|⁶)^(1/6) / (c·h·w) for each image, (n,), normalized as in keras-vis."""
    square = ops.square(images)
    total = ops.sum(square * square * square, axis=(1, 2, 3))
    # The root has an infinite slope at 0: a black image would get a NaN gradient.
    return (total + 1e-12) ** (1 / 6) / _size(images)


def _size(images: Any) -> float:
    _, h, w, c = images.shape
    return float(h * w * c)
