"""Random transformations of an image before each gradient: jitter, scale and rotation.

They suppress patterns that depend on the exact pixel grid (Olah, Mordvintsev & Schubert 2017,
"transformation robustness").
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
    """Random transformations, one draw in each step for the whole batch.

    Attributes:
        jitter: largest roll in either direction, inclusive: pixels, or, below 1, a fraction of the
            side, truncated to pixels.
        scale: (min, max) of the factor that enlarges the image about its center.
        rotation: largest angle in either direction, in degrees.
    """

    jitter: float
    scale: tuple[float, float]
    rotation: float

    @property
    def resamples(self) -> bool:
        """True if images are interpolated, not only rolled."""
        return self.scale != (1.0, 1.0) or self.rotation > 0

    def strength(self, size: tuple[int, int]) -> float:
        """Return 1 if images of a size are changed at all, else 0."""
        return float(self.resamples or max(self.reach(size)) > 0)

    def reach(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return the largest roll along each side, in pixels."""
        j = self.jitter
        down, right = (int(side * j) if 0 < j < 1 else int(j) for side in size)
        return down, right

    def shifts(
        self, size: tuple[int, int], strength: NDArray[np.float64], seed: int
    ) -> NDArray[np.int32]:
        """Return the roll down and to the right at each step, in pixels, (steps, 2).

        Args:
            size: (h, w) of the images.
            strength: (steps,) factor of the largest roll at each step, 0 to 1.
            seed: seed of the draws.
        """
        # One generator for the whole run, so that all chunks of units get the same rolls.
        draw = np.random.default_rng([seed, 0x5EED])
        reaches = [np.rint(r * strength).astype(np.int32) for r in self.reach(size)]
        return np.stack([draw.integers(-r, r, endpoint=True) for r in reaches], axis=1).astype(
            np.int32
        )

    def matrices(self, strength: NDArray[np.float64], seed: int) -> NDArray[np.float32]:
        """Return the matrix of each step from output to input positions, (steps, 2, 2).

        Args:
            strength: (steps,) factor of the angle and of the scale's logarithm, 0 to 1.
            seed: seed of the draws.
        """
        draw = np.random.default_rng([seed, 0x5CA1E])
        low, high = self.scale
        steps = len(strength)
        factor = np.exp(strength * draw.uniform(math.log(low), math.log(high), steps))
        angle = np.radians(strength * draw.uniform(-1, 1, steps) * self.rotation)
        cos, sin = np.cos(angle) / factor, np.sin(angle) / factor
        return np.stack([np.stack([cos, -sin], 1), np.stack([sin, cos], 1)], 1).astype(np.float32)


def roll(images: Any, shift: Any) -> Any:
    """Return images (n, h, w, c) rolled by (down, right) pixels."""
    return ops.roll(images, shift, axis=(1, 2))


def resample(images: Any, matrix: Any) -> Any:
    """Return images (n, h, w, c) rotated and scaled about their center, bilinear, mirrored edges.

    Implemented here because TensorFlow's gradient of Keras's `affine_transform` is wrong: it warps
    the gradient back instead of adding each output pixel's gradient to the input pixels it read.

    Args:
        images: (n, h, w, c).
        matrix: (2, 2) from output to input positions (row, column), counted from the center.
    """
    n, h, w, c = images.shape
    y, x = (axis.reshape(-1).astype(np.float32) for axis in np.mgrid[:h, :w])
    grid = np.stack([y - (h - 1) / 2, x - (w - 1) / 2])
    source = ops.matmul(matrix, grid)
    top, down = _mirror(source[0] + (h - 1) / 2, h)
    left, right = _mirror(source[1] + (w - 1) / 2, w)
    count = ops.shape(images)[0] if n is None else n
    # Positions first, so that gathering, and scattering the gradient, moves whole rows.
    rows = ops.reshape(ops.transpose(images, (1, 2, 0, 3)), (h * w, -1))
    mixed = sum(
        ops.take(rows, (top + min(dy, h - 1)) * w + left + min(dx, w - 1), axis=0)
        * (fy * fx)[:, None]
        for dy, fy in ((0, 1 - down), (1, down))
        for dx, fx in ((0, 1 - right), (1, right))
    )
    return ops.transpose(ops.reshape(mixed, (h, w, count, c)), (2, 0, 1, 3))


def _mirror(at: Any, size: int) -> tuple[Any, Any]:
    """Return coordinates mirrored at the edges, as an integer part (below size - 1) and a rest."""
    if size == 1:
        return ops.zeros_like(at, "int32"), ops.zeros_like(at)
    last = float(size - 1)
    folded = ops.abs(ops.mod(at, 2 * last))
    folded = ops.minimum(folded, 2 * last - folded)
    whole = ops.clip(ops.floor(folded), 0.0, last - 1)
    return ops.cast(whole, "int32"), folded - whole
