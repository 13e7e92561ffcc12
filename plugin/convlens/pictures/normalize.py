"""Convert values to pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Pixels = NDArray[np.uint8]

# Every sixteenth entry of the viridis color map (van der Walt & Smith 2015, CC0). Linear
# interpolation between them is exact to within two gray levels.
_VIRIDIS = np.array(
    [
        (68, 1, 84), (72, 23, 105), (71, 45, 123), (66, 64, 134), (59, 82, 139), (51, 99, 141),
        (44, 114, 142), (38, 130, 142), (33, 145, 140), (31, 160, 136), (40, 174, 128),
        (63, 188, 115), (94, 201, 98), (132, 212, 75), (173, 220, 48), (216, 226, 25),
        (253, 231, 37),
    ],
    np.float64,
)  # fmt: skip
# An image that varies by less than this share of the model's range is shown on that range.
_FLAT = 0.05
_STEPS = np.linspace(0, len(_VIRIDIS) - 1, 256)
_COLORS = np.round(
    [np.interp(_STEPS, np.arange(len(_VIRIDIS)), channel) for channel in _VIRIDIS.T]
).T.astype(np.uint8)


def viridis(values: ArrayLike) -> Pixels:
    """Return gray levels (…) uint8 as viridis colors (…, 3) uint8."""
    return _COLORS[np.asarray(values)]


def feature_map_pixels(feature_map: ArrayLike) -> Pixels:
    """Return a feature map (h, w) as gray levels: (map - mean)/std·64 + 128, clipped to 0–255.

    A constant map is black.

    Raises:
        ValueError: values that are not finite.
    """
    values = _finite(feature_map)
    deviation = values.std()
    if values.min() == values.max():
        return np.zeros(values.shape, np.uint8)
    return _to_bytes((values - values.mean()) / deviation * 64 + 128)


def stretched_pixels(image: ArrayLike, value_range: tuple[float, float]) -> Pixels:
    """Return an optimized image (h, w, c) as pixels: its 1st to 99th percentile becomes 0 to 255.

    The percentiles are those of all channels together, so that colors keep their hues. An image
    whose percentiles are less than a twentieth of the range apart is shown on the range itself, so
    that a flat image looks flat.

    Args:
        image: the image.
        value_range: (low, high) of the pixels that the model takes.

    Raises:
        ValueError: values that are not finite.
    """
    values = _finite(image)
    low, high = (float(value) for value in np.percentile(values, (1, 99)))
    if high - low < _FLAT * (value_range[1] - value_range[0]):
        low, high = value_range
    return range_pixels(values, (low, high))


def deprocess(image: ArrayLike) -> Pixels:
    """Return an image as keras-vis shows it: (x - mean)/std·0.1 + 0.5, clipped, times 255.

    A constant image is mid-gray.

    Raises:
        ValueError: values that are not finite.
    """
    values = _finite(image)
    if values.min() == values.max():
        return np.full(values.shape, 128, np.uint8)
    return _to_bytes(((values - values.mean()) / values.std() * 0.1 + 0.5) * 255)


def signed_pixels(image: ArrayLike) -> Pixels:
    """Return a reconstruction (h, w, c) with positive and negative values; 0 is mid-gray.

    The largest magnitude is black or white. An image of zeros is mid-gray.

    Raises:
        ValueError: values that are not finite.
    """
    values = _finite(image)
    size = float(np.abs(values).max())
    return _to_bytes(128 + 127 * values / size if size else np.full(values.shape, 128.0))


def range_pixels(image: ArrayLike, value_range: tuple[float, float]) -> Pixels:
    """Return an image with values in a given range (low, high) as pixels.

    Raises:
        ValueError: values that are not finite.
    """
    low, high = value_range
    return _to_bytes((_finite(image) - low) / (high - low) * 255)


def heat_pixels(values: ArrayLike) -> Pixels:
    """Return values (…) as viridis colors (…, 3) uint8, from dark (lowest) to yellow (highest).

    Raises:
        ValueError: values that are not finite.
    """
    array = _finite(values)
    low, high = float(array.min()), float(array.max())
    return viridis(np.round((array - low) / ((high - low) or 1) * 255).astype(np.uint8))


def _to_bytes(values: NDArray[np.float64]) -> Pixels:
    return np.round(np.clip(values, 0, 255)).astype(np.uint8)


def _finite(values: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(values, np.float64)
    if not array.size or not np.isfinite(array).all():
        raise ValueError("a picture needs finite values, not NaN, infinity or an empty array")
    return array
