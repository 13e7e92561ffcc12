"""What an image goes through before each gradient: jitter, random scale and rotation.

A pattern that survives them is one that the network sees, and not one that the pixel grid allows
(Olah, Mordvintsev & Schubert 2017, "transformation robustness").
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops
from numpy.typing import NDArray


@dataclass(frozen=True)
class Transforms:
    """Random transformations, one draw a step for the whole batch.

    Attributes:
        jitter: how far the image is rolled to either side: pixels, or below 1 a fraction of the
            side, truncated to pixels. Both ends are included.
        scale: (smallest, largest) factor by which the image is enlarged about its center.
        rotation: the largest angle in degrees to either side.
    """

    jitter: float
    scale: tuple[float, float]
    rotation: float

    @property
    def resamples(self) -> bool:
        """Whether images are interpolated, and not only rolled."""
        return self.scale != (1.0, 1.0) or self.rotation > 0

    def shifts(self, size: tuple[int, int], steps: int, seed: int) -> NDArray[np.int32]:
        """Return how far the image is rolled down and right at each step, (steps, 2)."""
        j = self.jitter
        reach = [int(side * j) if 0 < j < 1 else int(j) for side in size]
        # One generator for the whole run, so that chunks of units are rolled alike.
        draw = np.random.default_rng([seed, 0x5EED])
        return np.stack([draw.integers(-r, r, steps, endpoint=True) for r in reach], axis=1).astype(
            np.int32
        )

    def matrices(self, steps: int, seed: int) -> NDArray[np.float32]:
        """Return for each step the map (2, 2) from where a pixel is shown to where it is read."""
        draw = np.random.default_rng([seed, 0x5CA1E])
        low, high = self.scale
        factor = np.exp(draw.uniform(math.log(low), math.log(high), steps))
        angle = np.radians(draw.uniform(-1, 1, steps) * self.rotation)
        cos, sin = np.cos(angle) / factor, np.sin(angle) / factor
        return np.stack([np.stack([cos, -sin], 1), np.stack([sin, cos], 1)], 1).astype(np.float32)


def roll(images: Any, shift: Any) -> Any:
    """Return images (n, h, w, c) rolled by (down, right) pixels."""
    return ops.roll(images, shift, axis=(1, 2))


def resample(images: Any, matrix: Any) -> Any:
    """Return images (n, h, w, c) rotated and scaled about their center, bilinear, mirrored edges.

    Written out because on TensorFlow the gradient of Keras's `affine_transform` is not that of the
    function: it warps back instead of spreading each pixel to where it was read from.

    Args:
        images: (n, h, w, c), h and w at least 2.
        matrix: (2, 2) from a shown (row, column), counted from the center, to where it is read.
    """
    n, h, w, c = images.shape
    y, x = (axis.reshape(-1).astype(np.float32) for axis in np.mgrid[:h, :w])
    grid = np.stack([y - (h - 1) / 2, x - (w - 1) / 2])
    source = ops.matmul(matrix, grid)
    top, down = _mirrored(source[0] + (h - 1) / 2, h)
    left, right = _mirrored(source[1] + (w - 1) / 2, w)
    count = ops.shape(images)[0] if n is None else n
    # Positions first: gathering, and scattering the gradient, then moves whole rows.
    rows = ops.reshape(ops.transpose(images, (1, 2, 0, 3)), (h * w, -1))
    mixed = sum(
        ops.take(rows, (top + dy) * w + left + dx, axis=0) * (fy * fx)[:, None]
        for dy, fy in ((0, 1 - down), (1, down))
        for dx, fx in ((0, 1 - right), (1, right))
    )
    return ops.transpose(ops.reshape(mixed, (h, w, count, c)), (2, 0, 1, 3))


def _mirrored(at: Any, size: int) -> tuple[Any, Any]:
    """Return coordinates folded back at the edges: the whole part, below size - 1, and the rest."""
    last = float(size - 1)
    folded = ops.abs(ops.mod(at, 2 * last))
    folded = ops.minimum(folded, 2 * last - folded)
    whole = ops.clip(ops.floor(folded), 0.0, last - 1)
    return ops.cast(whole, "int32"), folded - whole
