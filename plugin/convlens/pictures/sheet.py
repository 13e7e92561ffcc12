"""Grids of images, plain or with titles and labels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Pixels = NDArray[np.uint8]
MARGIN = 5
PAPER, INK, FAINT = (255, 255, 255), (20, 20, 20), (90, 90, 90)
FRAME = (205, 205, 205)
_LABEL, _TITLE, _SUBTITLE = 14, 20, 14
# The width of a table's widest cell and of its longest bar, in pixels.
_MAX_CELL, _BAR = 420, 160
# The least height of a strip, where it is enlarged.
_MIN_SIDE = 48
_MARKED = (178, 24, 24)


def grid(images: Pixels, columns: int, margin: int = MARGIN) -> Pixels:
    """Return images in a grid, with margins between them and none outside.

    Args:
        images: (n, h, w) or (n, h, w, c) uint8.
        columns: number of images in a row; the last row may be shorter.
        margin: width of the black margin between images, in pixels.

    Returns:
        (rows·h + (rows-1)·margin, columns·w + (columns-1)·margin[, c]) uint8.

    Raises:
        ValueError: no image, a wrong number of axes, or fewer than one column.
    """
    if images.ndim not in (3, 4) or not len(images):
        raise ValueError(f"a grid needs images of shape (n, h, w[, c]), not {images.shape}")
    if columns < 1:
        raise ValueError(f"columns must be at least 1, not {columns}")
    n, h, w = images.shape[:3]
    columns = min(columns, n)
    rows = math.ceil(n / columns)
    size = (rows * (h + margin) - margin, columns * (w + margin) - margin)
    out = np.zeros((*size, *images.shape[3:]), images.dtype)
    for i, image in enumerate(images):
        y, x = i // columns * (h + margin), i % columns * (w + margin)
        out[y : y + h, x : x + w] = image
    return out


def sheet(
    images: Sequence[Pixels] | Pixels,
    labels: Sequence[str],
    title: str,
    subtitle: str = "",
    *,
    columns: int = 8,
    cell: int | None = None,
) -> Image.Image:
    """Return a titled grid with a label above each image.

    Images are enlarged by integer factors without smoothing, to cells of about `cell` pixels; a
    long strip to a height of about 48.

    Args:
        images: (h, w) or (h, w, 1) gray, or (h, w, 3) color, uint8 each, all of the same size.
        labels: one label for each image, such as its unit's number.
        title, subtitle: texts above the grid; shortened if too long for the page.
        columns: number of images in a row.
        cell: side of a cell in pixels; by default a side that fits a laptop's screen.

    Raises:
        ValueError: no image, not one label for each image, or images of other shapes.
    """
    tiles = [_rgb(np.asarray(image)) for image in images]
    if not tiles or len(labels) != len(tiles):
        raise ValueError(
            f"a sheet needs one label for each image, not {len(labels)} for {len(tiles)} images"
        )
    columns = min(columns, len(tiles))
    h, w = tiles[0].shape[:2]
    rows = math.ceil(len(tiles) / columns)
    cell = cell or _cell_size(columns, rows)
    # A volume is a strip of slices, each of which must be large enough to see.
    factor = max(1, round(cell / max(h, w)), _MIN_SIDE // min(h, w))
    h, w = h * factor, w * factor
    gap = 2 * MARGIN
    width = max(columns * (w + gap) + gap, 360)
    # A label gets a line of its own, because it can be long.
    line = _LABEL + 4
    top = gap + _TITLE + 6 + (_SUBTITLE + 6 if subtitle else 0) + MARGIN
    page = Image.new("RGB", (width, top + rows * (line + h + MARGIN) + gap), PAPER)
    draw = ImageDraw.Draw(page)
    draw.text((gap, gap), fit(title, _TITLE, width - 2 * gap), INK, font(_TITLE))
    if subtitle:
        at = (gap, gap + _TITLE + 6)
        draw.text(at, fit(subtitle, _SUBTITLE, width - 2 * gap), FAINT, font(_SUBTITLE))
    for i, (tile, label) in enumerate(zip(tiles, labels, strict=True)):
        x, y = gap + i % columns * (w + gap), top + i // columns * (line + h + MARGIN)
        draw.text((x, y), fit(label, _LABEL, w + gap - 4), INK, font(_LABEL))
        frame = (x - 1, y + line - 1, x + w, y + line + h)  # an image may be white as the page
        draw.rectangle(frame, outline=FRAME)
        page.paste(Image.fromarray(tile).resize((w, h), Image.Resampling.NEAREST), (x, y + line))
    return page


def table(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    bars: Sequence[float],
    marked: Sequence[bool],
) -> Image.Image:
    """Return a table as a picture, with a bar at the end of each row; see `figures.Table`."""
    face, line, gap = font(_LABEL), _LABEL + 8, 4 * MARGIN
    shown = [[fit(cell, _LABEL, _MAX_CELL) for cell in row] for row in (columns, *rows)]
    widths = [max(face.getlength(row[i]) for row in shown) + gap for i in range(len(columns))]
    top = gap + _TITLE + gap
    size = (int(sum(widths)) + _BAR + 2 * gap, top + line * len(shown) + gap)
    page = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(page)
    draw.text((gap, gap), fit(title, _TITLE, size[0] - 2 * gap), INK, font(_TITLE))
    for i, row in enumerate(shown):
        y, x = top + i * line, float(gap)
        ink = FAINT if i == 0 else _MARKED if marked[i - 1] else INK
        for cell, width in zip(row, widths, strict=True):
            draw.text((x, y), cell, ink, face)
            x += width
        if i > 0:
            draw.rectangle((x, y + 3, x + _BAR * bars[i - 1], y + _LABEL), ink)
    return page


@cache
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return Pillow's built-in font, so that pictures look the same on every machine."""
    return ImageFont.load_default(size)


def fit(text: str, size: int, width: float) -> str:
    """Return `text`, shortened with an ellipsis to at most `width` pixels."""
    face = font(size)
    if face.getlength(text) <= width:
        return text
    while text and face.getlength(f"{text}…") > width:
        text = text[:-1]
    return f"{text}…"


def _cell_size(columns: int, rows: int) -> int:
    """Return the side of a cell for a page of about 1350×900, within readable limits."""
    return int(np.clip(min(1300 / columns, 820 / rows) - 25, 64, 168))


def _rgb(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if image.dtype != np.uint8 or not (
        image.ndim == 2 or (image.ndim == 3 and image.shape[2] in (1, 3))
    ):
        raise ValueError(
            f"a sheet needs uint8 images of shape (h, w), (h, w, 1) or (h, w, 3), "
            f"not {image.dtype} {image.shape}"
        )
    if image.ndim == 3 and image.shape[2] == 3:
        return image
    return np.repeat(image.reshape(*image.shape[:2], 1), 3, axis=2)
