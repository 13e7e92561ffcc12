"""Render the report as one HTML file that escapes all text and loads nothing from the network."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Sequence
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
from convlens.report.text import escape_invisible, one_line

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
# Maximum numbers of pictures in a gallery, tried in turn until the page is small enough.
_GALLERY_SIZES = (64, 32, 16, 8, 4, 1, 0)


def render(
    run: Run,
    spool: Spool,
    *,
    limit: int = 9 * MEBIBYTE,
    on_problem: Callable[[str], object] | None = None,
) -> str:
    """Return the page's HTML. An item that cannot be shown with its figures is shown as text.

    Args:
        run: contents of the report.
        spool: spool with the pictures.
        limit: maximum number of bytes for all pictures. If there are more, galleries are reduced,
            those of passed items first.
        on_problem: called with one line for each item that is shown as text alone.
    """
    kept = _galleries_within_limit(run.entries, spool, limit)
    environment = Environment(
        loader=PackageLoader("convlens.report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_escape_value,
        trim_blocks=True,
        lstrip_blocks=True,
    )

    @cache
    def uri(name: str) -> str:
        return f"data:image/webp;base64,{base64.b64encode(spool.read_picture(name)).decode()}"

    def article(entry: Entry) -> Markup:
        parts: Any = environment.get_template("parts.html").module
        try:
            return Markup(parts.entry(entry))
        except Exception as error:  # one item's figures must not cost the page
            problem = one_line(error)
            if on_problem is not None:
                on_problem(f"{entry.exhibit.nodeid} is shown as text alone: {problem}")
            return Markup(parts.plain(entry, problem))

    script = _text("script.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment.globals.update(
        symbols=SYMBOLS,
        article=article,
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
        reduced=any(
            len(a.pictures) < len(b.pictures)
            for entry in run.entries
            for a, b in zip(kept[entry.id], entry.exhibit.galleries, strict=True)
        ),
        limit=limit // MEBIBYTE + 1,
        # These two files are part of the package and need no escaping.
        style=Markup(_text("style.css")),
        script=Markup(script),
        script_hash=f"sha256-{digest}",
        version=version("pytest-convlens"),
    )


def number(value: Any, digits: int) -> str:
    """Return a number with the given significant digits, – for None, and text unchanged."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.{digits}g}"
    return str(value)


def _escape_value(value: Any) -> Any:
    """Escape invisible characters in the text values of a template; leave markup unchanged."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return escape_invisible(value)
    return value


def _text(name: str) -> str:
    return files("convlens.report").joinpath("templates", name).read_text(encoding="utf-8")


def _galleries_within_limit(
    entries: Sequence[Entry], spool: Spool, limit: int
) -> dict[str, list[Gallery]]:
    """Return entry id → galleries, reduced until the pictures of all entries fit the limit."""

    def reduced(max_good: int, max_bad: int) -> dict[str, list[Gallery]]:
        return {
            entry.id: [
                _reduce(one, max_bad if entry.outcome in BAD else max_good)
                for one in entry.exhibit.galleries
            ]
            for entry in entries
        }

    sizes: dict[str, int] = {}

    def size(picture: Picture) -> int:
        if picture.file not in sizes:
            sizes[picture.file] = spool.picture_size(picture.file) * 4 // 3
        return sizes[picture.file]

    largest = _GALLERY_SIZES[0]
    tried = [(good, largest) for good in _GALLERY_SIZES] + [(0, bad) for bad in _GALLERY_SIZES[1:]]
    for good, bad in tried:
        found = reduced(good, bad)
        if sum(size(p) for own in found.values() for g in own for p in g.pictures) <= limit:
            break
    return found


def _reduce(gallery: Gallery, max_count: int) -> Gallery:
    """Return a gallery with its first pictures, in whole groups, at most `max_count`."""
    count = max_count // gallery.together * gallery.together
    return (
        gallery
        if len(gallery.pictures) <= max_count
        else replace(gallery, pictures=gallery.pictures[:count])
    )
