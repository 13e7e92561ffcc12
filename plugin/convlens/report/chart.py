"""Curves as the shapes of an inline SVG.

SVG, and by hand: it stays sharp at every size and on paper, takes the page's colors in the dark,
and says each line's name under the mouse. A library that draws charts would be the largest thing
that the plugin installs, for two kinds of line.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from convlens.pictures.ticks import ticks
from convlens.report.entry import Lines

WIDTH, HEIGHT = 520, 280
LEFT, RIGHT, TOP, BOTTOM = 58, 12, 14, 42
# More lines than these cannot be told apart by color: they are thin, with their median.
COLORS = 8


@dataclass(frozen=True)
class Tick:
    """A mark on an axis: where, and what it says."""

    at: float
    text: str


@dataclass(frozen=True)
class Path:
    """A line: its points as SVG says them, its name, how it is drawn, and where it ends."""

    points: str
    name: str
    style: str
    end: str


@dataclass(frozen=True)
class Chart:
    """A chart to be drawn."""

    title: str
    x_label: str
    y_label: str
    x_ticks: Sequence[Tick]
    y_ticks: Sequence[Tick]
    paths: Sequence[Path]
    legend: Sequence[Path]

    @property
    def summary(self) -> str:
        """The chart in words."""
        if self.legend:
            ends = "; ".join(f"{path.name} ends at {path.end}" for path in self.legend)
            return f"{self.y_label} over {self.x_label}: {ends}"
        return f"{self.y_label} over {self.x_label}: {len(self.paths)} lines"


def chart(lines: Lines) -> Chart:
    """Return a chart of curves."""
    values = [value for _, series in lines.series for value in series]
    y_marks = ticks(min(values), max(values))
    x_low, x_high = lines.x[0], lines.x[-1]

    def across(x: float) -> float:
        return LEFT + (x - x_low) / ((x_high - x_low) or 1) * (WIDTH - LEFT - RIGHT)

    def down(y: float) -> float:
        part = (y - y_marks[0]) / (y_marks[-1] - y_marks[0])
        return TOP + (1 - part) * (HEIGHT - TOP - BOTTOM)

    def path(name: str, series: Sequence[float], style: str) -> Path:
        points = " ".join(
            f"{across(x):.1f},{down(y):.1f}" for x, y in zip(lines.x, series, strict=True)
        )
        return Path(points, name, style, f"{series[-1]:.3g}")

    if len(lines.series) > COLORS:
        paths = [path(name, series, "thin") for name, series in lines.series]
        middle = [statistics.median(row) for row in zip(*(s for _, s in lines.series), strict=True)]
        legend = [path("median", middle, "median")]
        paths += legend
    else:
        paths = [path(n, series, f"color-{i}") for i, (n, series) in enumerate(lines.series)]
        legend = paths
    inner = [mark for mark in ticks(x_low, x_high) if x_low <= mark <= x_high]
    return Chart(
        lines.title,
        lines.x_label,
        lines.y_label,
        [Tick(round(across(mark), 1), f"{mark:.4g}") for mark in inner],
        [Tick(round(down(mark), 1), f"{mark:.4g}") for mark in y_marks],
        paths,
        legend,
    )
