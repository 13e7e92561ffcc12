"""Render a run as Markdown, for the summary page of a CI job."""

from __future__ import annotations

import re

from convlens.report.assemble import Run
from convlens.report.entry import BAD
from convlens.report.overview import Cell, overview
from convlens.report.page import SYMBOLS
from convlens.report.text import escape_invisible

_MAX_FAILURES = 50
_SPECIAL = re.compile(r"([\\`*_{}\[\]()#+\-.!|<>~$&@:])")


def render_markdown(run: Run) -> str:
    """Return a heading, a table of layers and properties for each model, and the failures."""
    lines = [f"# {escape_markdown(run.headline)}", ""]
    if not run.finished:
        lines += ["The run was interrupted before its end.", ""]
    table = overview(run.entries)
    for block in table.blocks:
        lines += [f"## {escape_markdown(block.model)}", ""]
        lines.append(_row("layer", [escape_markdown(name) for name in table.properties]))
        lines.append(_row("---", ["---"] * len(table.properties)))
        for row in block.rows:
            cells = [_cell(cell) for cell in row.cells]
            lines.append(_row(escape_markdown(row.layer or "whole model"), cells))
        lines.append("")
    failed = [(e.exhibit.nodeid, e.verdict) for e in run.entries if e.outcome in BAD]
    failed += [(f.nodeid, f.message.partition("\n")[0]) for f in run.failures]
    if failed:
        lines += ["## Failures", ""]
        lines += [
            f"- **{escape_markdown(name)}**: {escape_markdown(why)}"
            for name, why in failed[:_MAX_FAILURES]
        ]
        if len(failed) > _MAX_FAILURES:
            lines.append(f"- and {len(failed) - _MAX_FAILURES} more")
        lines.append("")
    return "\n".join(lines)


def escape_markdown(text: str) -> str:
    """Return text in one line, with escapes for characters that are special in Markdown."""
    return _SPECIAL.sub(r"\\\1", escape_invisible(" ".join(text.split())))


def _row(first: str, cells: list[str]) -> str:
    return f"| {' | '.join([first, *cells])} |"


def _cell(cell: Cell) -> str:
    if cell.outcome is None:
        return ""
    count = f" {cell.good}/{len(cell.entries)}" if len(cell.entries) > 1 else ""
    return f"{SYMBOLS[cell.outcome]}{count}"
