"""Bar charts of a model's predictions: one bar per class, for a few images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from convlens.baselines.comparison import PicturePair
from convlens.pictures import grid

_MAX_IMAGES, _MAX_CLASSES = 8, 24
_HEIGHT, _BAR, _GAP = 48, 4, 1
_BACKGROUND, _AXIS, _LEVEL = 24, 96, 230


def predictions_pair(
    layer: str, expected: NDArray[np.float32], actual: NDArray[np.float32]
) -> PicturePair | None:
    """Return expected and actual predictions as bar charts with one common scale.

    The charts show up to 8 images, those that differ most, and up to 24 classes, those with the
    largest values.

    Args:
        layer: name of the output.
        expected, actual: predictions (n, classes).

    Returns:
        The two charts, or None if the arrays have other shapes.
    """
    if expected.ndim != 2 or expected.shape != actual.shape:
        return None
    pair = np.stack([expected, actual]).astype(np.float64)
    error = np.abs(pair[1] - pair[0]).max(axis=1)
    pair = pair[:, np.sort(np.argsort(-error, kind="stable")[:_MAX_IMAGES])]
    strongest = np.argsort(np.abs(pair).max(axis=(0, 1)))[::-1][:_MAX_CLASSES]
    shown = pair[..., np.sort(strongest)]
    low, high = min(0.0, float(shown.min())), max(0.0, float(shown.max()))
    tops = np.round((high - shown) / (high - low or 1.0) * (_HEIGHT - 1)).astype(int)
    zero = round(high / (high - low or 1.0) * (_HEIGHT - 1))
    before, now = (grid(np.stack([_bars(row, zero) for row in side]), columns=4) for side in tops)
    return PicturePair(f"{layer}: output for some images", before, now, layer=layer)


def _bars(tops: NDArray[np.int64], zero: int) -> NDArray[np.uint8]:
    """Return a picture (h, w) of bars that reach from row `zero` to each row in `tops`."""
    picture = np.full((_HEIGHT, len(tops) * (_BAR + _GAP) + _GAP), _BACKGROUND, np.uint8)
    picture[zero] = _AXIS
    for number, top in enumerate(tops):
        left = _GAP + number * (_BAR + _GAP)
        picture[min(top, zero) : max(top, zero) + 1, left : left + _BAR] = _LEVEL
    return picture
