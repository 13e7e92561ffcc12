"""Figures and comparisons as small pictures in a spool, no larger than they are shown."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from convlens.pictures import Curves, Figure, HeatMap, Tiles, heat_pixels, viridis
from convlens.pictures.normalize import Pixels
from convlens.report.entry import (
    Comparison,
    Exhibit,
    Gallery,
    LayerComparison,
    Lines,
    Pair,
    Picture,
)
from convlens.report.spool import Spool

# The most images of a figure; of more, some that are spread evenly over them.
MOST_TILES = 64


@dataclass(frozen=True)
class _Kind:
    """How large a picture is.

    Attributes:
        most: the longest side in pixels that is kept.
        exact: up to this side it is kept exactly; a larger one loses what the eye does not miss.
        shown: about how long its longer side is on the page.
    """

    most: int
    exact: int
    shown: int


_TILE = _Kind(most=112, exact=64, shown=96)
_LARGE = _Kind(most=384, exact=128, shown=256)
_MATRIX = _Kind(most=256, exact=128, shown=256)


def add_figure(spool: Spool, exhibit: Exhibit, figure: Figure) -> None:
    """Add a figure to what was seen."""
    if isinstance(figure, Curves):
        exhibit.curves.append(_lines(figure))
    elif isinstance(figure, HeatMap):
        exhibit.galleries.append(_matrix(spool, figure))
    else:
        exhibit.galleries.append(_gallery(spool, figure))


def add_comparison(spool: Spool, exhibit: Exhibit, comparison: Any) -> None:
    """Add the comparison of a value with its baseline to what was seen.

    Args:
        spool, exhibit: where to.
        comparison: with the attributes of `convlens.report.entry.Comparison`, but for its
            pictures: each a title and two arrays, (h, w) or (h, w, 3) uint8, expected and actual.
    """
    layers = [
        LayerComparison(
            str(part.layer),
            _number(part.cosine),
            _number(part.relative_error),
            None if part.worst_channel is None else int(part.worst_channel),
            bool(part.passed),
        )
        for part in comparison.layers
    ]
    exhibit.comparisons.append(
        Comparison(
            comparison.key,
            comparison.fingerprint,
            comparison.verdict,
            bool(comparison.passed),
            comparison.first,
            layers,
            [_pair(spool, part.title, part.expected, part.actual) for part in comparison.pictures],
        )
    )


def spread(count: int, most: int) -> list[int]:
    """Return at most `most` of the numbers below `count`, the first and the last among them."""
    if count <= most:
        return list(range(count))
    return sorted({round(i) for i in np.linspace(0, count - 1, most)})


def _gallery(spool: Spool, figure: Tiles) -> Gallery:
    groups = -(-len(figure.pixels) // figure.together)
    kept = [
        number
        for group in spread(groups, max(1, MOST_TILES // figure.together))
        for number in range(group * figure.together, (group + 1) * figure.together)
        if number < len(figure.pixels)
    ]
    kind = _LARGE if len(figure.pixels) <= 4 else _TILE
    pictures = [_picture(spool, figure.pixels[i], figure.labels[i], kind) for i in kept]
    return Gallery(figure.title, figure.note, pictures, len(figure.pixels), figure.together)


def _matrix(spool: Spool, figure: HeatMap) -> Gallery:
    low, high = float(figure.values.min()), float(figure.values.max())
    label = " × ".join(map(str, figure.values.shape))
    picture = _picture(spool, heat_pixels(figure.values), label, _MATRIX)
    return Gallery(figure.title, figure.note, [picture], 1, scale=(low, high))


def _lines(figure: Curves) -> Lines:
    # A screen shows no more points than this of a curve, and a page of many curves is as long.
    kept = spread(len(figure.x), 60)
    series = [
        (name, [float(f"{values[i]:.4g}") for i in kept]) for name, values in figure.series.items()
    ]
    x = [float(figure.x[i]) for i in kept]
    return Lines(figure.title, figure.x_label, figure.y_label, x, series)


def _pair(spool: Spool, title: str, expected: Pixels, actual: Pixels) -> Pair:
    before = _picture(spool, expected, "expected", _LARGE)
    after = _picture(spool, actual, "actual", _LARGE)
    if np.shape(expected) != np.shape(actual):
        sizes = " and ".join(" × ".join(map(str, np.shape(a))) for a in (expected, actual))
        return Pair(title, before, after, None, f"The pictures differ in shape: {sizes}.")
    apart = np.abs(np.asarray(expected, np.int16) - np.asarray(actual, np.int16))
    levels = apart if apart.ndim == 2 else apart.max(axis=2)
    most = int(levels.max())
    if not most:
        return Pair(title, before, after, None, "The pictures are the same in every pixel.")
    heat = viridis(np.round(levels / most * 255))
    difference = _picture(spool, heat, "difference", _LARGE)
    return Pair(
        title, before, after, difference, f"Yellow is a difference of {most} of 255, dark is 0."
    )


def _picture(spool: Spool, pixels: Pixels, label: str, kind: _Kind) -> Picture:
    flat = pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels
    image = Image.fromarray(np.ascontiguousarray(flat)).convert("RGB")
    longest = max(image.size)
    if longest > kind.most:
        width, height = (max(1, round(side * kind.most / longest)) for side in image.size)
        image = image.resize((width, height), Image.Resampling.BOX)
    content = io.BytesIO()
    if longest <= kind.exact:
        image.save(content, format="WEBP", lossless=True, method=2)
    else:
        image.save(content, format="WEBP", quality=75, method=2)
    # Every pixel is shown as large as another, so that a small picture stays sharp.
    factor = max(1, round(kind.shown / max(image.size)))
    name = spool.write_picture(content.getvalue())
    return Picture(name, image.width * factor, image.height * factor, label)


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
