"""Sketches of large arrays: random projections of tiles, which keep places and order.

An array that is too large to be stored is cut into tiles. Of each tile a few random projections are
kept: sums of its values with fixed random weights. A change of a value, or of the order of values,
changes them; rounding errors hardly do (Johnson & Lindenstrauss 1984). All weights are drawn by the
tile's shape alone.
"""

from __future__ import annotations

import hashlib
from functools import cache

import numpy as np
from numpy.typing import NDArray

from convlens.engine.features.similarity import C1, C2, TILE

Parts = dict[str, NDArray[np.generic]]

MAX_TILES = 8192
_PROJECTIONS = 4
_CHUNK_VALUES = 2**22
# Random rounding errors in a tile add up like a random walk. So many of its standard deviations are
# allowed that no tile of thousands exceeds them by chance.
_SPREAD = 6.0


@cache
def weights(size: int, count: int = _PROJECTIONS) -> NDArray[np.float64]:
    """Return weights (size, count) with random signs and a mean square of 1 in each column.

    The magnitudes vary, so that values that trade places change a projection even if their weights
    have the same sign.
    """
    draw = np.random.default_rng([0, size])
    signs = 2 * draw.integers(0, 2, (size, count)) - 1
    found = signs * draw.uniform(0.5, 1.5, (size, count))
    return np.asarray(found / np.sqrt(np.mean(found**2, axis=0)), np.float64)


