"""Pictures of arrays that differ from their baselines, around the place where they differ most."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convlens.baselines.comparison import PicturePair
from convlens.pictures import Pixels, viridis

_SIDE = 64
_CELL = 256


def array_pair(name: str, expected: NDArray[Any], actual: NDArray[Any]) -> PicturePair | None:
    """Return a part of two arrays of one shape, around the value that differs most.

    Args:
        name: path of the array.
        expected, actual: (…, columns); the rows of all other axes are one below the other.

    Returns:
        The two parts with one scale, and their difference with a scale of its own; None where no
        value differs.
    """
    columns = expected.shape[-1] if expected.ndim > 1 else expected.size
    before, now = (a.reshape(-1, columns).astype(np.float64) for a in (expected, actual))
    return plane_pair(name, (before, now), np.abs(now - before), "value")


def image_pair(
    name: str, expected: NDArray[Any], actual: NDArray[Any], number: int
) -> PicturePair | None:
    """Return one of two stacks of images (n, h, w, c), around the pixel that differs most.

    Args:
        name: path of the images.
        expected, actual: the images.
        number: number of the image that differs most.
    """
    before, now = (stack[number].astype(np.float64) for stack in (expected, actual))
    change = np.abs(now - before).max(axis=-1)
    if before.shape[-1] not in (1, 3):
        before, now = before.mean(axis=-1), now.mean(axis=-1)
    return plane_pair(f"{name}, image {number}", (before, now), change, "pixel", layer=name)


def plane_pair(
    title: str,
    planes: Sequence[NDArray[np.float64]],
    change: NDArray[np.float64],
    noun: str,
    *,
    layer: str | None = None,
) -> PicturePair | None:
    """Return a part of two planes around the place of the largest change.

    Args:
        title: the title.
        planes: expected and actual, (h, w) or (h, w, c).
        change: (h, w) what is shown as the difference.
        noun: name of an entry of the planes.
        layer: path of the array; None for the title.
    """
    largest = float(change.max(initial=0.0))
    if not 0 < largest < np.inf:
        return None
    rows, columns = _window(change)
    both = np.stack([plane[rows, columns] for plane in planes])
    apart = change[rows, columns]
    low, high = float(both.min()), float(both.max())
    before, now = np.round((both - low) / ((high - low) or 1.0) * 255).astype(np.uint8)
    heat = viridis(np.round(apart / largest * 255).astype(np.uint8))
    place = f"rows {rows.start} to {rows.stop - 1}, columns {columns.start} to {columns.stop - 1}"
    where = "" if apart.shape == change.shape else f" of {place}, around the largest difference"
    return PicturePair(
        title,
        _enlarged(before),
        _enlarged(now),
        layer=layer or title,
        difference=_enlarged(heat),
        note=f"A square for each {noun}{where}. Black is {low:.6g} and white {high:.6g} in both. "
        f"In the difference yellow is {largest:.3g}, dark purple is 0.",
    )


def _window(change: NDArray[np.float64]) -> tuple[slice, slice]:
    """Return the rows and columns of at most 64×64 entries around the largest one."""
    at = np.unravel_index(int(change.argmax()), change.shape)
    starts = [
        min(max(0, int(place) - _SIDE // 2), max(0, side - _SIDE))
        for place, side in zip(at, change.shape, strict=True)
    ]
    rows, columns = (
        slice(start, min(start + _SIDE, side))
        for start, side in zip(starts, change.shape, strict=True)
    )
    return rows, columns


def _enlarged(pixels: NDArray[np.uint8]) -> Pixels:
    flat = pixels[..., 0] if pixels.ndim == 3 and pixels.shape[-1] == 1 else pixels
    h, w = flat.shape[:2]
    factor = max(1, _CELL // max(h, w))
    size = (w * factor, h * factor)
    image = Image.fromarray(np.ascontiguousarray(flat)).convert("RGB")
    return np.asarray(image.resize(size, Image.Resampling.NEAREST))
