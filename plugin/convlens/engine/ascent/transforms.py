"""Random transformations of an image before each gradient: jitter, scale and rotation.

They suppress patterns that depend on the exact pixel grid (Olah, Mordvintsev & Schubert 2017,
"transformation robustness").
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
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

    def strength(self, size: tuple[int, ...]) -> float:
        """Return 1 if images of a size are changed at all, else 0."""
        return float(self.resamples or max(self.reach(size)) > 0)

    def reach(self, size: tuple[int, ...]) -> tuple[int, ...]:
        """Return the largest roll along each side, in pixels."""
        j = self.jitter
        return tuple(int(side * j) if 0 < j < 1 else int(j) for side in size)

    def shifts(
        self, size: tuple[int, ...], strength: NDArray[np.float64], seed: int
    ) -> NDArray[np.int32]:
        """Return the roll along each side at each step, in pixels, (steps, sides).

        Args:
            size: size of the images along each side, (h, w).
            strength: (steps,) factor of the largest roll at each step, 0 to 1.
            seed: seed of the draws.
        """
        # One generator for the whole run, so that all chunks of units get the same rolls.
        draw = np.random.default_rng([seed, 0x5EED])
        reaches = [np.rint(r * strength).astype(np.int32) for r in self.reach(size)]
        return np.stack([draw.integers(-r, r, endpoint=True) for r in reaches], axis=1).astype(
            np.int32
        )

    def matrices(
        self, strength: NDArray[np.float64], seed: int, sides: int = 2
    ) -> NDArray[np.float32]:
        """Return the matrix of each step from output to input positions, (steps, sides, sides).

        Rotations are within the last two sides.

        Args:
            strength: (steps,) factor of the angle and of the scale's logarithm, 0 to 1.
            seed: seed of the draws.
            sides: number of sides of an image.
        """
        draw = np.random.default_rng([seed, 0x5CA1E])
        low, high = self.scale
        steps = len(strength)
        factor = np.exp(strength * draw.uniform(math.log(low), math.log(high), steps))
        angle = np.radians(strength * draw.uniform(-1, 1, steps) * self.rotation)
        found = np.eye(sides) / factor[:, None, None]
        if sides > 1:
            cos, sin = np.cos(angle) / factor, np.sin(angle) / factor
            found[:, -2:, -2:] = np.stack([np.stack([cos, -sin], 1), np.stack([sin, cos], 1)], 1)
        return found.astype(np.float32)


def roll(images: Any, shift: Any) -> Any:
    """Return images (n, *positions, c) rolled by some pixels along each side."""
    return ops.roll(images, shift, axis=tuple(range(1, len(images.shape) - 1)))


def resample(images: Any, matrix: Any) -> Any:
    """Return images rotated and scaled about their center, bilinear, mirrored edges.

    Implemented here because TensorFlow's gradient of Keras's `affine_transform` is wrong: it warps
    the gradient back instead of adding each output pixel's gradient to the input pixels it read.

    Args:
        images: (n, *positions, c).
        matrix: (sides, sides) from output to input positions, counted from the center.
    """
    n, *sides, c = images.shape
    rank, middle = len(sides), [np.float32((side - 1) / 2) for side in sides]
    axes = (axis.reshape(-1).astype(np.float32) for axis in np.indices(sides))
    source = ops.matmul(matrix, np.stack([axis - m for axis, m in zip(axes, middle, strict=True)]))
    places = [_mirror(source[i] + middle[i], side) for i, side in enumerate(sides)]
    count = ops.shape(images)[0] if n is None else n
    # Positions first, so that gathering, and scattering the gradient, moves whole rows.
    order = (*range(1, rank + 1), 0, rank + 1)
    rows = ops.reshape(ops.transpose(images, order), (math.prod(sides), -1))
    mixed = sum(
        ops.take(rows, _row(places, sides, corner), axis=0) * _share(places, corner)[:, None]
        for corner in itertools.product((0, 1), repeat=rank)
    )
    back = (rank, *range(rank), rank + 1)
    return ops.transpose(ops.reshape(mixed, (*sides, count, c)), back)


def _row(places: Sequence[tuple[Any, Any]], sides: Sequence[int], corner: Sequence[int]) -> Any:
    """Return the number of the pixel at a corner of the cell around each place."""
    row: Any = 0
    for (whole, _), side, step in zip(places, sides, corner, strict=True):
        row = row * side + whole + min(step, side - 1)
    return row


def _share(places: Sequence[tuple[Any, Any]], corner: Sequence[int]) -> Any:
    """Return the weight of a corner of the cell around each place."""
    share: Any = 1
    for (_, rest), step in zip(places, corner, strict=True):
        share = share * (rest if step else 1 - rest)
    return share


def _mirror(at: Any, size: int) -> tuple[Any, Any]:
    """Return coordinates mirrored at the edges, as an integer part (below size - 1) and a rest."""
    if size == 1:
        return ops.zeros_like(at, "int32"), ops.zeros_like(at)
    last = float(size - 1)
    folded = ops.abs(ops.mod(at, 2 * last))
    folded = ops.minimum(folded, 2 * last - folded)
    whole = ops.clip(ops.floor(folded), 0.0, last - 1)
    return ops.cast(whole, "int32"), folded - whole
