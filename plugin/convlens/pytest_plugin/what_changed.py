"""The end of a run's output: what changed, what usually explains it, and how to accept it."""

from __future__ import annotations

import pytest

from convlens.pytest_plugin.causes import CAUSES
from convlens.report.text import escape_invisible

_MAX_SHOWN = 5


class WhatChanged:
    """Prints the causes of failed baselines behind all other sections, where a CI log opens."""

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(
        self, terminalreporter: pytest.TerminalReporter, config: pytest.Config
    ) -> None:
        causes = [cause for cause in config.stash[CAUSES].found if cause.key]
        if not causes:
            return
        terminalreporter.section("convlens: what changed", red=True)
        for cause in causes[:_MAX_SHOWN]:
            terminalreporter.line(escape_invisible(cause.model), bold=True)
            for title, text in cause.lines:
                terminalreporter.line(f"  {title}: {escape_invisible(' '.join(text.split()))}")
        if len(causes) > _MAX_SHOWN:
            terminalreporter.line(f"and {len(causes) - _MAX_SHOWN} more, above")