def sketch_numbers(array: NDArray[np.generic]) -> Parts:
    """Return the sketch of a large array of numbers.

    Returns:
        'sums' (tiles,) and 'projections' (tiles, k) of tiles of consecutive values; 'rms' (tiles,),
        each tile's root mean square; and of integers and truth values 'digests' (tiles,), a hash of
        each tile.
    """
    flat = array.reshape(-1)
    size = tile_size(flat.size)
    rows = max(1, _CHUNK_VALUES // size)
    found: dict[str, list[NDArray[np.generic]]] = {}
    for start in range(0, flat.size, rows * size):
        part = flat[start : start + rows * size]
        for name, values in _sketch_tiles(part, size).items():
            found.setdefault(name, []).append(values)
    return {name: np.concatenate(parts) for name, parts in found.items()}


def tile_size(count: int) -> int:
    """Return the number of consecutive values in a tile of an array of `count` values."""
    return -(-count // MAX_TILES)


def _sketch_tiles(flat: NDArray[np.generic], size: int) -> Parts:
    tiles = -(-flat.size // size)
    padded = np.zeros(tiles * size, np.float64)
    padded[: flat.size] = flat
    values = padded.reshape(tiles, size)
    counts = _counts(flat.size, size)
    largest = np.abs(values).max(axis=1, keepdims=True)
    scaled = values / np.where(largest, largest, 1)  # the squares of large values overflow
    limit = float(np.finfo(np.float64).max)
    with np.errstate(over="ignore"):
        sums = {"sums": scaled.sum(axis=1) * largest[:, 0]}
        sums["projections"] = scaled @ weights(size) * largest
    parts: Parts = {name: np.clip(array, -limit, limit) for name, array in sums.items()}
    parts["rms"] = np.sqrt((scaled**2).sum(axis=1) / counts) * largest[:, 0]
    if flat.dtype.kind in "biu":
        plain = flat.astype(flat.dtype.newbyteorder("<"))
        digests = [
            hashlib.blake2b(plain[i : i + size].tobytes(), digest_size=8).digest()
            for i in range(0, flat.size, size)
        ]
        parts["digests"] = np.frombuffer(b"".join(digests), "<u8")
    return parts


def _counts(count: int, size: int) -> NDArray[np.int64]:
    """Return the number of values (tiles,) in each tile; the last one may have fewer."""
    counts = np.full(-(-count // size), size)
    counts[-1] = count - size * (len(counts) - 1)
    return counts


def compare_digests(expected: Parts, actual: Parts) -> NDArray[np.int64]:
    """Return the numbers of the tiles whose values are not all equal."""
    return np.flatnonzero(expected["digests"] != actual["digests"])


def compare_numbers(expected: Parts, actual: Parts, count: int) -> NDArray[np.float64]:
    """Return the difference (tiles,) of each tile, in units that compare with a tolerance.

    If each value differs by at most t times its magnitude, or t times the array's root mean square
    where that is larger, the differences are at most t.

    Args:
        expected, actual: sketches of two arrays of one shape.
        count: number of values of each array.
    """
    counts = _counts(count, tile_size(count))
    rms = np.asarray(expected["rms"], np.float64)
    largest = float(rms.max()) or 1.0
    square = float((counts * (rms / largest) ** 2).sum() / count)
    # The length of the vector of a tile's allowed differences, for a tolerance of 1.
    length = np.sqrt(counts * ((rms / largest) ** 2 + square)) * largest
    length = np.maximum(length, float(np.finfo(np.float32).tiny))
    projected = np.abs(_difference(expected, actual, "projections")).max(axis=1)
    summed = np.abs(_difference(expected, actual, "sums"))
    return np.maximum(projected / (_SPREAD * length), summed / (np.sqrt(counts) * length))


def _difference(expected: Parts, actual: Parts, name: str) -> NDArray[np.float64]:
    return np.asarray(actual[name], np.float64) - np.asarray(expected[name], np.float64)


def sketch_pixels(images: NDArray[np.generic]) -> Parts:
    """Return the sketch of large pictures.

    Args:
        images: (n, h, w, c).

    Returns:
        Of each tile of 8×8 pixels: 'means' (n, rows, columns), 'variances' (n, rows, columns), and
        'projections' (n, rows, columns, k) of the values less their mean. The mean square of a
        difference of projections estimates the variance of the difference.
    """
    n, h, w, c = images.shape
    columns = -(-w // TILE)
    drawn = weights(TILE * TILE * c).astype(np.float64)
    found: dict[str, list[NDArray[np.generic]]] = {}
    for image in images:
        for top in range(0, h, TILE):
            band = np.full((TILE, columns * TILE, c), np.nan)
            band[: min(TILE, h - top), :w] = image[top : top + TILE]
            tiles = band.reshape(TILE, columns, TILE * c).transpose(1, 0, 2).reshape(columns, -1)
            inside = ~np.isnan(tiles)
            count = inside.sum(axis=1)
            means = np.nansum(tiles, axis=1) / count
            centered = np.where(inside, tiles - means[:, None], 0)
            row = {
                "means": means,
                "variances": (centered**2).sum(axis=1) / count,
                "projections": centered @ drawn / np.sqrt(count)[:, None],
            }
            for name, values in row.items():
                found.setdefault(name, []).append(values.astype(np.float32))
    rows = -(-h // TILE)
    return {
        name: np.stack(parts).reshape(n, rows, *parts[0].shape) for name, parts in found.items()
    }


def compare_pixels(
    expected: Parts, actual: Parts, value_range: tuple[float, float]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return each tile's root mean square difference and structural similarity.

    The similarity is that of Wang et al. (2004), with the tile as its window and all channels
    together.

    Args:
        expected, actual: sketches of pictures of one shape.
        value_range: (low, high) of the pixels; differences are in units of high - low.

    Returns:
        Differences and similarities, (n, rows, columns) each.
    """
    low, high = value_range
    span = (high - low) or 1.0
    apart = (_difference(expected, actual, "projections") / span) ** 2
    variance = apart.mean(axis=-1)
    a, b = ((np.asarray(p["means"], np.float64) - low) / span for p in (expected, actual))
    spread = sum(np.asarray(p["variances"], np.float64) / span**2 for p in (expected, actual))
    brightness = (2 * a * b + C1) / (a**2 + b**2 + C1)
    # σ(a)² + σ(b)² - 2·cov(a, b) is the variance of the difference.
    structure = 1 - variance / (spread + C2)
    return np.sqrt((b - a) ** 2 + variance), brightness * structure


def number_shapes(count: int, *, exact: bool) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the sketch of `count` numbers, by part; `exact` for integers."""
    n = -(-count // tile_size(count))
    shapes: dict[str, tuple[int, ...]] = {
        "sums": (n,),
        "rms": (n,),
        "projections": (n, _PROJECTIONS),
    }
    return {**shapes, "digests": (n,)} if exact else shapes


def pixel_shapes(shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the sketch of pictures (n, h, w, c), by part."""
    n, h, w, _ = shape
    places = (n, -(-h // TILE), -(-w // TILE))
    return {"means": places, "variances": places, "projections": (*places, _PROJECTIONS)}
