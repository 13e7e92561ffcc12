"""Synthetic textures, seeded, for examining a model without images."""

from __future__ import annotations

from functools import reduce

import numpy as np
from numpy.typing import NDArray


def synthetic_images(
    shape: tuple[int, ...],
    value_range: tuple[float, float] = (0.0, 1.0),
    *,
    count: int = 48,
    seed: int = 0,
) -> NDArray[np.float32]:
    """Return images of fine noise, coarse noise, gratings, rings, edges and checks in equal shares.

    Series are made as rows of such images, and volumes with the same patterns in all directions:
    noise, waves, balls and shells, soft and hard edges, and checks.

    They do not replace photographs: a filter that is silent on all of them may still be useful.

    Args:
        shape: (h, w, c); or (t, c) for series, (d, h, w, c) for volumes.
        value_range: (low, high); each image reaches both in some channel.
        count: number of images.
        seed: seed of all random draws.

    Returns:
        (count, *shape) float32.
    """
    draw = np.random.default_rng(seed)
    *sides, c = shape
    # A coordinate of each pixel along each side, the last first: x, y, z.
    places = tuple(np.indices(sides)[::-1] / max(sides))
    low, high = value_range
    out = np.empty((count, *shape), np.float32)
    for i in range(count):
        pattern = _pattern(i % 6, places, draw)
        color = draw.uniform(-1, 1, c) if c > 1 else np.ones(1)
        tinted = pattern[..., None] * color + draw.uniform(0, 0.4, c)
        tinted -= tinted.min()
        out[i] = low + (high - low) * tinted / max(float(tinted.max()), 1e-9)
    return np.clip(out, low, high)


def _pattern(
    kind: int, places: tuple[NDArray[np.float64], ...], draw: np.random.Generator
) -> NDArray[np.float64]:
    """Return a pattern, shaped like the coordinates `places` (x, y, …), with values from 0 to 1."""
    angle, phase, pitch = draw.uniform(0, np.pi), draw.uniform(0, 1), draw.uniform(2, 12)
    axes = _directions(len(places), angle, draw)
    along = _along(places, axes[0])
    if kind == 0:
        return draw.random(places[0].shape)
    if kind == 1:  # coarse noise
        cells = int(pitch) + 2
        grain = draw.random((cells,) * len(places))
        pick: NDArray[np.float64] = grain[
            tuple((place * cells * 0.999).astype(int) for place in places[::-1])
        ]
        return pick
    if kind == 2:  # a grating
        return 0.5 + 0.5 * np.sin(2 * np.pi * (along * pitch + phase))
    if kind == 3:  # a disc or a ring
        r = reduce(np.hypot, [place - draw.uniform(0.3, 0.7) for place in places])
        radius, width = draw.uniform(0.1, 0.35), draw.uniform(0.03, 0.2)
        return (np.abs(r - radius) < width).astype(np.float64)
    if kind == 4:  # an edge, soft or hard
        return 1 / (1 + np.exp(-(along - along.mean()) * draw.uniform(10, 200)))
    cells_of = [np.floor(_along(places, axis) * pitch) for axis in axes]
    return (reduce(np.add, cells_of) % 2).astype(np.float64)


def _along(
    places: tuple[NDArray[np.float64], ...], direction: tuple[float, ...]
) -> NDArray[np.float64]:
    """Return the coordinate of each pixel along a direction."""
    return reduce(np.add, [p * share for p, share in zip(places, direction, strict=True)])


def _directions(sides: int, angle: float, draw: np.random.Generator) -> list[tuple[float, ...]]:
    """Return as many directions, at right angles, as there are sides; the first is that of waves.

    In an image the first has an angle to the rows. In a volume it is turned out of that plane.
    """
    cos, sin = float(np.cos(angle)), float(np.sin(angle))
    if sides == 1:
        return [(1.0,)]
    if sides == 2:
        return [(cos, sin), (sin, -cos)]
    tilt = draw.uniform(0, np.pi)
    up, flat = float(np.sin(tilt)), float(np.cos(tilt))
    return [(cos * flat, sin * flat, up), (sin, -cos, 0.0), (-cos * up, -sin * up, flat)]
