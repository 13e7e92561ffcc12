"""The picture stored beside a baseline, so that a reviewer can see what is being accepted."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from convlens.baselines.compact import step_to
from convlens.engine.features.sketch import LayerSketch
from convlens.pictures import Pixels, grid, sheet, viridis
from convlens.pictures.sheet import FAINT, INK, PAPER, fit, font

_CELL = 150
_MAX_CELLS = 96
# Of a layer: the squares of its channels and beside them some maps, in a row of so many layers.
_LAYERS_IN_ROW, _SIDE, _GAP, _NAME = 8, 76, 6, 16
_MAX_SQUARES, _MAPS, _MAP_SIDE = 4096, 4, 18
# Steps of a color: as many as a person tells apart, so that the file is small.
_COLORS, _GRAYS = 16, 16
# A projection that is this share of the layer's size is halfway from the middle to an end.
_MIDDLE = 0.1


def draw_layers(layers: Mapping[str, LayerSketch], title: str, subtitle: str) -> Image.Image:
    """Return a page of all layers: a square for each channel, and a few feature maps.

    A square's color stands for a sum of the channel's maps of all images with random signs, so that
    any change of the channel changes it.

    Args:
        layers: layer → sketch, in the order of the network.
        title: name of the baseline.
        subtitle: summary of its contents.
    """
    width = 2 * _SIDE + _GAP
    columns = min(_LAYERS_IN_ROW, max(4, len(layers)))
    rows = -(-len(layers) // columns)
    top = 58
    size = (columns * (width + 2 * _GAP) + _GAP, top + rows * (_NAME + _SIDE + _GAP))
    page = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(page)
    draw.text((_GAP, 6), fit(title, 18, size[0] - 2 * _GAP), INK, font(18))
    note = (
        f"{len(layers)} layers, {subtitle}. Left a square for each channel, its color a random "
        "sum of its maps; right maps of the first image"
    )
    draw.text((_GAP, 32), fit(note, 13, size[0] - 2 * _GAP), FAINT, font(13))
    for i, (name, sketch) in enumerate(layers.items()):
        x = _GAP + i % columns * (width + 2 * _GAP)
        y = top + i // columns * (_NAME + _SIDE + _GAP)
        draw.text((x, y), fit(name, 12, width), INK, font(12))
        page.paste(_scaled(_squares(sketch), _SIDE), (x, y + _NAME))
        if sketch.shown is not None:
            page.paste(_scaled(_maps(sketch.shown), _SIDE), (x + _SIDE + _GAP, y + _NAME))
    return _with_few_colors(page)


def _squares(sketch: LayerSketch) -> Pixels:
    """Return a pixel (rows, columns, 3) for each channel, row by row; white where none is left."""
    layer = float(np.sqrt(np.mean(sketch.rms.astype(np.float64) ** 2))) or 1.0
    sums = sketch.projection[0].astype(np.float64)[:_MAX_SQUARES] / (_MIDDLE * layer)
    # From 0 in the middle to both ends, slower and slower.
    share = 0.5 + 0.5 * np.tanh(np.arcsinh(sums) / 3)
    colors = viridis(np.round(np.round(share * (_COLORS - 1)) / (_COLORS - 1) * 255).astype(int))
    side = math.ceil(math.sqrt(len(colors)))
    out = np.full((math.ceil(len(colors) / side) * side, 3), 255, np.uint8)
    out[: len(colors)] = colors
    return out.reshape(-1, side, 3)


def _maps(shown: NDArray[np.float32]) -> Pixels:
    """Return up to four feature maps (h, w, 3) in gray, two in a row; each has its own scale."""
    step = step_to(_MAP_SIDE, shown.shape[1:])
    few = shown[np.linspace(0, len(shown) - 1, min(_MAPS, len(shown))).astype(int), ::step, ::step]
    flat = few.reshape(len(few), -1)
    low, high = (f(axis=1)[:, None, None] for f in (flat.min, flat.max))
    share = (few - low) / np.where(high > low, high - low, 1.0)
    levels = np.round(np.round(share * (_GRAYS - 1)) / (_GRAYS - 1) * 255).astype(np.uint8)
    return np.repeat(grid(levels, columns=2, margin=1)[..., None], 3, axis=2)


def _scaled(pixels: Pixels, side: int) -> Image.Image:
    """Return a picture that fits a square; where it is enlarged it stays sharp."""
    h, w = pixels.shape[:2]
    factor = side / max(h, w)
    factor = int(factor) if factor >= 1 else factor
    size = (max(1, round(w * factor)), max(1, round(h * factor)))
    resampling = Image.Resampling.NEAREST if factor >= 1 else Image.Resampling.BOX
    return Image.fromarray(pixels).convert("RGB").resize(size, resampling)


def _with_few_colors(page: Image.Image) -> Image.Image:
    """Return a page in the same colors on every machine and for every content."""
    grays = [[level] * 3 for level in np.linspace(0, 255, 2 * _GRAYS).round().astype(int).tolist()]
    steps = np.round(np.linspace(0, 255, _COLORS)).astype(int)
    grays += [[level] * 3 for level in np.linspace(0, 255, _GRAYS).round().astype(int).tolist()]
    palette = Image.new("P", (1, 1))
    palette.putpalette([value for color in [*grays, *viridis(steps).tolist()] for value in color])
    return page.quantize(palette=palette, dither=Image.Dither.NONE)


def draw_arrays(shown: Mapping[str, Pixels], title: str, subtitle: str) -> Image.Image:
    """Return a contact sheet of the arrays of a value, up to 96 of them.

    Args:
        shown: path → picture (h, w) or (h, w, 3).
        title: name of the baseline.
        subtitle: summary of its contents.
    """
    names = _evenly(list(shown), _MAX_CELLS)
    cells = {name: _cell(shown[name]) for name in names}
    if len(names) < len(shown):
        subtitle = f"{len(names)} of {len(shown)} pictures; {subtitle}"
    if not cells:
        cells = {"no pictures": np.full((_CELL, _CELL, 3), 230, np.uint8)}
    columns = min(4 if len(cells) <= 24 else 8, len(cells))
    page = sheet(list(cells.values()), list(cells), title, subtitle, columns=columns, cell=_CELL)
    return page.quantize(64)


def _evenly(names: Sequence[str], limit: int) -> list[str]:
    if len(names) <= limit:
        return list(names)
    return [names[i] for i in np.linspace(0, len(names) - 1, limit).astype(int)]


def _cell(pixels: Pixels) -> Pixels:
    page = Image.new("RGB", (_CELL, _CELL), PAPER)
    page.paste(_scaled(pixels, _CELL), (0, 0))
    return np.asarray(page)
