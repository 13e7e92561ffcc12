"""Line charts and heat maps, drawn with Pillow."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw

from convlens.pictures.normalize import heat_pixels, viridis
from convlens.pictures.sheet import FAINT, INK, PAPER, fit, font
from convlens.pictures.ticks import drawable, limits, ticks

_COLORS = (
    *("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e"),
    *("#17becf", "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22"),
)
_THIN = "#aabed7"
_SIZE = (760, 460)
_LEFT, _RIGHT, _TOP, _BOTTOM = 90, 20, 56, 60


def curves(
    series: Mapping[str, Sequence[float]],
    x: Sequence[float],
    title: str,
    *,
    x_label: str,
    y_label: str,
) -> Image.Image:
    """Return a line chart.

    Up to ten series are drawn in their own color with a name. More series are drawn as thin lines
    with their median. NaN and infinity are gaps; the median is that of the other values.

    Args:
        series: name → values, one value for each of `x`.
        x: positions of the values, finite and increasing.
        title, x_label, y_label: texts.

    Raises:
        ValueError: no series, a series not as long as `x`, fewer than two points, or positions that
            are not finite.
    """
    xs = np.asarray(x, np.float64)
    lines = {name: np.asarray(values, np.float64) for name, values in series.items()}
    if not lines or any(v.shape != xs.shape for v in lines.values()) or len(xs) < 2:
        raise ValueError("a chart needs at least one series, as long as x, of at least two points")
    stacked = np.stack(list(lines.values()))
    if not all(map(drawable, xs)):
        raise ValueError("a chart needs finite positions, but x has NaN or infinity")
    if len(lines) > len(_COLORS):
        styles = [("", v, _THIN, 1) for v in lines.values()]
        styles.append(("median", _medians(stacked), "#141414", 3))
    else:
        styles = [(n, v, _COLORS[i], 2) for i, (n, v) in enumerate(lines.items())]
    page = Image.new("RGB", _SIZE, PAPER)
    draw = ImageDraw.Draw(page)
    width, height = _SIZE[0] - _LEFT - _RIGHT, _SIZE[1] - _TOP - _BOTTOM
    x_ticks, y_ticks = ticks(xs[0], xs[-1]), ticks(*limits(stacked.ravel().tolist()))
    x0, x1 = xs[0], xs[-1]
    y0, y1 = y_ticks[0], y_ticks[-1]

    def place(px: float, py: float) -> tuple[float, float]:
        across = (px - x0) / (x1 - x0)
        return _LEFT + across * width, _TOP + height - (py - y0) / (y1 - y0) * height

    draw.text((16, 14), fit(title, 18, _SIZE[0] - 32), INK, font(18))
    for tick in y_ticks:
        _, y = place(x0, tick)
        draw.line([(_LEFT, y), (_LEFT + width, y)], (225, 225, 225))
        draw.text((_LEFT - 8, y), f"{tick:.4g}", FAINT, font(13), anchor="rm")
    for tick in x_ticks:
        if x0 <= tick <= x1:
            at, _ = place(tick, y0)
            draw.text((at, _TOP + height + 6), f"{tick:.4g}", FAINT, font(13), anchor="ma")
    draw.text((_LEFT + width / 2, _SIZE[1] - 26), x_label, INK, font(14), anchor="ma")
    draw.text((16, 38), y_label, FAINT, font(13))
    for _, values, color, thickness in styles:
        for part in _parts(xs, values):
            points = [place(px, py) for px, py in part]
            if len(points) > 1:
                draw.line(points, color, thickness, joint="curve")
            else:
                (px, py), r = points[0], thickness
                draw.ellipse((px - r, py - r, px + r, py + r), color)
    named = [(name, color) for name, _, color, _ in styles if name]
    for i, (name, color) in enumerate(named):
        y = _TOP + 12 + 18 * i
        draw.line([(_LEFT + 12, y), (_LEFT + 36, y)], color, 3)
        draw.text((_LEFT + 42, y), fit(name, 13, 160), INK, font(13), anchor="lm")
    return page


def _parts(
    xs: NDArray[np.float64], values: NDArray[np.float64]
) -> Iterator[list[tuple[float, float]]]:
    """Yield the points between gaps, in order."""
    points = zip(xs.tolist(), values.tolist(), strict=True)
    for drawn, part in itertools.groupby(points, key=lambda point: drawable(point[1])):
        if drawn:
            yield list(part)


def _medians(stacked: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the median of each column's values that can be drawn; NaN where there is none."""
    columns = ([value for value in column if drawable(value)] for column in stacked.T.tolist())
    return np.array([statistics.median(column) if column else np.nan for column in columns])


def heat_map(matrix: ArrayLike, title: str, subtitle: str = "") -> Image.Image:
    """Return a heat map of a matrix (rows, columns), with row and column numbers and a color bar.

    Raises:
        ValueError: not a matrix, or values that are not finite.
    """
    values = np.asarray(matrix, np.float64)
    if values.ndim != 2 or not values.size:
        raise ValueError(f"a heat map needs a matrix of finite values, not shape {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError("a heat map needs a matrix of finite values, not NaN or infinity")
    low, high = float(values.min()), float(values.max())
    rows, columns = values.shape
    factor = max(1, round(480 / max(rows, columns)))
    h, w = rows * factor, columns * factor
    left, top = 44, 76
    page = Image.new("RGB", (max(left + w + 110, 360), top + h + 34), PAPER)
    draw = ImageDraw.Draw(page)
    draw.text((16, 12), fit(title, 18, page.width - 32), INK, font(18))
    draw.text((16, 38), fit(subtitle, 13, page.width - 32), FAINT, font(13))
    picture = Image.fromarray(heat_pixels(values)).resize((w, h), Image.Resampling.NEAREST)
    page.paste(picture, (left, top))
    every = max(1, math.ceil(max(rows, columns) / 12))
    for i in range(0, rows, every):
        draw.text((left - 6, top + (i + 0.5) * factor), str(i), FAINT, font(12), anchor="rm")
    for j in range(0, columns, every):
        draw.text((left + (j + 0.5) * factor, top + h + 6), str(j), FAINT, font(12), anchor="ma")
    bar = np.repeat(np.linspace(255, 0, h).astype(np.uint8)[:, None], 16, axis=1)
    page.paste(Image.fromarray(viridis(bar)), (left + w + 16, top))
    draw.text((left + w + 38, top), f"{high:.3g}", INK, font(12))
    draw.text((left + w + 38, top + h - 14), f"{low:.3g}", INK, font(12))
    return page
