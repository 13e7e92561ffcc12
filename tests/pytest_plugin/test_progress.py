"""A long item on a terminal, and what Ctrl-C leaves of it."""

from __future__ import annotations

import os
import signal
import subprocess
import time

import pytest
from tests.patience import HANGS

from convlens.pytest_plugin import progress

pty = pytest.importorskip("pty", reason="needs a system with pseudo-terminals")


@pytest.mark.slow
def test_a_long_ascent_shows_how_far_it_is_and_ctrl_c_keeps_its_pictures(tmp_path, interruptible):
    main, side = pty.openpty()
    run = [*interruptible, "-p", "no:cacheprovider", "--convlens", "mnist_cnn"]
    options = ["-k", "ascent and conv2d_1", "--convlens-steps", "100000"]
    process = subprocess.Popen(
        [*run, *options, "--convlens-pictures", "seen"],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        stdout=side,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "TERM": "xterm"},
    )
    os.close(side)
    shown, interrupted = b"", None
    try:
        while True:
            try:
                shown += os.read(main, 4096)
            except OSError:  # the other side is closed: pytest has ended
                break
            if interrupted is None and b" of 100000 steps, " in shown:
                interrupted = time.monotonic()
                process.send_signal(signal.SIGINT)
        assert process.wait(HANGS) == pytest.ExitCode.INTERRUPTED, shown.decode()
    finally:
        process.kill()
        os.close(main)
    assert interrupted is not None, shown.decode()
    assert b"KeyboardInterrupt: ascent[conv2d_1] stopped after" in shown, shown.decode()
    pictures = {path.name for path in (tmp_path / "seen" / "mnist_cnn").iterdir()}
    assert pictures == {"conv2d_1-filters.png", "conv2d_1-ascent.png"}


@pytest.mark.slow
def test_a_log_shows_nothing_of_it(pytester, monkeypatch, mnist_items):
    monkeypatch.setattr(progress, "_QUIET_SECONDS", 0.0)
    result = pytester.runpytest(
        "--convlens", "mnist_cnn", "-k", "ascent and conv2d_1", "--convlens-steps", "20"
    )
    result.assert_outcomes(passed=1, deselected=mnist_items - 1)
    result.stdout.no_fnmatch_line("* of 20 steps, *")
    assert "steps" not in result.stderr.str()
