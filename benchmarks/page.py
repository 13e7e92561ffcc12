"""Render the results as one HTML page: tables, a bar chart per core, and scaling curves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from convlens.benchmarks.measure import Info
from convlens.benchmarks.tables import HEAD, comparisons, duration, rows
from convlens.files.atomic import write_atomic

_WIDTH, _HEIGHT, _MARGIN = 360, 220, 52


def write_page(
    path: Path, figures: Sequence[Info], machine: Mapping[str, Any], when: datetime
) -> None:
    """Write the page atomically.

    Args:
        path: path of the file.
        figures: figures of all cases.
        machine: name → property of the machine.
        when: time of the run.

    Raises:
        OSError: the folder cannot be created or written to; the message names it.
    """
    write_atomic(path, render(figures, machine, when).encode())


def render(figures: Sequence[Info], machine: Mapping[str, Any], when: datetime) -> str:
    """Return the HTML of the page; it escapes all names and loads nothing from the network."""
    environment = Environment(
        loader=PackageLoader("convlens.benchmarks"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template = environment.get_template("page.html")
    return template.render(
        machine={k: v for k, v in machine.items() if v not in (None, [], "")},
        when=when.strftime("%Y-%m-%d %H:%M UTC"),
        head=HEAD,
        rows=rows(figures),
        bars=[_bars(info) for info in figures if "series" not in info],
        curves=[_curve(info) for info in figures if "series" in info],
    )


def _bars(info: Info) -> dict[str, Any]:
    """Return the bars of a case: medians and quartiles, in percent of the longest bar."""
    longest = max(taken["q3"] for taken in info["seconds"].values())
    return {
        "case": info["case"],
        "title": info["title"],
        "ratios": comparisons(info),
        "bars": [
            {
                "name": name,
                "kind": "ours" if name.startswith(info["ours"]) else "limit" if i == 0 else "peer",
                "taken": duration(taken["median"]),
                "width": 100 * taken["median"] / longest,
                "low": 100 * taken["q1"] / longest,
                "high": 100 * taken["q3"] / longest,
            }
            for i, (name, taken) in enumerate(
                sorted(
                    info["seconds"].items(), key=lambda item: item[0] not in info["references"][:1]
                )
            )
        ],
    }


def _curve(info: Info) -> dict[str, Any]:
    """Return the points and labels of a series in a chart with logarithmic axes."""
    series = info["series"]
    sizes, taken = series["sizes"], series["seconds"]

    def place(value: float, values: Sequence[float], low: float, high: float) -> float:
        first, last = math.log(min(values)), math.log(max(values))
        part = (math.log(value) - first) / (last - first or 1)
        return round(low + part * (high - low), 1)

    points = [
        {
            "x": place(size, sizes, _MARGIN, _WIDTH - 30),
            "y": place(seconds, taken, _HEIGHT - _MARGIN, 16),
            "size": f"{size:,}",
            "taken": duration(seconds),
        }
        for size, seconds in zip(sizes, taken, strict=True)
    ]
    return {
        "case": info["case"],
        "title": info["title"],
        "label": series["label"],
        "slope": f"{series['slope']:.2f}",
        "points": points,
        "width": _WIDTH,
        "height": _HEIGHT,
        "base": _HEIGHT - _MARGIN,
        "left": _MARGIN,
    }
