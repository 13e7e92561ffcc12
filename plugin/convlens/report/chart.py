"""Draw curves as inline SVG.

SVG is sharp at every size and in print, follows the dark color scheme of the page, and shows the
name of a line as a tooltip. It is written without a chart library, because a library would be the
plugin's largest dependency, for only two kinds of lines.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from convlens.pictures.ticks import drawable, limits, ticks
from convlens.report.entry import Lines

WIDTH, HEIGHT = 520, 280
LEFT, RIGHT, TOP, BOTTOM = 58, 12, 14, 42
# Maximum number of colored lines; more lines are drawn thin, together with their median.
MAX_COLORS = 8


@dataclass(frozen=True)
class Tick:
    """A tick on an axis: its position and label."""

    at: float
    text: str


@dataclass(frozen=True)
class Path:
    """A line: its parts between gaps, name, CSS class and last value.

    Attributes:
        parts: the points of each part, in SVG syntax.
        name, style: the name and the CSS class.
        end: the last value, in words.
    """

    parts: Sequence[str]
    name: str
    style: str
    end: str


@dataclass(frozen=True)
class Chart:
    """A chart, ready for the template."""

    title: str
    x_label: str
    y_label: str
    x_ticks: Sequence[Tick]
    y_ticks: Sequence[Tick]
    paths: Sequence[Path]
    legend: Sequence[Path]

    @property
    def summary(self) -> str:
        """Description of the chart in words, for screen readers."""
        if self.legend:
            ends = "; ".join(f"{path.name} ends at {path.end}" for path in self.legend)
            return f"{self.y_label} over {self.x_label}: {ends}"
        return f"{self.y_label} over {self.x_label}: {len(self.paths)} lines"


def chart(lines: Lines) -> Chart:
    """Return a chart of curves; NaN and infinity are gaps."""
    y_marks = ticks(*limits(value for _, series in lines.series for value in series))
    x_low, x_high = limits(lines.x)

    def across(x: float) -> float:
        return LEFT + (x - x_low) / ((x_high - x_low) or 1) * (WIDTH - LEFT - RIGHT)

    def down(y: float) -> float:
        part = (y - y_marks[0]) / (y_marks[-1] - y_marks[0])
        return TOP + (1 - part) * (HEIGHT - TOP - BOTTOM)

    def path(name: str, series: Sequence[float], style: str) -> Path:
        points = zip(lines.x, series, strict=True)
        runs = [
            [f"{across(x):.1f},{down(y):.1f}" for x, y in run]
            for drawn, run in itertools.groupby(points, lambda point: all(map(drawable, point)))
            if drawn
        ]
        # A line of a single point is drawn from it to itself, as a dot.
        parts = [" ".join(run if len(run) > 1 else run * 2) for run in runs]
        return Path(parts, name, style, f"{series[-1]:.3g}" if series else "nothing")

    if len(lines.series) > MAX_COLORS:
        paths = [path(name, series, "thin") for name, series in lines.series]
        middle = [_median(row) for row in zip(*(s for _, s in lines.series), strict=True)]
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


def _median(values: Sequence[float]) -> float:
    """Return the median of the values that can be drawn; NaN where there is none."""
    return statistics.median([value for value in values if drawable(value)] or [math.nan])
