"""Synthetic textures, seeded, for examining a model without images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def synthetic_images(
    shape: tuple[int, int, int],
    value_range: tuple[float, float] = (0.0, 1.0),
    *,
    count: int = 48,
    seed: int = 0,
) -> NDArray[np.float32]:
    """Return images of fine noise, coarse noise, gratings, rings, edges and checks in equal shares.

    They do not replace photographs: a filter that is silent on all of them may still be useful.

    Args:
        shape: (h, w, c).
        value_range: (low, high); each image reaches both in some channel.
        count: number of images.
        seed: seed of all random draws.

    Returns:
        (count, h, w, c) float32.
    """
    draw = np.random.default_rng(seed)
    h, w, c = shape
    y, x = np.mgrid[:h, :w] / max(h, w)
    low, high = value_range
    out = np.empty((count, h, w, c), np.float32)
    for i in range(count):
        pattern = _pattern(i % 6, x, y, draw)
        color = draw.uniform(-1, 1, c) if c > 1 else np.ones(1)
        tinted = pattern[..., None] * color + draw.uniform(0, 0.4, c)
        tinted -= tinted.min()
        out[i] = low + (high - low) * tinted / max(float(tinted.max()), 1e-9)
    return np.clip(out, low, high)


def _pattern(
    kind: int, x: NDArray[np.float64], y: NDArray[np.float64], draw: np.random.Generator
) -> NDArray[np.float64]:
    angle, phase, pitch = draw.uniform(0, np.pi), draw.uniform(0, 1), draw.uniform(2, 12)
    along = x * np.cos(angle) + y * np.sin(angle)
    if kind == 0:
        return draw.random(x.shape)
    if kind == 1:  # coarse noise
        grain = draw.random((int(pitch) + 2, int(pitch) + 2))
        pick: NDArray[np.float64] = grain[
            (y * grain.shape[0] * 0.999).astype(int), (x * grain.shape[1] * 0.999).astype(int)
        ]
        return pick
    if kind == 2:  # a grating
        return 0.5 + 0.5 * np.sin(2 * np.pi * (along * pitch + phase))
    if kind == 3:  # a disc or a ring
        r = np.hypot(x - draw.uniform(0.3, 0.7), y - draw.uniform(0.3, 0.7))
        radius, width = draw.uniform(0.1, 0.35), draw.uniform(0.03, 0.2)
        return (np.abs(r - radius) < width).astype(np.float64)
    if kind == 4:  # an edge, soft or hard
        return 1 / (1 + np.exp(-(along - along.mean()) * draw.uniform(10, 200)))
    across = x * np.sin(angle) - y * np.cos(angle)
    return ((np.floor(along * pitch) + np.floor(across * pitch)) % 2).astype(np.float64)
