"""Baselines that nothing uses: listed, and removed only after a whole run."""

from __future__ import annotations

import pytest

FOLDER = "convlens-baselines"
RUN = ("-p", "no:cacheprovider")
REMOVE = (*RUN, "--convlens-remove-unused")
WHOLE = """
import os
import pytest

def test_one(baseline): baseline.check(1)
def test_two(baseline): baseline.check(2)
"""
LESS = """
import os
import pytest

def test_one(baseline): baseline.check(1)
"""


@pytest.fixture
def suite(pytester):
    """Two baselines of which one is used, and one of a file that is gone."""
    pytester.makepyfile(test_it=WHOLE, test_gone="def test_it(baseline): baseline.check(3)")
    pytester.runpytest(*RUN, "--convlens-update=all").assert_outcomes(passed=3)
    pytester.makepyfile(test_it=LESS)
    (pytester.path / "test_gone.py").unlink()
    return pytester


def files(pytester):
    return sorted(p.name.split("~")[0] for p in (pytester.path / FOLDER).glob("*.npz"))


ALL = ["test-gone-py-test-it", "test-it-py-test-one", "test-it-py-test-two"]


def test_they_are_listed_and_left(suite):
    result = suite.runpytest(*RUN)
    result.stdout.fnmatch_lines(
        [
            "*= convlens: baselines =*",
            "unused: *test-gone-py-test-it~*.npz (test_gone.py::test_it)",
            "unused: *test-it-py-test-two~*.npz (test_it.py::test_two)",
            "remove unused baselines with --convlens-remove-unused",
        ]
    )
    assert files(suite) == ALL


@pytest.mark.parametrize("workers", [(), pytest.param(("-n2",), marks=pytest.mark.slow)])
def test_they_are_removed_with_their_pictures_when_that_is_asked_for(suite, workers):
    result = suite.runpytest(*REMOVE, *workers)
    result.assert_outcomes(passed=1)
    assert result.stdout.str().count("removed: ") == 2
    assert files(suite) == ["test-it-py-test-one"]
    assert len(list((suite.path / FOLDER).iterdir())) == 3  # with its picture and its text


def test_nothing_is_said_where_all_are_used(suite):
    suite.runpytest(*REMOVE)
    result = suite.runpytest(*RUN)
    assert "convlens: baselines" not in result.stdout.str()


MORE = "\ndef test_last(): "


PARTS = [
    (MORE + "pass", ("-k", "one"), "tests were deselected"),
    (MORE + "pytest.skip('x')", (), "tests were skipped"),
    (MORE + "assert 0", (), "tests failed"),
    ("\nraise RuntimeError", (), "could not be collected or was skipped"),
    (MORE + "pass", ("--deselect", "test_it.py::test_last"), "tests were deselected"),
    (MORE + "pytest.xfail('x')", (), "tests were skipped or expected to fail"),
    (MORE + "assert 0", ("-x",), "tests failed"),
    (MORE + "raise KeyboardInterrupt", (), "the run was interrupted"),
    (MORE + "pass", ("--lf",), "only tests that failed before were run"),
    (MORE + "pass", ("test_it.py::test_one",), "tests were named one by one"),
    ("\npytest.skip('x', allow_module_level=True)", (), "not be collected or was skipped"),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "arguments", "reason", "workers"),
    [
        *((*part, ()) for part in PARTS),
        pytest.param(*PARTS[0], ("-n2",), marks=pytest.mark.slow),
        pytest.param(*PARTS[1], ("-n2",), marks=pytest.mark.weekly),
    ],
)
def test_nothing_is_removed_or_listed_after_a_part_of_the_suite(
    suite, more, arguments, reason, workers
):
    suite.makepyfile(test_it=LESS + more)
    run = [a for a in REMOVE if not (arguments == ("--lf",) and a in RUN)]
    result = suite.runpytest_inprocess(*run, *arguments, *workers, no_reraise_ctrlc=True)
    assert files(suite) == ALL
    assert "\nunused: " not in result.stdout.str()
    assert "\nremoved: " not in result.stdout.str()
    result.stdout.fnmatch_lines([f"no unused baseline was looked for or removed: *{reason}*"])


@pytest.mark.slow
def test_nothing_is_removed_after_a_worker_crashed(suite):
    suite.makepyfile(test_it=LESS + MORE + "os._exit(3)")
    result = suite.runpytest_subprocess(*REMOVE, "-n2")
    assert files(suite) == ALL
    result.stdout.fnmatch_lines(["no unused baseline was looked for or removed: *"])


@pytest.mark.slow
def test_those_of_other_files_and_models_are_left(suite, tiny_file):
    """A run of one file, or of one model, says nothing about the others."""
    suite.makepyfile(test_other="def test_it(baseline): baseline.check(3)")
    model = (str(tiny_file), "-k", "baseline or conv_a")
    suite.runpytest(*RUN, "--convlens-update=missing")
    suite.runpytest(*RUN, *model, "--convlens-update=missing")
    kept = files(suite)
    assert "tiny-keras-baseline" in kept
    assert "test-other-py-test-it" in kept
    suite.runpytest(*REMOVE, "test_it.py").assert_outcomes(passed=1)
    assert sorted({*kept} - {*files(suite)}) == ["test-it-py-test-two"]
    suite.runpytest(*REMOVE).assert_outcomes(passed=2)
    assert sorted({*kept} - {*files(suite)}) == ["test-gone-py-test-it", "test-it-py-test-two"]


def test_collecting_alone_says_nothing(suite):
    result = suite.runpytest(*REMOVE, "--collect-only")
    assert "convlens: baselines" not in result.stdout.str()
    assert files(suite) == ALL


def test_one_that_cannot_be_read_is_named_and_left(suite):
    path = next((suite.path / FOLDER).glob("test-gone*.npz"))
    path.write_bytes(b"")
    result = suite.runpytest(*REMOVE)
    result.stdout.fnmatch_lines(["unreadable: the baseline *test-gone*restore it from version*"])
    assert path.exists()


@pytest.mark.parametrize("workers", [(), pytest.param(("-n2",), marks=pytest.mark.slow)])
def test_one_of_a_test_that_exists_is_never_removed(suite, workers):
    """A test may check a value under a condition that does not hold on this machine."""
    test = "\ndef test_gpu(baseline):\n    if {}: baseline.check(7, name='gpu')\n"
    suite.makepyfile(test_it=LESS + test.format("True"))
    suite.runpytest(*RUN, "--convlens-update=missing")
    suite.makepyfile(test_it=LESS + test.format("False"))
    result = suite.runpytest(*REMOVE, *workers)
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["not used this time: *test-gpu*its test exists, and may need*"])
    assert files(suite) == ["test-it-py-test-gpu-gpu", "test-it-py-test-one"]
    suite.makepyfile(test_it=LESS)
    suite.runpytest(*REMOVE)
    assert files(suite) == ["test-it-py-test-one"]
