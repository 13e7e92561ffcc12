"""The items of the zero-code run, as the pages list them."""

from __future__ import annotations

BASELINE = ("baseline", "each layer does what its [baseline](baselines.md) says")


def checks() -> list[tuple[str, str]]:
    """Return name and summary of every check of the zero-code run, in its order."""
    from convlens.battery import PROPERTIES, Style

    return [*((check.name, check.summary) for check in (*PROPERTIES, Style)), BASELINE]


def table_of_checks() -> str:
    """Return the table in docs/zero-code.md."""
    rows = [f"| [`{name}`](checks/{name}.md) | {summary} |" for name, summary in checks()]
    return "\n".join(["| item | what must hold |", "|---|---|", *rows])
