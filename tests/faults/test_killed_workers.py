"""Workers that are killed during a run: their results count, and other workers continue."""

from __future__ import annotations

import re
import signal

import pytest

from convlens.baselines.store import files, read, read_key

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not hasattr(signal, "SIGKILL"), reason="needs a system with POSIX's signals"
    ),
]
TESTS = """
import os
import signal
import numpy as np
import pytest

@pytest.mark.parametrize("number", range(12))
def test_it(baseline, lens, number):
    baseline.check(np.full(20_000, number, np.float32))
    if number % 6 == 5:
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_recorded_baselines_stay_and_the_other_tests_run(run, pytester):
    pytester.makepyfile(test_it=TESTS)
    options = ("-n2", "--convlens-report=report.html", "--convlens-markdown=summary.md")
    status, said = run("test_it.py", *options, "--convlens-update=missing")
    assert status == 1
    assert re.search(r"2 failed, 10 passed", said)
    folder = pytester.path / "convlens-baselines"
    stored = [read(path, read_key(path)) for path in files(folder)]
    assert {int(next(iter(s.arrays.values())).flat[0]) for s in stored} == set(range(12))
    assert not list(folder.glob(".*"))
    text = (pytester.path / "report.html").read_text(encoding="utf-8")
    assert text.count('data-outcome="crashed"') == 2
    assert text.count('data-outcome="passed"') == 10
    assert "crashed" in (pytester.path / "summary.md").read_text(encoding="utf-8")


def test_no_baseline_counts_as_unused_if_a_worker_was_killed(run, pytester):
    pytester.makepyfile(test_it=TESTS.replace("SIGKILL", "SIGCONT"))
    status, _ = run("test_it.py", "--convlens-update=missing")
    assert status == 0
    folder = pytester.path / "convlens-baselines"
    before = files(folder)
    assert len(before) == 12
    shorter = TESTS.replace("range(12)", "range(3, 12)")
    pytester.makepyfile(test_it=shorter)
    run("test_it.py", "-n2", "--convlens-remove-unused")
    assert files(folder) == before
    pytester.makepyfile(test_it=shorter.replace("SIGKILL", "SIGCONT"))
    status, _ = run("test_it.py", "-n2", "--convlens-remove-unused")
    assert status == 0
    assert len(files(folder)) == 9
