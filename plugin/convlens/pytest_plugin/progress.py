"""Progress of a long item: a line on a terminal, and nothing in a log."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from convlens.engine.runtime.progress import ItemProgress

_QUIET_SECONDS = 2.0


@contextmanager
def item_progress(config: pytest.Config, title: str, unit: str = "steps") -> Iterator[ItemProgress]:
    """Give a callback that takes (steps done, steps in all) while an item runs.

    Where pytest writes to a terminal, progress is shown once the item has taken two seconds, on a
    line that is rewritten, and erased in the end.
    """
    reporter: pytest.TerminalReporter | None = config.pluginmanager.get_plugin("terminalreporter")
    capture = config.pluginmanager.get_plugin("capturemanager")
    if reporter is None or not reporter.isatty or capture is None:
        yield lambda done, total, losses=None: None
        return
    begin = time.monotonic()
    shown = False

    def show(done: int, total: int, losses: Mapping[str, float] | None = None) -> None:
        nonlocal shown
        taken = time.monotonic() - begin
        if taken < _QUIET_SECONDS or not done:
            return
        left = taken / done * (total - done)
        terms = "".join(f", {name} {value:.3g}" for name, value in (losses or {}).items())
        with capture.global_and_fixture_disabled():
            if not shown:
                reporter.ensure_newline()
                shown = True
            reporter.rewrite(
                f"{title}: {done} of {total} {unit}, {left:.0f} s left{terms}", erase=True
            )

    try:
        yield show
    finally:
        if shown:
            with capture.global_and_fixture_disabled():
                reporter.rewrite("", erase=True)
                reporter.rewrite("")
