"""Failures whose first line is shown whole wherever pytest shows one line of a failure."""

from __future__ import annotations

import pytest
from _pytest._code.code import ExceptionChainRepr, ReprFileLocation, ReprTracebackNative


def message_failure(message: str, place: str, *, style: str = "auto") -> ExceptionChainRepr:
    """Return pytest's representation of a failure that is a message without a traceback.

    pytest cuts a failure that is a plain text to 50 characters under --tb=line, and repeats all of
    its lines in the short summary of a CI job. This representation has one line for both. It passes
    through xdist.

    Args:
        message: one or more lines.
        place: path or name of what failed, for ``--tb=line``.
        style: value of --tb; with "line", pytest shows the first line alone.
    """
    first = message.partition("\n")[0]
    lines = ReprTracebackNative([] if style == "line" else [f"{message}\n"])
    return ExceptionChainRepr([(lines, ReprFileLocation(place, 1, first), None)])


def first_line(report: pytest.TestReport | pytest.CollectReport) -> str:
    """Return the first line of a failed report's message."""
    crash = getattr(report.longrepr, "reprcrash", None)
    text = str(crash.message) if crash else report.longreprtext
    return text.strip().partition("\n")[0]
