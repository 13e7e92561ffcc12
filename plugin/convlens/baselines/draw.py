"""The picture beside a baseline, so that a review shows what was accepted."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convlens.pictures import sheet

_CELL = 150
_MOST = 24


def draw_baseline(shown: Mapping[str, NDArray[np.uint8]], title: str, subtitle: str) -> Image.Image:
    """Return a sheet of what a baseline shows: a cell a layer or an array.

    Args:
        shown: title → (h, w) or (h, w, 3).
        title, subtitle: the baseline's name, and where it came from.
    """
    cells = {name: _cell(pixels) for name, pixels in list(shown.items())[:_MOST]}
    if not cells:
        cells = {"nothing to see": np.full((_CELL, _CELL, 3), 230, np.uint8)}
    return sheet(
        list(cells.values()), list(cells), title, subtitle, columns=min(4, len(cells)), cell=_CELL
    )


def _cell(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return pixels fitted into a square of one size, without smoothing where they grow."""
    h, w = pixels.shape[:2]
    factor = _CELL / max(h, w)
    factor = int(factor) if factor >= 1 else factor
    size = (max(1, round(w * factor)), max(1, round(h * factor)))
    how = Image.Resampling.NEAREST if factor >= 1 else Image.Resampling.BOX
    page = Image.new("RGB", (_CELL, _CELL), (255, 255, 255))
    page.paste(Image.fromarray(pixels).convert("RGB").resize(size, how), (0, 0))
    return np.asarray(page)
