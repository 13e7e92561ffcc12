"""Render the report as one HTML file that escapes all text and loads nothing from the network."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from convlens.report import chart
from convlens.report.assemble import Run, clean
from convlens.report.cards import Card, acceptance, cards
from convlens.report.entry import (
    BAD,
    STATUSES,
    Comparison,
    Entry,
    Gallery,
    Pair,
    Picture,
    Status,
    worst,
)
from convlens.report.overview import overview
from convlens.report.spool import Spool
from convlens.report.text import escape_invisible, one_line

MEBIBYTE = 2**20
SYMBOLS: dict[Status, str] = {
    "crashed": "☠",
    "failed": "✗",
    "error": "!",
    "unfinished": "…",
    "follow": "↳",
    "xpassed": "?",
    "passed": "✓",
    "xfailed": "~",
    "skipped": "–",
}
# Maximum numbers of pictures in a gallery, tried in turn until the page is small enough.
_GALLERY_SIZES = (64, 32, 16, 8, 4, 1, 0)
# Failures that are shown from the start; the rest is folded, so that a page of any run opens fast.
_MAX_FAILURES = 50
# Maximum number of characters of a name in a table; longer ones are cut in the middle.
_MAX_NAME = 90


@dataclass(frozen=True)
class _Figures:
    """The pictures of an item: galleries, comparisons and pairs, those that fit in the page."""

    galleries: Sequence[Gallery]
    comparisons: Sequence[Comparison]
    pairs: Sequence[Pair]

    @property
    def pictures(self) -> list[Picture]:
        pairs = [*(pair for one in self.comparisons for pair in one.pictures), *self.pairs]
        return [
            *(picture for gallery in self.galleries for picture in gallery.pictures),
            *(p for pair in pairs for p in (pair.expected, pair.actual, pair.difference) if p),
        ]


@dataclass(frozen=True)
class _Fold:
    """Items that one row stands for until it is opened.

    Attributes:
        status: worst status of the items.
        title, note: the row's text.
        entries: the items.
    """

    status: Status
    title: str
    note: str
    entries: Sequence[Entry]


def render(
    run: Run,
    spool: Spool,
    *,
    limit: int = 4 * MEBIBYTE,
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
    kept = _figures_within_limit(run.entries, spool, limit)
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

    def whole_or_plain(macro: str, plain: str, one: Any, nodeid: str) -> Markup:
        parts: Any = environment.get_template("parts.html").module
        try:
            return Markup(getattr(parts, macro)(one))
        except Exception as error:  # one item's figures must not cost the page
            problem = one_line(error)
            if on_problem is not None:
                on_problem(f"{nodeid} is shown as text alone: {problem}")
            return Markup(getattr(parts, plain)(one, problem))

    def article(entry: Entry) -> Markup:
        return whole_or_plain("entry", "plain", entry, entry.exhibit.nodeid)

    def card(one: Card) -> Markup:
        return whole_or_plain("card", "plain_card", one, one.cause.nodeid)

    script = _text("script.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    table, told = overview(run.entries), cards(run)
    failures, folds = _arrange(run.entries)
    environment.globals.update(
        symbols=SYMBOLS,
        causes=BAD,
        article=article,
        card=card,
        uri=uri,
        number=number,
        middle=middle,
        chart=chart.chart,
        frame={
            "width": chart.WIDTH,
            "height": chart.HEIGHT,
            "left": chart.LEFT,
            "right": chart.RIGHT,
            "bottom": chart.BOTTOM,
        },
        figures=lambda entry: kept[entry.id],
        # The card that has an item's pictures, and the one on which a change is accepted.
        card_of={one.entry.id: one for one in told if one.entry and one.comparison},
        card_with={one.comparison.id: one for one in told if one.comparison},
        homes=_homes(run.entries, told),
        tables=run.tables,
        acceptance=acceptance,
        exactly=escape,
        cleaned=clean,
    )
    found: list[Status] = [entry.status for entry in run.entries]
    return environment.get_template("page.html").render(
        run=run,
        entries=run.entries,
        cards=told,
        failures=failures,
        folds=folds,
        table=table,
        choices={
            name: list(dict.fromkeys(getattr(e.exhibit, name) for e in run.entries))
            for name in ("model", "layer", "property")
        },
        statuses={name: found.count(name) for name in STATUSES if name in found},
        reduced=any(
            len(kept[entry.id].pictures) < len(_all_figures(entry).pictures)
            for entry in run.entries
        ),
        limit=limit // MEBIBYTE + 1,
        # These two files are part of the package and need no escaping.
        style=Markup(_text("style.css")),
        script=Markup(script),
        script_hash=f"sha256-{digest}",
        version=version("pytest-convlens"),
    )


def middle(name: str) -> str:
    """Return a name that is not too long for a table, cut in the middle, as ends tell more."""
    if len(name) <= _MAX_NAME:
        return name
    return f"{name[: _MAX_NAME // 2]}…{name[-_MAX_NAME // 2 :]}"


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


def _arrange(entries: Sequence[Entry]) -> tuple[list[Entry], list[_Fold]]:
    """Return the failures that are shown, and the folds of all other items, failures first."""
    bad = [entry for entry in entries if entry.status in BAD]
    folds = []
    if len(bad) > _MAX_FAILURES:
        rest = bad[_MAX_FAILURES:]
        folds.append(_Fold(worst([e.status for e in rest]), f"{len(rest)} more failures", "", rest))
    by_model: dict[str, list[Entry]] = {}
    for entry in entries:
        if entry.status not in BAD:
            by_model.setdefault(entry.exhibit.model, []).append(entry)
    good = []
    for model, own in by_model.items():
        for layer in dict.fromkeys(e.follows for e in own if e.status == "follow"):
            after = [e for e in own if e.status == "follow" and e.follows == layer]
            title = f"{len(after)} follow {layer}" if layer else f"{len(after)} follow"
            folds.append(_Fold("follow", model, title, after))
        rest = [entry for entry in own if entry.status != "follow"]
        if rest:
            good.append(_Fold(_shown_status(rest), model, _tell(rest), rest))
    return bad[:_MAX_FAILURES], [*folds, *good]


def _shown_status(entries: Sequence[Entry]) -> Status:
    """Return the worst status; skipped items count only if all are skipped."""
    found = [entry.status for entry in entries]
    return worst([name for name in found if name != "skipped"] or found)


def _tell(entries: Sequence[Entry]) -> str:
    found = [entry.status for entry in entries]
    return ", ".join(f"{found.count(name)} {name}" for name in STATUSES if name in found)


def _homes(entries: Sequence[Entry], told: Sequence[Card]) -> dict[str, str]:
    """Return table of layers → identifier of the item that shows it; each is shown once.

    The table of a card is shown there.
    """
    homes: dict[str, str] = {}
    for card in told:
        if card.comparison is not None:
            homes.setdefault(card.comparison.table, card.id)
    for entry in entries:
        for one in entry.exhibit.comparisons:
            homes.setdefault(one.table, entry.id)
    return homes


def _figures_within_limit(
    entries: Sequence[Entry], spool: Spool, limit: int
) -> dict[str, _Figures]:
    """Return entry id → its figures, reduced until the pictures of all entries fit the limit."""

    def reduced(max_good: int, max_bad: int) -> dict[str, _Figures]:
        return {
            entry.id: _reduce(entry, max_bad if entry.status in BAD else max_good)
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
        if sum(size(p) for own in found.values() for p in own.pictures) <= limit:
            break
    return found


def _reduce(entry: Entry, max_count: int) -> _Figures:
    """Return an item's figures with at most `max_count` pictures or pairs in each."""
    return _Figures(
        [_reduce_gallery(one, max_count) for one in entry.exhibit.galleries],
        [replace(c, pictures=c.pictures[:max_count]) for c in entry.exhibit.comparisons],
        entry.exhibit.pairs[:max_count],
    )


def _all_figures(entry: Entry) -> _Figures:
    seen = entry.exhibit
    return _Figures(seen.galleries, seen.comparisons, seen.pairs)


def _reduce_gallery(gallery: Gallery, max_count: int) -> Gallery:
    """Return a gallery with its first pictures, in whole groups, at most `max_count`."""
    count = max_count // gallery.together * gallery.together
    return (
        gallery
        if len(gallery.pictures) <= max_count
        else replace(gallery, pictures=gallery.pictures[:count])
    )
