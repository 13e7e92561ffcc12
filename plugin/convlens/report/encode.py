"""Store figures and comparisons in a spool as pictures that are no larger than on the page."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from convlens.pictures import Curves, Figure, HeatMap, Pairs, Table, Tiles, heat_pixels, viridis
from convlens.pictures.normalize import Pixels
from convlens.report.entry import (
    Comparison,
    Exhibit,
    Gallery,
    LayerComparison,
    Lines,
    Pair,
    Picture,
    Rows,
)
from convlens.report.spool import Spool

# Maximum number of images of a figure; a larger figure is reduced to evenly spaced ones.
MAX_TILES = 64
_MAX_POINTS = 60


@dataclass(frozen=True)
class _PictureSize:
    """Limits for the size of a picture.

    Attributes:
        max_side: maximum length of the longer side, in pixels; larger pictures are reduced.
        max_lossless: maximum length of the longer side for lossless compression.
        shown: approximate length of the longer side on the page, in pixels.
    """

    max_side: int
    max_lossless: int
    shown: int


_TILE = _PictureSize(max_side=112, max_lossless=64, shown=96)
_LARGE = _PictureSize(max_side=384, max_lossless=128, shown=256)
_MATRIX = _PictureSize(max_side=256, max_lossless=128, shown=256)


def add_figure(spool: Spool, exhibit: Exhibit, figure: Figure) -> None:
    """Add a figure to an exhibit."""
    if isinstance(figure, Curves):
        exhibit.curves.append(_lines(figure))
    elif isinstance(figure, Pairs):
        exhibit.pairs.extend(_drawn_pair(spool, pair) for pair in figure.pairs)
    elif isinstance(figure, Table):
        exhibit.tables.append(
            Rows(figure.title, figure.columns, figure.rows, figure.bars, figure.marked)
        )
    elif isinstance(figure, HeatMap):
        exhibit.galleries.append(_matrix(spool, figure))
    else:
        exhibit.galleries.append(_gallery(spool, figure))


def add_comparison(spool: Spool, exhibit: Exhibit, comparison: Any) -> None:
    """Add the comparison of a value with its baseline to an exhibit.

    Args:
        spool: spool for the pictures.
        exhibit: exhibit to add to.
        comparison: object with the attributes of `convlens.report.entry.Comparison`, and `layers`
            with those of `convlens.report.entry.LayerComparison`. Each of its pictures has a title
            and two arrays `expected` and `actual`, (h, w) or (h, w, 3) uint8. It may have a
            `difference`, drawn in colors of its own, and then a `note` about these.
    """
    layers = [
        LayerComparison(
            str(part.layer),
            _number(part.cosine),
            _number(part.relative_error),
            None if part.worst_channel is None else int(part.worst_channel),
            bool(part.passed),
            str(part.note),
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
            spool.write_table(layers) if layers else "",
            [_drawn_pair(spool, part) for part in comparison.pictures],
        )
    )


def evenly_spaced(count: int, max_count: int) -> list[int]:
    """Return at most `max_count` evenly spaced numbers from 0 to `count` - 1."""
    if count <= max_count:
        return list(range(count))
    return sorted({round(i) for i in np.linspace(0, count - 1, max_count)})


def _gallery(spool: Spool, figure: Tiles) -> Gallery:
    groups = -(-len(figure.pixels) // figure.together)
    kept = [
        number
        for group in evenly_spaced(groups, max(1, MAX_TILES // figure.together))
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
    # More points would enlarge the page without a visible difference.
    kept = evenly_spaced(len(figure.x), _MAX_POINTS)
    series = [
        (name, [float(f"{values[i]:.4g}") for i in kept]) for name, values in figure.series.items()
    ]
    x = [float(figure.x[i]) for i in kept]
    return Lines(figure.title, figure.x_label, figure.y_label, x, series)


def _drawn_pair(spool: Spool, part: Any) -> Pair:
    """Return a pair whose difference is drawn, or that of its two pictures."""
    if getattr(part, "difference", None) is None:
        return _pair(spool, part.title, part.expected, part.actual)
    drawn = {"expected": part.expected, "actual": part.actual, "difference": part.difference}
    shown = {name: _picture(spool, pixels, name, _LARGE) for name, pixels in drawn.items()}
    return Pair(part.title, **shown, note=part.note)


def _pair(spool: Spool, title: str, expected: Pixels, actual: Pixels) -> Pair:
    before = _picture(spool, expected, "expected", _LARGE)
    after = _picture(spool, actual, "actual", _LARGE)
    if np.shape(expected) != np.shape(actual):
        sizes = " and ".join(" × ".join(map(str, np.shape(a))) for a in (expected, actual))
        return Pair(title, before, after, None, f"The pictures have different shapes: {sizes}.")
    apart = np.abs(np.asarray(expected, np.int16) - np.asarray(actual, np.int16))
    levels = apart if apart.ndim == 2 else apart.max(axis=2)
    maximum = int(levels.max())
    if not maximum:
        return Pair(title, before, after, None, "The pictures are identical.")
    heat = viridis(np.round(levels / maximum * 255).astype(np.uint8))
    difference = _picture(spool, heat, "difference", _LARGE)
    note = f"Yellow marks a difference of {maximum} out of 255, dark purple a difference of 0."
    return Pair(title, before, after, difference, note)


def _picture(spool: Spool, pixels: Pixels, label: str, kind: _PictureSize) -> Picture:
    flat = pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels
    image = Image.fromarray(np.ascontiguousarray(flat)).convert("RGB")
    longest = max(image.size)
    if longest > kind.max_side:
        width, height = (max(1, round(side * kind.max_side / longest)) for side in image.size)
        image = image.resize((width, height), Image.Resampling.BOX)
    content = io.BytesIO()
    if longest <= kind.max_lossless:
        image.save(content, format="WEBP", lossless=True, method=2)
    else:
        image.save(content, format="WEBP", quality=75, method=2)
    # A whole factor shows all pixels in the same size, so that a small picture stays sharp.
    factor = max(1, round(kind.shown / max(image.size)))
    name = spool.write_picture(content.getvalue())
    return Picture(name, image.width * factor, image.height * factor, label)


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
