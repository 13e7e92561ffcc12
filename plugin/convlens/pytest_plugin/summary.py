"""The table at the end of a run: a line a layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

Row = dict[str, Any]
_PREFIX = "convlens."
_UNKNOWN = "-"

_COLUMNS: tuple[tuple[str, Callable[[Row], str]], ...] = (
    ("units", lambda row: _number(row, "units", "d")),
    ("dead", lambda row: _number(row, "dead", "d")),
    ("ascent gain (min, median)", lambda row: _gain(row)),
    ("Gram residual", lambda row: _number(row, "gram_residual", ".1e")),
    ("deconvnet residual", lambda row: _number(row, "deconvnet_residual", ".1e")),
    ("failed", lambda row: ", ".join(row.get("failed", [])) or _UNKNOWN),
)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print what was measured, a line a layer, for each model."""
    models = _gather(terminalreporter)
    for model, rows in models.items():
        terminalreporter.section(f"convlens: {model}")
        layers = {name: row for name, row in rows.items() if row.keys() - {"images", "weights"}}
        for line in _table({name: row for name, row in layers.items() if name}):
            terminalreporter.line(line)
        if "margin_min" in rows.get("", {}):
            whole = rows[""]
            terminalreporter.line(
                f"classes: {whole['classes']} recognized, the closest by {whole['margin_min']:.3g}"
            )
        if "style_fall" in rows.get("", {}):
            whole = rows[""]
            terminalreporter.line(
                f"style: the loss fell to {whole['style_fall']:.3g} of its start in "
                f"{whole['style_steps']} steps"
            )
        images = next((row["images"] for row in rows.values() if "images" in row), None)
        if images is not None:  # None where the model could not be read when its items ran
            terminalreporter.line(f"images: {images}")
    folder = config.getoption("convlens_pictures")
    if models and folder:
        terminalreporter.line(f"pictures: {folder}")


def _gather(reporter: pytest.TerminalReporter) -> dict[str, dict[str, Row]]:
    """Return model → layer → measurements, from the reports; so it works with xdist too."""
    models: dict[str, dict[str, Row]] = {}
    for outcome in ("passed", "failed"):
        for report in reporter.stats.get(outcome, []):
            found = {
                name.removeprefix(_PREFIX): value
                for name, value in getattr(report, "user_properties", ())
                if name.startswith(_PREFIX)
            }
            if report.when != "call" or "model" not in found:
                continue
            row = models.setdefault(found.pop("model"), {}).setdefault(found.pop("layer"), {})
            row.update(found)
            if outcome == "failed":
                check = report.nodeid.rpartition("::")[2].split("[")[0]
                row.setdefault("failed", []).append(check)
    return models


def _table(rows: dict[str, Row]) -> list[str]:
    if not rows:
        return []
    cells = [["layer", *(title for title, _ in _COLUMNS)]]
    cells += [[layer, *(show(row) for _, show in _COLUMNS)] for layer, row in rows.items()]
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    return [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in cells
    ]


def _number(row: Row, name: str, form: str) -> str:
    return format(row[name], form) if name in row else _UNKNOWN


def _gain(row: Row) -> str:
    if "gain_min" not in row:
        return _UNKNOWN
    return f"{row['gain_min']:.3g}, {row['gain_median']:.3g}"
