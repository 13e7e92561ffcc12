"""Pictures of series and volumes: a series as a curve over a color bar, a volume as its slices."""

from __future__ import annotations

import numpy as np

from convlens.pictures.normalize import Pixels, viridis

_CURVE, _BAR = 32, 8  # rows of a series' curve, and of its color bars together
_MAX_STEPS = 256
_MAX_SLICES = 5
_WHITE, _GAP = 255, 1


def unfolded(levels: Pixels, sides: int) -> Pixels:
    """Return gray levels or colors of an image, a series or a volume as a picture.

    A series is a curve of its channels' mean above a color bar for each channel, at 256 steps at
    most. A volume or a video is a strip of at most five slices, evenly spaced from the first to the
    last, the middle one among them.

    Args:
        levels: uint8, (*positions) or (*positions, c).
        sides: number of sides of the positions: 1, 2 or 3.

    Returns:
        Of an image the levels themselves, of a series (40, t, 3), of a volume
        (h, slices·(w + 1) - 1, …).
    """
    if sides == 1:
        return _curve(levels.reshape(len(levels), -1))
    return levels if sides == 2 else _strip(levels)


def _curve(levels: Pixels) -> Pixels:
    """Return a series (t, c) as a picture (rows, t, 3)."""
    if len(levels) > _MAX_STEPS:
        levels = levels[np.linspace(0, len(levels) - 1, _MAX_STEPS).round().astype(int)]
    height = np.round((255 - levels.mean(axis=1)) / 255 * (_CURVE - 1)).astype(int)
    # A curve is a line from step to step, not points.
    before = np.concatenate([height[:1], height[:-1]])
    top, bottom = np.minimum(before, height), np.maximum(before, height)
    rows = np.arange(_CURVE)[:, None]
    ink = (rows >= top) & (rows <= bottom)
    curve = np.where(ink, 0, _WHITE).astype(np.uint8)
    count = min(_BAR, levels.shape[1])
    kept = levels[:, np.linspace(0, levels.shape[1] - 1, count).round().astype(int)]
    bar = np.repeat(viridis(kept.T), -(-_BAR // count), axis=0)[:_BAR]
    return np.concatenate([np.repeat(curve[..., None], 3, axis=2), bar])


def _strip(levels: Pixels) -> Pixels:
    """Return slices of a volume (d, h, w, …) side by side."""
    count = min(_MAX_SLICES, len(levels))
    numbers = np.linspace(0, len(levels) - 1, count).round().astype(int)
    gap = np.full((levels.shape[1], _GAP, *levels.shape[3:]), _WHITE, np.uint8)
    parts = [part for number in numbers for part in (gap, levels[number])]
    return np.concatenate(parts[1:], axis=1)
