"""Render a run as Markdown, for the summary page of a CI job."""

from __future__ import annotations

import re
from collections.abc import Iterator

from convlens.report.assemble import Run
from convlens.report.cause import Cause
from convlens.report.entry import BAD, Rows
from convlens.report.overview import Block, Cell, Overview, overview
from convlens.report.page import SYMBOLS
from convlens.report.text import escape_invisible

# GitHub shows no summary of more than 1 MiB; that of a step includes what other commands write.
MAX_BYTES = 1_000_000
_MAX_CAUSES = 20
_MAX_FAILURES = 50
_MAX_CHARACTERS = 1000
# Rows of an item's own table.
_MAX_ROWS = 40
_SPECIAL = re.compile(r"([\\`*_{}\[\]()#+\-.!|<>~$&@:])")
_LEFT_OUT = "The rest is left out, as a summary of a CI job may have no more than 1 MiB."


def render_markdown(run: Run, *, limit: int = MAX_BYTES) -> str:
    """Return a heading, the causes, the failures, and a table of layers for each model.

    Args:
        run: contents of the report.
        limit: maximum number of bytes in UTF-8. Sections that do not fit are left out, those of
            models without failures first, and one line says so.
    """
    kept: list[str] = []
    left = limit - len(_LEFT_OUT.encode()) - 1
    for section in _sections(run):
        size = len(section.encode("utf-8", "replace")) + 1
        if size > left:
            kept.append(_LEFT_OUT + "\n")
            break
        kept.append(section)
        left -= size
    return "\n".join(kept)


def escape_markdown(text: str) -> str:
    """Return text in one line, with escapes for characters that are special in Markdown."""
    return _SPECIAL.sub(r"\\\1", escape_invisible(" ".join(text.split())))


def _sections(run: Run) -> Iterator[str]:
    """Yield the parts of the summary, the most important ones first."""
    yield f"# {escape_markdown(run.headline)}\n"
    if not run.finished:
        yield "The run was interrupted before its end.\n"
    causes = [cause for cause in run.causes if cause.key]
    if causes:
        yield "## What changed\n"
        for cause in causes[:_MAX_CAUSES]:
            yield _cause(cause)
        if len(causes) > _MAX_CAUSES:
            yield f"and {len(causes) - _MAX_CAUSES} more\n"
    told = {cause.nodeid for cause in causes}
    failed = [
        (entry.exhibit.nodeid, entry.verdict)
        for entry in run.entries
        if entry.outcome in BAD and not entry.follows and entry.exhibit.nodeid not in told
    ]
    failed += [(f.nodeid, f.message.partition("\n")[0]) for f in run.failures]
    if failed:
        yield "## Failures\n"
        for name, why in failed[:_MAX_FAILURES]:
            yield f"- **{_shortened(name)}**: {_shortened(why)}"
        if len(failed) > _MAX_FAILURES:
            yield f"- and {len(failed) - _MAX_FAILURES} more"
        yield ""
    for entry in run.entries:
        if not entry.follows:
            for rows in entry.exhibit.tables:
                yield _rows(rows)
    table = overview(run.entries)
    for block in table.blocks:
        yield _table(table, block)


def _cause(cause: Cause) -> str:
    """Return a cause with the texts that the terminal and the page show, too."""
    lines = [f"### {_shortened(cause.model)}\n"]
    for title, text in cause.lines:
        if text is cause.command:
            lines.append(f"- {title}:\n\n{_code(text)}")
        else:
            lines.append(f"- **{title}**: {_shortened(text)}")
    if cause.following:
        lines.append(f"- {_shortened(cause.following)}")
    return "\n".join([*lines, ""])


def _code(text: str) -> str:
    """Return a block of code, within a list, that no text can end."""
    plain = escape_invisible(text)
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", plain)), default=0))
    return "\n".join(f"  {line}" for line in [f"{fence}console", *plain.splitlines(), fence, ""])


def _shortened(text: str) -> str:
    """Return text for Markdown, cut where one line would be a page."""
    cut = text if len(text) <= _MAX_CHARACTERS else f"{text[:_MAX_CHARACTERS]}…"
    return escape_markdown(cut)


def _table(table: Overview, block: Block) -> str:
    lines = [f"## {escape_markdown(block.model)}", ""]
    lines.append(_row("layer", [escape_markdown(name) for name in table.properties]))
    lines.append(_row("---", ["---"] * len(table.properties)))
    for group in block.groups:
        if group.kind == "follow" and group.folded:
            lines.append(_row(_shortened(group.title), [""] * len(table.properties)))
            continue
        for row in group.rows:
            cells = [_cell(cell) for cell in row.cells]
            lines.append(_row(escape_markdown(row.layer or "whole model"), cells))
    return "\n".join([*lines, ""])


def _rows(shown: Rows) -> str:
    """Return a table of an item, rows with a fault first."""
    marked = zip(shown.rows, shown.marked, strict=True)
    ordered = [row for row, _ in sorted(marked, key=lambda each: not each[1])]
    lines = [f"## {_shortened(shown.title.partition(';')[0])}", ""]
    lines += [
        _row(name, list(rest)) for name, *rest in (shown.columns, ["---"] * len(shown.columns))
    ]
    lines += [
        _row(_shortened(name), [escape_markdown(cell) for cell in rest])
        for name, *rest in ordered[:_MAX_ROWS]
    ]
    left = len(ordered) - _MAX_ROWS
    return "\n".join([*lines, *([f"\nand {left} more"] if left > 0 else []), ""])


def _row(first: str, cells: list[str]) -> str:
    return f"| {' | '.join([first, *cells])} |"


def _cell(cell: Cell) -> str:
    if cell.status is None:
        return ""
    count = f" {cell.count}" if len(cell.entries) > 1 else ""
    return f"{SYMBOLS[cell.status]}{count}"
