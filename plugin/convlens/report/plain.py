"""The report in its plainest form, for a run whose page or summary cannot be made.

It is made of the outcomes alone: it reads no file, draws nothing and uses no template.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from markupsafe import escape

from convlens.report.assemble import clean
from convlens.report.entry import BAD, Outcome, worst
from convlens.report.markdown import escape_markdown
from convlens.report.text import escape_invisible


@dataclass
class _Row:
    outcomes: list[Outcome] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)

    @property
    def outcome(self) -> Outcome:
        return worst(self.outcomes or ["unfinished"])


def plain_page(events: Iterable[dict[str, Any]], problem: str) -> str:
    """Return an HTML page of each item's outcome and message, and of what was wrong."""
    parts = [
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'">',
        "<title>convlens report</title>\n</head>\n<body>\n<h1>convlens report</h1>",
        f"<p>The items are shown as text alone: {_safe(problem)}</p>\n<ul>",
    ]
    for nodeid, row in _rows(events).items():
        parts.append(f"<li><b>{row.outcome}</b> <code>{_safe(nodeid)}</code>")
        parts += [f"<pre>{_safe(message)}</pre>" for message in row.messages]
    return "\n".join([*parts, "</ul>\n</body>\n</html>\n"])


def plain_markdown(events: Iterable[dict[str, Any]], problem: str) -> str:
    """Return a Markdown list of the items that failed, and of what was wrong."""
    rows = _rows(events)
    bad = {nodeid: row for nodeid, row in rows.items() if row.outcome in BAD}
    lines = [
        f"# {len(bad)} of {len(rows)} items failed",
        "",
        f"The summary of the layers could not be made: {escape_markdown(problem)}",
        "",
    ]
    for nodeid, row in bad.items():
        first = "".join(row.messages).partition("\n")[0]
        lines.append(f"- **{escape_markdown(nodeid)}**: {escape_markdown(first)}")
    return "\n".join([*lines, ""])


def _rows(events: Iterable[dict[str, Any]]) -> dict[str, _Row]:
    rows: dict[str, _Row] = {}
    for event in events:
        if event["kind"] == "report":
            row = rows.setdefault(event["nodeid"], _Row())
            if event["when"] == "call" or event["outcome"] != "passed":
                row.outcomes.append(event["outcome"])
            if event["outcome"] in BAD:
                row.messages.append(event["message"])
    return rows


def _safe(text: str) -> str:
    return str(escape(escape_invisible(clean(text))))
