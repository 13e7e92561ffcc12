"""The end of a run's output: what changed, what usually explains it, and how to accept it."""

from __future__ import annotations

import pytest

from convlens.pytest_plugin.against import AGAINST
from convlens.pytest_plugin.baselines import FOLDER, NONE, SESSION
from convlens.pytest_plugin.before import BEFORE
from convlens.pytest_plugin.causes import CAUSES
from convlens.pytest_plugin.rerun import command_to_record
from convlens.report.cause import Cause
from convlens.report.text import escape_invisible

_MAX_SHOWN = 5


class WhatChanged:
    """Prints the causes of failed baselines behind all other sections, where a CI log opens.

    A run that holds a model against nothing says so in the same place.
    """

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(
        self, terminalreporter: pytest.TerminalReporter, config: pytest.Config
    ) -> None:
        if SESSION not in config.stash:  # a run of the benchmarks
            return
        causes = [cause for cause in config.stash[CAUSES].found if cause.key]
        if causes:
            self._show(terminalreporter, causes)
        elif line := _without_baseline(config):
            terminalreporter.line(line, yellow=True, bold=True)

    def _show(self, reporter: pytest.TerminalReporter, causes: list[Cause]) -> None:
        reporter.section("convlens: what changed", red=True)
        for cause in causes[:_MAX_SHOWN]:
            reporter.line(escape_invisible(cause.model), bold=True)
            for title, text in cause.lines:
                reporter.line(f"  {title}: {escape_invisible(' '.join(text.split()))}")
        if len(causes) > _MAX_SHOWN:
            reporter.line(f"and {len(causes) - _MAX_SHOWN} more, above")


def _without_baseline(config: pytest.Config) -> str:
    """Return a line where models were checked and none has a baseline; else an empty text."""
    session, models = config.stash[SESSION], list(config.stash[CAUSES].models)
    others = config.stash[AGAINST].spec, config.stash[BEFORE].spec
    held = session.asked or any(spec is not None for spec in others)
    if held or session.refused or not models:
        return ""
    if any("::" in str(argument) for argument in config.args):
        return ""  # single items were asked for, and they ran
    names = models[0] if len(models) == 1 else f"{len(models)} models"
    command = command_to_record(config)
    return (
        f"NO BASELINE holds {names}: a change would pass unseen. Record one with `{command}` and "
        f"commit {FOLDER}, or say --convlens-baselines={NONE}"
    )
