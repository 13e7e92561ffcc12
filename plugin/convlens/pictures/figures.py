"""What there is to see, before it is drawn: a file shows it as one picture, a page as it likes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convlens.pictures.charts import curves, heat_map
from convlens.pictures.normalize import Pixels
from convlens.pictures.sheet import sheet


@dataclass(frozen=True)
class Tiles:
    """Images of one size side by side.

    Attributes:
        pixels: (h, w), (h, w, 1) or (h, w, 3) uint8 each.
        labels: one an image.
        title, note: text above them.
        columns: how many a row of a picture.
        cell: the side of a cell of a picture in pixels; by default what fits a laptop's screen.
        together: how many that follow each other belong together, such as an image and what was
            made of it.
    """

    pixels: Sequence[Pixels]
    labels: Sequence[str]
    title: str
    note: str = ""
    columns: int = 8
    cell: int | None = None
    together: int = 1

    def image(self) -> Image.Image:
        """Return them as one picture."""
        return sheet(
            self.pixels, self.labels, self.title, self.note, columns=self.columns, cell=self.cell
        )


@dataclass(frozen=True)
class Curves:
    """Lines over one axis.

    Attributes:
        series: name → values, one for each of `x`.
        x: where they were measured, rising.
        title, x_label, y_label: text.
    """

    series: Mapping[str, Sequence[float]]
    x: Sequence[float]
    title: str
    x_label: str
    y_label: str

    def image(self) -> Image.Image:
        """Return them as one picture."""
        return curves(self.series, self.x, self.title, x_label=self.x_label, y_label=self.y_label)


@dataclass(frozen=True)
class HeatMap:
    """A matrix (rows, columns) as colors.

    Attributes:
        values: the matrix.
        title, note: text above it.
    """

    values: NDArray[np.floating]
    title: str
    note: str = ""

    def image(self) -> Image.Image:
        """Return it as one picture."""
        return heat_map(self.values, self.title, self.note)


Figure = Tiles | Curves | HeatMap
