"""Clocks that jump backwards and forwards, or that a test has stopped."""

from __future__ import annotations

import pytest

from convlens import maximize

JUMPS = """
import datetime
import itertools
import time

import pytest

_jumps = itertools.cycle([0.0, 4e9, -3e9, 86_400.0, -86_400.0, 1e6])
_time = time.time


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item):
    jump = next(_jumps)
    time.time = lambda: _time() + jump
    stopped = time.monotonic()
    time.monotonic = time.perf_counter = lambda: stopped
"""


@pytest.mark.slow
def test_a_run_does_not_depend_on_the_clock(run, tiny_file, pytester):
    pytester.makeconftest(JUMPS)
    options = (
        "tiny.keras",
        "-k",
        "not classes",
        "--convlens-report=report.html",
        "--convlens-pictures=pictures",
    )
    status, said = run(*options, "--convlens-update=missing")
    assert status == 0, said
    status, said = run(*options)
    assert status == 0, said
    assert "was interrupted before its end" not in (pytester.path / "report.html").read_text(
        "utf-8"
    )


@pytest.mark.slow
def test_an_ascent_does_not_depend_on_the_clock(tiny, monkeypatch):
    moving = maximize(tiny, "conv_b", [1], steps=20)
    monkeypatch.setattr("time.perf_counter", lambda: 5.0)
    stopped = maximize(tiny, "conv_b", [1], steps=20)
    assert stopped.trace[-1] == pytest.approx(moving.trace[-1])
