"""The items of the zero-code run, as the pages list them."""

from __future__ import annotations


def checks() -> list[tuple[str, str]]:
    """Return name and summary of every check of the zero-code run, in its order."""
    from convlens.baselines.unchanged import Unchanged
    from convlens.checks.battery import BATTERY

    judging = [check for check in BATTERY if check.assertion is not None]
    return [(check.name, check.summary) for check in (*judging, Unchanged)]


def table_of_checks() -> str:
    """Return the table in docs/zero-code.md."""
    rows = [f"| [`{name}`](checks/{name}.md) | {summary} |" for name, summary in checks()]
    return "\n".join(["| item | what must hold |", "|---|---|", *rows])
