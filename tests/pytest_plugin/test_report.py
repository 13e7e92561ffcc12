"""The report of a run, whole or cut short, alone or with workers."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
from tests.patience import HANGS

OPTIONS = ("--convlens-steps=20", "--convlens-report=report.html", "-p", "no:cacheprovider")
TESTS = """
import os
import pytest

def test_good(lens, conv_layer):
    "Each layer has units."
    assert lens.network.units(conv_layer) > 0

def test_bad(lens, record_property):
    record_property("gain", 0.25)
    assert lens.images.shape == "<b>no</b>"

@pytest.mark.xfail(reason="not yet")
def test_expected(lens):
    assert False

def test_skipped(lens):
    pytest.skip("no need")

def test_plain():
    pass
"""


@pytest.fixture(autouse=True)
def _in_a_process_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT"):
        monkeypatch.delenv(name, raising=False)


def read(pytester: pytest.Pytester) -> str:
    left = [p.name for p in pytester.path.iterdir() if p.name.endswith(".tmp")]
    assert not left
    return (pytester.path / "report.html").read_text(encoding="utf-8")


def outcomes(text: str) -> dict[str, str]:
    """Return each item's outcome by its node id."""
    found = re.findall(
        r'data-outcome="(\w+)"[^>]*>.*?<code>(.*?)</code></p>', text, flags=re.DOTALL
    )
    return {nodeid: outcome for outcome, nodeid in found}


def test_a_models_items_are_shown_with_their_pictures_and_numbers(pytester):
    result = pytester.runpytest(
        "--convlens",
        "mnist_cnn",
        "-k",
        "conv2d_3 and not duplicates",
        *OPTIONS,
        "--convlens-markdown=out/summary.md",
        "--junitxml=junit.xml",
    )
    result.stdout.fnmatch_lines(["report: *report.html", "summary: *summary.md"])
    text = read(pytester)
    shown = outcomes(text)
    assert set(shown) == {
        f"mnist_cnn::{p}[conv2d_3]" for p in ("finite", "dead", "gram", "ascent", "deconvnet")
    }
    assert set(shown.values()) == {"passed"}
    assert text.count("<svg") == 1
    assert "gain median" in text
    assert text.count("data:image/webp") > 64 + 16
    assert len(text) < 1_000_000
    summary = (pytester.path / "out" / "summary.md").read_text(encoding="utf-8")
    assert "| conv2d\\_3 | ✓ | ✓ | ✓ | ✓ | ✓ |" in summary
    junit = (pytester.path / "junit.xml").read_text(encoding="utf-8")
    assert 'name="convlens.gain_median"' in junit


@pytest.mark.parametrize("workers", [(), pytest.param(("-n", "2"), marks=pytest.mark.slow)])
def test_tests_that_use_convlens_are_shown_and_others_are_counted(pytester, workers):
    pytester.makepyfile(test_mine=TESTS)
    result = pytester.runpytest(*OPTIONS, *workers)
    result.assert_outcomes(passed=4, failed=1, xfailed=1, skipped=1)
    text = read(pytester)
    assert outcomes(text) == {
        "test_mine.py::test_good[conv2d_1]": "passed",
        "test_mine.py::test_good[conv2d_2]": "passed",
        "test_mine.py::test_good[conv2d_3]": "passed",
        "test_mine.py::test_bad": "failed",
        "test_mine.py::test_expected": "xfailed",
        "test_mine.py::test_skipped": "skipped",
    }
    assert "<b>no</b>" not in text
    assert "&lt;b&gt;no&lt;/b&gt;" in text
    assert "Each layer has units." in text
    assert "Tests that do not use convlens" in text
    assert "0.25" in text
    assert "was interrupted before its end" not in text
    assert ("<dt>worker</dt>" in text) == bool(workers)


def test_a_baselines_change_is_shown_with_what_accepts_it(pytester):
    code = """
    import numpy as np
    def test_it(baseline):
        baseline.check(np.full((4, 4), {value}, np.float32))
    """
    pytester.makepyfile(test_mine=code.format(value=1.0))
    pytester.runpytest("--convlens-update=missing").assert_outcomes(passed=1)
    pytester.makepyfile(test_mine=code.format(value=2.0))
    pytester.runpytest(*OPTIONS).assert_outcomes(failed=1)
    text = read(pytester)
    key, fingerprint = re.search(r'data-key="(.*?)" data-fingerprint="(.*?)"', text).groups()
    assert "Accept this change" in text
    listed = f'[{{"key": "{key}", "fingerprint": "{fingerprint}"}}]'
    (pytester.path / "accept.json").write_text(
        f'{{"format": "convlens-accept", "version": 1, "accept": {listed}}}', encoding="utf-8"
    )
    pytester.runpytest("--convlens-accept=accept.json").assert_outcomes(passed=1)
    pytester.runpytest().assert_outcomes(passed=1)


