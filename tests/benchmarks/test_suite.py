"""The suite under pytest: stored runs, comparisons, and refused options."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from convlens.benchmarks.cases import cases

SUITE = ("--pyargs", "convlens.benchmarks", "-k", "gram", "--benchmark-storage=file://stored")


@pytest.fixture(autouse=True)
def _in_a_process_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """The inner runs are not in a worker of xdist, even if these tests are."""
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)


@pytest.fixture
def stored(pytester: pytest.Pytester) -> Path:
    """Return the file of a stored run."""
    result = pytester.runpytest_subprocess(*SUITE, "--benchmark-autosave")
    result.assert_outcomes(passed=1, deselected=len(cases(False, False)) - 1)
    (file,) = pytester.path.glob("stored/*/*.json")
    result.stdout.fnmatch_lines(
        ["*convlens: benchmarks*", "case *seconds*", "gram *NumPy's product"]
    )
    return file


def changed(file: Path, old: str, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new), encoding="utf-8")


def plant(file: Path, *, seconds: float, ratio: float) -> None:
    """Multiply the stored time of the core gram, and its stored ratio to its limit."""
    run = json.loads(file.read_text(encoding="utf-8"))
    (bench,) = run["benchmarks"]
    info = bench["extra_info"]
    for found, factor in (
        (info["seconds"]["convlens"], seconds),
        (info["ratios"]["convlens"]["NumPy's product"], ratio),
    ):
        found |= {name: value * factor for name, value in found.items()}
    file.write_text(json.dumps(run), encoding="utf-8")


@pytest.mark.slow
def test_a_run_is_stored_with_a_page_and_compared(pytester, stored):
    run = json.loads(stored.read_text(encoding="utf-8"))
    (bench,) = run["benchmarks"]
    info = bench["extra_info"]
    assert info["case"] == "gram"
    assert info["gflop_per_second"] > 0
    assert info["peak_fraction"] > 0
    assert bench["stats"]["rounds"] >= 3
    assert len(info["seconds"]) == 2
    assert not [k for k in run["machine_info"]["cpu"] if k.startswith("hz_")]
    machine = run["machine_info"]["convlens"]
    assert machine["hardware"]
    assert machine["backend"] == info["backend"]
    assert "gram" in stored.with_suffix(".html").read_text(encoding="utf-8")

    again = pytester.runpytest_subprocess(
        *SUITE,
        "--convlens-bench-fail=1000",
        "--benchmark-compare",
        "--benchmark-json=run.json",
        "--convlens-bench-page=pages/run.html",
    )
    assert again.ret == 0
    again.stdout.fnmatch_lines(
        ["compared with *limit: 1000 times as long*", "  gram: * times as long*"]
    )
    again.stdout.no_fnmatch_line("*machine_info is different*")
    assert (pytester.path / "run.html").exists()
    assert (pytester.path / "pages" / "run.html").exists()

    # Pretend that since then the core became faster, and its limit even more.
    plant(stored, seconds=1000, ratio=1 / 1000)
    faster = pytester.runpytest_subprocess(*SUITE, "--convlens-bench-fail=1.25")
    faster.assert_outcomes(passed=1, deselected=len(cases(False, False)) - 1)
    assert faster.ret == 0

    # Pretend that the core was a thousand times faster.
    plant(stored, seconds=1e-6, ratio=1)
    slower = pytester.runpytest_subprocess(*SUITE, "--convlens-bench-fail=1.25")
    slower.assert_outcomes(failed=1, deselected=len(cases(False, False)) - 1)
    assert slower.ret == pytest.ExitCode.TESTS_FAILED
    slower.stdout.fnmatch_lines(
        ["slower than in *: gram: * times as long as stored*", "  FAILED gram: *", "*1 failed*"]
    )

    changed(stored, machine["hardware"], "an-abacus")
    refused = pytester.runpytest_subprocess(*SUITE, "--convlens-bench-fail=1.25")
    assert refused.ret == pytest.ExitCode.USAGE_ERROR
    refused.stderr.fnmatch_lines(["*from other hardware*an-abacus*"])
    refused.stdout.no_fnmatch_line("*1 passed*")


@pytest.mark.slow
def test_a_run_without_a_stored_one_is_refused(pytester):
    result = pytester.runpytest_subprocess(*SUITE, "--convlens-bench-fail=1.25")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*no run of the suite is stored here*--benchmark-autosave*"])


@pytest.mark.slow
def test_parallel_processes_are_refused(pytester):
    result = pytester.runpytest_subprocess(*SUITE, "-n", "2")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*the benchmark suite runs alone*leave out -n*"])


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="links take a privilege on Windows")
def test_the_suite_fails_in_a_worker_with_the_reason(pytester):
    folder = Path(__file__).parents[2] / "benchmarks"
    pytester.makepyfile("def test_other(): pass")
    (pytester.path / "benchmarks").symlink_to(folder)
    result = pytester.runpytest_subprocess(".", "-n", "1", "-p", "no:cacheprovider")
    assert result.ret != 0
    result.stdout.fnmatch_lines(["*the benchmark suite runs alone*"])


@pytest.mark.slow
def test_only_a_users_model_is_timed(pytester):
    result = pytester.runpytest_subprocess(
        "--pyargs", "convlens.benchmarks", "--convlens", "mnist_cnn", "--collect-only", "-q"
    )
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*test_core?ascent-mnist_cnn?"])
    result.stdout.no_fnmatch_line("*VGG19*")
    result.stdout.no_fnmatch_line("*finite*")


@pytest.mark.parametrize("ratio", ["0.5", "nan", "inf"])
def test_an_invalid_limit_is_refused(pytester, ratio):
    result = pytester.runpytest(f"--convlens-bench-fail={ratio}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*must be a ratio of at least 1*"])


def test_a_limit_without_the_suite_is_refused(pytester):
    result = pytester.runpytest("--convlens-bench-fail=1.25")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*is an option of the benchmarks: add --pyargs *"])
