"""The picture stored beside a baseline, so that a reviewer can see what is being accepted."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convlens.pictures import sheet

_CELL = 150
_MAX_CELLS = 24


def draw_baseline(shown: Mapping[str, NDArray[np.uint8]], title: str, subtitle: str) -> Image.Image:
    """Return a contact sheet of a baseline, with one cell per layer or array.

    Args:
        shown: title → picture (h, w) or (h, w, 3).
        title: name of the baseline.
        subtitle: summary of its contents.
    """
    cells = {name: _cell(pixels) for name, pixels in list(shown.items())[:_MAX_CELLS]}
    if not cells:
        cells = {"no pictures": np.full((_CELL, _CELL, 3), 230, np.uint8)}
    return sheet(
        list(cells.values()), list(cells), title, subtitle, columns=min(4, len(cells)), cell=_CELL
    )


def _cell(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a picture scaled to fit a square cell; enlargement does not smooth it."""
    h, w = pixels.shape[:2]
    factor = _CELL / max(h, w)
    factor = int(factor) if factor >= 1 else factor
    size = (max(1, round(w * factor)), max(1, round(h * factor)))
    resampling = Image.Resampling.NEAREST if factor >= 1 else Image.Resampling.BOX
    page = Image.new("RGB", (_CELL, _CELL), (255, 255, 255))
    page.paste(Image.fromarray(pixels).convert("RGB").resize(size, resampling), (0, 0))
    return np.asarray(page)