@pytest.mark.slow
def test_an_item_whose_worker_died_is_shown_as_crashed(pytester):
    pytester.makepyfile(
        test_mine="""
        import os
        def test_first(lens): pass
        def test_dies(lens): os._exit(3)
        """
    )
    result = pytester.runpytest_subprocess(*OPTIONS, "-n", "1")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    text = read(pytester)
    assert outcomes(text) == {
        "test_mine.py::test_first": "passed",
        "test_mine.py::test_dies": "crashed",
    }


def test_a_file_that_cannot_be_collected_is_shown(pytester):
    pytester.makepyfile(test_mine="import no_such_module_at_all")
    pytester.runpytest(*OPTIONS)
    text = read(pytester)
    assert "no_such_module_at_all" in text
    assert "1 of 1 item failed" in text


INTERRUPTED = """
def test_first(lens): pass
def test_slow(lens):
    {wait}
"""


def assert_what_was_finished_is_reported(pytester: pytest.Pytester) -> None:
    text = read(pytester)
    assert outcomes(text) == {
        "test_mine.py::test_first": "passed",
        "test_mine.py::test_slow": "unfinished",
    }
    assert "was interrupted before its end" in text


def test_an_interrupted_run_leaves_a_report_of_what_was_finished(pytester):
    pytester.makepyfile(test_mine=INTERRUPTED.format(wait="raise KeyboardInterrupt"))
    result = pytester.runpytest_inprocess(*OPTIONS, no_reraise_ctrlc=True)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert_what_was_finished_is_reported(pytester)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows sends no Ctrl-C to one process alone")
def test_ctrl_c_leaves_a_report_of_what_was_finished(pytester, interruptible):
    wait = "import time; open('started', 'w').close(); time.sleep(3600)"
    pytester.makepyfile(test_mine=INTERRUPTED.format(wait=wait))
    process = subprocess.Popen(
        [*interruptible, *OPTIONS],
        cwd=pytester.path,
        start_new_session=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + HANGS
        while not (pytester.path / "started").exists():
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.1)
        os.kill(process.pid, signal.SIGINT)
        process.communicate(timeout=HANGS)
    finally:
        process.kill()
    assert process.returncode == pytest.ExitCode.INTERRUPTED
    assert_what_was_finished_is_reported(pytester)


@pytest.mark.parametrize("option", ["report", "markdown"])
def test_a_place_that_cannot_be_written_to_is_refused_at_once(pytester, option):
    (pytester.path / "file").write_text("")
    (pytester.path / "folder").mkdir()
    for place in ("file/report.html", "folder"):
        result = pytester.runpytest(f"--convlens-{option}={place}")
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines([f"ERROR: --convlens-{option} *{place}: *"])


def test_a_report_that_cannot_be_written_in_the_end_fails_the_run(pytester):
    pytester.makepyfile(
        test_mine="""
        import pathlib, shutil
        def test_it():
            shutil.rmtree("out")
            pathlib.Path("out").write_text("in the way")
        """
    )
    result = pytester.runpytest("--convlens-report=out/report.html")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["the report was not written: cannot write to *out*"])


def test_a_report_of_plain_tests_needs_no_keras(pytester):
    pytester.makepyfile(
        test_mine="""
        import sys
        def test_it():
            assert not {"keras", "tensorflow", "numpy"} & set(sys.modules)
        """
    )
    options = (*OPTIONS, "-p", "no:benchmark", "-p", "no:hypothesispytest")
    result = pytester.runpytest_subprocess(*options)
    result.assert_outcomes(passed=1)
    assert "No test of this run used convlens" in read(pytester)


def test_the_spool_is_removed(pytester, monkeypatch, tmp_path):
    spools = tmp_path / "spools"
    spools.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(spools))
    pytester.makepyfile(test_mine="def test_it(): pass")
    pytester.runpytest(*OPTIONS, f"--basetemp={Path(pytester.path) / 'base'}")
    assert not list(spools.glob("convlens-report-*"))
