"""The table at the end of a run: a line a layer, with the columns of the checks.

In a run of many models, one that passed is a line, and of the others the layers that failed are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from string import Formatter
from typing import TYPE_CHECKING, Any

import pytest

from convlens.pytest_plugin.battery import checks_of
from convlens.pytest_plugin.causes import CATEGORY, CAUSES
from convlens.pytest_plugin.notes import NOTE, properties
from convlens.report.text import one_line

if TYPE_CHECKING:
    from convlens.checks.check import Check

_PREFIX = "convlens."
_UNKNOWN = "-"
_INPUT = "input"  # of a baseline's items, the one of the images
# Up to so many models have a whole table each.
_MAX_TABLES = 3


@dataclass
class _Model:
    """The measures of one model's items.

    Attributes:
        rows: layer → check → its measures; the layer "" is the model as a whole.
        failed: layer → the checks that failed.
        images: the source of the images; empty where the model could not be read.
        notes: lines about what could not be shown.
        following: layer → a line on the layers behind it that fail for its cause.
        agreeing: file of a baseline → number of layers that agree with it.
        passed: number of items that passed.
        is_green: False if an item failed, for whatever cause.
    """

    rows: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    failed: dict[str, list[str]] = field(default_factory=dict)
    images: str = ""
    notes: list[str] = field(default_factory=list)
    following: dict[str, str] = field(default_factory=dict)
    agreeing: Counter[str] = field(default_factory=Counter)
    passed: int = 0
    is_green: bool = True


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print the measures, a line a layer, for each model; a line for each of many that passed."""
    models, notes = _gather(terminalreporter)
    causes = config.stash.get(CAUSES, None)  # None in a run of the benchmarks
    for cause in causes.found if causes is not None else ():
        if cause.followers and cause.model in models:
            models[cause.model].following[cause.layer] = cause.following
    many = len(models) > _MAX_TABLES
    green = {name: model for name, model in models.items() if many and model.is_green}
    if green:
        terminalreporter.section(f"convlens: {len(green)} of {len(models)} models passed")
        for line in _lines_of_green(green):
            terminalreporter.line(line)
    for name, model in models.items():
        if name in green:
            continue
        checks = checks_of(config)
        terminalreporter.section(f"convlens: {name}")
        # These may add notes.
        lines = [*_table(model, checks, failed_only=many), *_whole(model, checks)]
        for line in [*lines, *model.notes]:
            terminalreporter.line(line)
    if notes:
        terminalreporter.section("convlens: notes")
        for line in notes:
            terminalreporter.line(line)
    folder = config.getoption("convlens_pictures")
    if folder and models:
        terminalreporter.line(f"pictures: {folder}")


def _gather(reporter: pytest.TerminalReporter) -> tuple[dict[str, _Model], list[str]]:
    """Return the measures by model, and notes on other tests.

    They are read from the reports, so that it works with xdist too.
    """
    models: dict[str, _Model] = {}
    others: list[str] = []
    places: dict[str, list[_Model]] = {}  # models by the file or name that their items start with
    for outcome in ("passed", "failed"):
        for report in reporter.stats.get(outcome, []):
            if getattr(report, "when", None) != "call":
                continue
            pairs = properties(report)
            notes = [str(value) for name, value in pairs if name == NOTE]
            found = {
                name.removeprefix(_PREFIX): value
                for name, value in pairs
                if name.startswith(_PREFIX) and name != NOTE
            }
            if not {"model", "layer"} <= found.keys():
                others += notes
                continue
            model = models.setdefault(str(found.pop("model")), _Model())
            model.passed += outcome == "passed"
            model.is_green = model.is_green and outcome == "passed"
            layer = str(found.pop("layer"))
            model.images = found.pop("images", "") or model.images
            model.notes += notes
            check = report.nodeid.rpartition("::")[2].split("[")[0]
            model.rows.setdefault(layer, {}).setdefault(check, {}).update(found)
            if outcome == "passed" and "baseline" in found and layer != _INPUT:
                model.agreeing[str(found["baseline"])] += 1
            if outcome == "failed":
                model.failed.setdefault(layer, []).append(check)
            places.setdefault(report.nodeid.partition("::")[0], []).append(model)
    for outcome in ("error", CATEGORY):
        for report in reporter.stats.get(outcome, []):
            for model in places.get(report.nodeid.partition("::")[0], []):
                model.is_green = False
    return models, others


def _lines_of_green(models: Mapping[str, _Model]) -> list[str]:
    """Return a line for each model, its notes, and the source of the images."""
    sources = {model.images for model in models.values()} - {""}
    lines = []
    for name, model in models.items():
        parts = ["1 item passed" if model.passed == 1 else f"{model.passed} items passed"]
        parts += _agreeing(model)
        if len(sources) > 1 and model.images:
            parts.append(f"images: {model.images}")
        lines += [f"{name}: {'; '.join(parts)}", *(f"  {note}" for note in model.notes)]
    if len(sources) == 1:
        lines.append(f"images: {sources.pop()}")
    return lines


def _agreeing(model: _Model) -> list[str]:
    """Return a text on the layers that agree with each baseline."""
    return [
        f"{'1 layer agrees' if count == 1 else f'{count} layers agree'} with {file}"
        for file, count in model.agreeing.items()
    ]


def _table(model: _Model, checks: Sequence[Check], *, failed_only: bool) -> list[str]:
    """Return the lines of a model's table; none where no layer has anything to show."""
    columns = [(check.name, column) for check in checks for column in check.columns]
    lines = []
    for layer, row in model.rows.items():
        cells = [_filled(model, name, column.cell, row.get(name, {})) for name, column in columns]
        failed = ", ".join(model.failed.get(layer, [])) or _UNKNOWN
        shown = [failed] if failed_only else [*cells, failed]
        if layer and any(cell != _UNKNOWN for cell in shown):
            lines.append([layer, *cells, failed])
    if not lines:
        return []
    lines.insert(0, ["layer", *(column.title for _, column in columns), "failed"])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    table = []
    for line in lines:
        cells = [
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        table.append("  ".join(cells).rstrip())
        if line[0] in model.following and line is not lines[0]:
            table.append(model.following[line[0]])
    return table


def _whole(model: _Model, checks: Sequence[Check]) -> list[str]:
    """Return the lines about the model as a whole."""
    row = model.rows.get("", {})
    lines = [
        _filled(model, check.name, check.line, row.get(check.name, {}))
        for check in checks
        if check.line
    ]
    lines += [f"baseline: {text}" for text in _agreeing(model)]
    if model.images:
        lines.append(f"images: {model.images}")
    return [line for line in lines if line != _UNKNOWN]


def _filled(model: _Model, check: str, template: str, measures: Mapping[str, Any]) -> str:
    """Return a template filled with measures; a dash where one of them is missing.

    A template that measures do not fit is noted, and gives a dash as well.
    """
    try:
        fields = {name for _, name, _, _ in Formatter().parse(template) if name}
        return template.format_map(measures) if fields <= measures.keys() else _UNKNOWN
    except Exception as error:  # a check of others may have any template, and any measures
        trouble = f"{check}: {template!r} cannot be filled with its measures: {one_line(error)}"
        if trouble not in model.notes:
            model.notes.append(trouble)
        return _UNKNOWN
