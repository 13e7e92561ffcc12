"""The table at the end of a run: a line a layer, with the columns of the checks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from string import Formatter
from typing import TYPE_CHECKING, Any

import pytest

from convlens.pytest_plugin.battery import checks_of

if TYPE_CHECKING:
    from convlens.checks.check import Check

_PREFIX = "convlens."
_UNKNOWN = "-"


@dataclass
class _Model:
    """The measures of one model's items.

    Attributes:
        rows: layer → check → its measures; the layer "" is the model as a whole.
        failed: layer → the checks that failed.
        images: the source of the images; empty where the model could not be read.
        notes: lines about pictures that were not made.
    """

    rows: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    failed: dict[str, list[str]] = field(default_factory=dict)
    images: str = ""
    notes: list[str] = field(default_factory=list)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print the measures, a line a layer, for each model."""
    models = _gather(terminalreporter)
    if not models:
        return
    checks = checks_of(config)
    for name, model in models.items():
        terminalreporter.section(f"convlens: {name}")
        for line in [*_table(model, checks), *_whole(model, checks), *model.notes]:
            terminalreporter.line(line)
    folder = config.getoption("convlens_pictures")
    if folder:
        terminalreporter.line(f"pictures: {folder}")


def _gather(reporter: pytest.TerminalReporter) -> dict[str, _Model]:
    """Return the measures by model, read from the reports, so that it works with xdist too."""
    models: dict[str, _Model] = {}
    for outcome in ("passed", "failed"):
        for report in reporter.stats.get(outcome, []):
            found = {
                name.removeprefix(_PREFIX): value
                for name, value in getattr(report, "user_properties", ())
                if name.startswith(_PREFIX)
            }
            if report.when != "call" or "model" not in found:
                continue
            model = models.setdefault(found.pop("model"), _Model())
            layer = found.pop("layer")
            model.images = found.pop("images", "") or model.images
            model.notes += [
                value for name, value in report.user_properties if name == f"{_PREFIX}note"
            ]
            found.pop("note", None)
            check = report.nodeid.rpartition("::")[2].split("[")[0]
            model.rows.setdefault(layer, {}).setdefault(check, {}).update(found)
            if outcome == "failed":
                model.failed.setdefault(layer, []).append(check)
    return models


def _table(model: _Model, checks: Sequence[Check]) -> list[str]:
    """Return the lines of a model's table; none where no layer has anything to show."""
    columns = [(check.name, column) for check in checks for column in check.columns]
    lines = []
    for layer, row in model.rows.items():
        cells = [_filled(column.cell, row.get(name, {})) for name, column in columns]
        failed = ", ".join(model.failed.get(layer, [])) or _UNKNOWN
        if layer and any(cell != _UNKNOWN for cell in (*cells, failed)):
            lines.append([layer, *cells, failed])
    if not lines:
        return []
    lines.insert(0, ["layer", *(column.title for _, column in columns), "failed"])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]


def _whole(model: _Model, checks: Sequence[Check]) -> list[str]:
    """Return the lines about the model as a whole."""
    row = model.rows.get("", {})
    lines = [_filled(check.line, row.get(check.name, {})) for check in checks if check.line]
    if model.images:
        lines.append(f"images: {model.images}")
    return [line for line in lines if line != _UNKNOWN]


def _filled(template: str, measures: Mapping[str, Any]) -> str:
    """Return a template filled with measures; a dash where one of them is missing."""
    fields = {name for _, name, _, _ in Formatter().parse(template) if name}
    return template.format_map(measures) if fields <= measures.keys() else _UNKNOWN
