"""The report as one HTML file: everything in it escaped, and nothing fetched."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from convlens.report import chart
from convlens.report.assemble import Run, clean
from convlens.report.entry import BAD, OUTCOMES, Entry, Gallery, Outcome, Picture
from convlens.report.overview import overview
from convlens.report.spool import Spool
from convlens.report.text import visible

MEBIBYTE = 2**20
SYMBOLS: dict[Outcome, str] = {
    "crashed": "☠",
    "failed": "✗",
    "error": "!",
    "unfinished": "…",
    "xpassed": "?",
    "passed": "✓",
    "xfailed": "~",
    "skipped": "–",
}
# How many pictures of a gallery are kept where the page would be too large, tried in turn.
_FEWER = (64, 32, 16, 8, 4, 1, 0)


def render(run: Run, spool: Spool, *, limit: int = 9 * MEBIBYTE) -> str:
    """Return the page's HTML.

    Args:
        run: what it says.
        spool: where its pictures are.
        limit: the most bytes of pictures; where there are more, galleries are thinned out, those
            of items that passed first.
    """
    kept = _fitting(run.entries, spool, limit)
    environment = Environment(
        loader=PackageLoader("convlens.report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )

    @cache
    def uri(name: str) -> str:
        return f"data:image/webp;base64,{base64.b64encode(spool.read_picture(name)).decode()}"

    script = _text("script.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment.globals.update(
        symbols=SYMBOLS,
        uri=uri,
        number=number,
        chart=chart.chart,
        frame={
            "width": chart.WIDTH,
            "height": chart.HEIGHT,
            "left": chart.LEFT,
            "right": chart.RIGHT,
            "bottom": chart.BOTTOM,
        },
        shown=lambda entry: kept[entry.id],
        exactly=escape,
        cleaned=clean,
    )
    outcomes = [entry.outcome for entry in run.entries]
    return environment.get_template("page.html").render(
        run=run,
        entries=run.entries,
        table=overview(run.entries),
        choices={
            name: list(dict.fromkeys(getattr(e.exhibit, name) for e in run.entries))
            for name in ("model", "layer", "property")
        },
        statuses={name: outcomes.count(name) for name in OUTCOMES if name in outcomes},
        thinned=any(
            len(a.pictures) < len(b.pictures)
            for entry in run.entries
            for a, b in zip(kept[entry.id], entry.exhibit.galleries, strict=True)
        ),
        limit=limit // MEBIBYTE + 1,
        # These two are the package's own.
        style=Markup(_text("style.css")),
        script=Markup(script),
        script_hash=f"sha256-{digest}",
        version=version("pytest-convlens"),
    )


def number(value: Any, digits: int) -> str:
    """Return a number with so many digits that count, – for none, and text as it is."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.{digits}g}"
    return str(value)


def _shown(value: Any) -> Any:
    """Return what a template shows: text of others made visible, and markup as it is."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _text(name: str) -> str:
    return files("convlens.report").joinpath("templates", name).read_text(encoding="utf-8")


def _fitting(entries: Sequence[Entry], spool: Spool, limit: int) -> dict[str, list[Gallery]]:
    """Return each entry's galleries, thinned out until their pictures fit the limit."""

    def thinned(good: int, bad: int) -> dict[str, list[Gallery]]:
        return {
            entry.id: [
                _thinner(one, bad if entry.outcome in BAD else good)
                for one in entry.exhibit.galleries
            ]
            for entry in entries
        }

    sizes: dict[str, int] = {}

    def size(picture: Picture) -> int:
        if picture.file not in sizes:
            sizes[picture.file] = len(spool.read_picture(picture.file)) * 4 // 3
        return sizes[picture.file]

    most = _FEWER[0]
    tried = [(good, most) for good in _FEWER] + [(0, bad) for bad in _FEWER[1:]]
    for good, bad in tried:
        found = thinned(good, bad)
        if sum(size(p) for own in found.values() for g in own for p in g.pictures) <= limit:
            break
    return found


def _thinner(gallery: Gallery, most: int) -> Gallery:
    """Return a gallery of at most so many pictures, in whole groups from its beginning."""
    count = most // gallery.together * gallery.together
    return (
        gallery
        if len(gallery.pictures) <= most
        else replace(gallery, pictures=gallery.pictures[:count])
    )
