"""Figures as data: they can be drawn as a picture, or laid out by the HTML report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from convlens.pictures.charts import curves, heat_map
from convlens.pictures.normalize import Pixels
from convlens.pictures.sheet import sheet, table


@dataclass(frozen=True)
class Tiles:
    """Images of one size side by side.

    Attributes:
        pixels: the images, (h, w), (h, w, 1) or (h, w, 3) uint8 each.
        labels: one label for each image.
        title, note: texts above the images.
        columns: number of images in a row of the picture.
        cell: side of an image's cell in the picture, in pixels; by default a side that fits a
            laptop's screen.
        together: number of consecutive images that belong together, such as an image and its
            reconstructions.
    """

    pixels: Sequence[Pixels]
    labels: Sequence[str]
    title: str
    note: str = ""
    columns: int = 8
    cell: int | None = None
    together: int = 1

    def image(self) -> Image.Image:
        """Return the tiles as one picture."""
        return sheet(
            self.pixels, self.labels, self.title, self.note, columns=self.columns, cell=self.cell
        )


@dataclass(frozen=True)
class Curves:
    """A line chart.

    Attributes:
        series: name → values, one value for each of `x`.
        x: positions of the values, increasing.
        title, x_label, y_label: texts.
    """

    series: Mapping[str, Sequence[float]]
    x: Sequence[float]
    title: str
    x_label: str
    y_label: str

    def image(self) -> Image.Image:
        """Return the chart as a picture."""
        return curves(self.series, self.x, self.title, x_label=self.x_label, y_label=self.y_label)


@dataclass(frozen=True)
class HeatMap:
    """A heat map of a matrix (rows, columns).

    Attributes:
        values: the matrix.
        title, note: texts above the heat map.
    """

    values: NDArray[np.floating]
    title: str
    note: str = ""

    def image(self) -> Image.Image:
        """Return the heat map as a picture."""
        return heat_map(self.values, self.title, self.note)


@dataclass(frozen=True)
class ExpectedActual:
    """A picture that was expected, and the actual one.

    Attributes:
        title: what is shown.
        expected, actual: (h, w), (h, w, 1) or (h, w, 3) uint8 each, in the same colors.
        difference: their difference in colors of its own, (h, w, 3) uint8.
        note: meaning of the difference's colors.
    """

    title: str
    expected: Pixels
    actual: Pixels
    difference: Pixels
    note: str = ""


@dataclass(frozen=True)
class Pairs:
    """Expected and actual pictures with their differences, the worst first."""

    pairs: Sequence[ExpectedActual]
    title: str

    def image(self) -> Image.Image:
        """Return all of them as one picture, a pair in each row."""
        names = ("expected", "actual", "difference")
        return sheet(
            [getattr(pair, name) for pair in self.pairs for name in names],
            [f"{name} {pair.title}" for pair in self.pairs for name in names],
            self.title,
            columns=len(names),
        )


@dataclass(frozen=True)
class Table:
    """A table with a bar in each row.

    Attributes:
        title: text above the table.
        columns: heads of the columns.
        rows: the cells' texts, as many in each row as there are columns.
        bars: length of each row's bar, 0 to 1.
        marked: whether each row tells of a fault.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    bars: Sequence[float]
    marked: Sequence[bool]

    def image(self) -> Image.Image:
        """Return the table as a picture."""
        return table(self.title, self.columns, self.rows, self.bars, self.marked)


Figure = Tiles | Curves | HeatMap | Pairs | Table
