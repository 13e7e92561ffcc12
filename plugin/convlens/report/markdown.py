"""A run in Markdown, for the summary page of a CI job."""

from __future__ import annotations

import re

from convlens.report.assemble import Run
from convlens.report.entry import BAD
from convlens.report.overview import Cell, overview
from convlens.report.page import SYMBOLS
from convlens.report.text import visible

_MOST_FAILURES = 50
_SPECIAL = re.compile(r"([\\`*_{}\[\]()#+\-.!|<>~$&@:])")


def render_markdown(run: Run) -> str:
    """Return a heading, a table of each model's layers and properties, and what failed."""
    lines = [f"# {escaped(run.headline)}", ""]
    if not run.finished:
        lines += ["The run did not come to its end.", ""]
    table = overview(run.entries)
    for block in table.blocks:
        lines += [f"## {escaped(block.model)}", ""]
        lines.append(_row("layer", [escaped(name) for name in table.properties]))
        lines.append(_row("---", ["---"] * len(table.properties)))
        for row in block.rows:
            cells = [_cell(cell) for cell in row.cells]
            lines.append(_row(escaped(row.layer or "whole model"), cells))
        lines.append("")
    failed = [(e.exhibit.nodeid, e.verdict) for e in run.entries if e.outcome in BAD]
    failed += [(f.nodeid, f.message.partition("\n")[0]) for f in run.failures]
    if failed:
        lines += ["## Failures", ""]
        lines += [f"- **{escaped(name)}**: {escaped(why)}" for name, why in failed[:_MOST_FAILURES]]
        if len(failed) > _MOST_FAILURES:
            lines.append(f"- and {len(failed) - _MOST_FAILURES} more")
        lines.append("")
    return "\n".join(lines)


def escaped(text: str) -> str:
    """Return text that Markdown shows as it is, in one line."""
    return _SPECIAL.sub(r"\\\1", visible(" ".join(text.split())))


def _row(first: str, cells: list[str]) -> str:
    return f"| {' | '.join([first, *cells])} |"


def _cell(cell: Cell) -> str:
    if cell.outcome is None:
        return ""
    count = f" {cell.good}/{len(cell.entries)}" if len(cell.entries) > 1 else ""
    return f"{SYMBOLS[cell.outcome]}{count}"
