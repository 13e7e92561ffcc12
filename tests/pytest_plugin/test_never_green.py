"""A run is not green without what it was asked to hold."""

from __future__ import annotations

import json
import shlex

import numpy as np
import pytest

RUN = ("-p", "no:cacheprovider")
FOLDER = "convlens-baselines"
QUICK = (*RUN, "-k", "baseline or finite")


def counts(result):
    found = result.parseoutcomes()
    return tuple(found.get(name, 0) for name in ("passed", "failed", "follow"))


def test_a_model_without_a_baseline_is_told_in_one_loud_line(pytester, tiny_file):
    result = pytester.runpytest(*QUICK, str(tiny_file))
    assert counts(result) == (3, 0, 0)
    (line,) = [line for line in result.outlines if "NO BASELINE" in line]
    assert line.startswith("NO BASELINE holds tiny.keras: a change would pass unseen. Record one ")
    command = shlex.split(line.split("`")[1])
    pytester.runpytest(*command[command.index("pytest") + 1 :])
    result = pytester.runpytest(*QUICK, str(tiny_file))
    assert counts(result) == (9, 0, 0)
    assert "NO BASELINE" not in result.stdout.str()
    result.stdout.fnmatch_lines(["baseline: 5 layers agree with tiny-keras-baseline~*.npz"])


@pytest.mark.slow
@pytest.mark.parametrize("chosen", [["-k", "finite"], ["-kfinite"], ["-k=finite"]])
def test_the_command_of_that_line_records_where_other_items_were_chosen(
    pytester, tiny_file, chosen
):
    result = pytester.runpytest(*RUN, *chosen, str(tiny_file))
    (line,) = [line for line in result.outlines if "NO BASELINE" in line]
    command = shlex.split(line.split("`")[1])
    pytester.runpytest(*command[command.index("pytest") + 1 :])
    assert list(pytester.path.glob(f"{FOLDER}/*.npz"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("value", "failed"), [("true", 1), ("1", 1), ("", 0), ("false", 0), ("0", 0)]
)
def test_in_a_ci_job_it_fails(pytester, tiny_file, monkeypatch, value, failed):
    monkeypatch.setenv("CI", value)
    assert counts(pytester.runpytest(*QUICK, str(tiny_file))) == (3, failed, 5 * failed)


def test_a_folder_that_is_gone_is_not_green_where_it_was_named(pytester, tiny_file):
    run = (*QUICK, str(tiny_file))
    pytester.runpytest(*run, "--convlens-update=missing")
    (pytester.path / FOLDER).rename(pytester.path / "elsewhere")
    assert counts(pytester.runpytest(*run, f"--convlens-baselines={FOLDER}")) == (3, 1, 5)
    pytester.makeini(f"[pytest]\nconvlens_baselines = {FOLDER}")
    assert counts(pytester.runpytest(*run)) == (3, 1, 5)


def test_to_do_without_baselines_can_be_said(pytester, tiny_file, monkeypatch):
    monkeypatch.setenv("CI", "true")
    run = (*QUICK, str(tiny_file), "--convlens-baselines=none")
    result = pytester.runpytest(*run)
    assert counts(result) == (3, 0, 0)
    assert "NO BASELINE" not in result.stdout.str()
    result = pytester.runpytest(*run, "--convlens-update=missing")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: baselines cannot be recorded, as their folder is 'none'*"])


def test_single_items_and_tests_are_told_nothing(pytester, tiny_file):
    for run in ([f"{tiny_file}::finite[conv_a]"], ["--co", str(tiny_file)]):
        assert "NO BASELINE" not in pytester.runpytest(*RUN, *run).stdout.str()


@pytest.fixture
def listed(pytester, tiny, tiny_file):
    """A changed model, and the list that accepts the change."""
    run = (*RUN, "-k", "baseline", str(tiny_file))
    pytester.runpytest(*run, "--convlens-update=missing")
    before = tiny.get_weights()
    tiny.set_weights([value * np.float32(1.1) for value in before])
    tiny.save(tiny_file)
    pytester.makeconftest(
        """
        def pytest_convlens_compared(item, comparison):
            with open("found.txt", "w") as stream:
                print(comparison.key, comparison.fingerprint, file=stream)
        """
    )
    pytester.runpytest(*run)
    key, mark = (pytester.path / "found.txt").read_text().split()

    def accept(*entries):
        content = [{"key": k, "fingerprint": f} for k, f in ((key, mark), *entries)]
        text = json.dumps({"format": "convlens-accept", "version": 1, "accept": content})
        (pytester.path / "accept.json").write_text(text)
        return (*run, "--convlens-accept=accept.json")

    def restore():
        tiny.set_weights(before)
        tiny.save(tiny_file)

    return accept, restore


@pytest.mark.slow
def test_a_list_says_how_many_of_its_changes_were_applied(pytester, listed):
    accept, _ = listed
    for _again in range(2):  # the second time, it is the baseline already
        result = pytester.runpytest(*accept())
        assert (result.ret, counts(result)) == (0, (6, 0, 0))
        result.stdout.fnmatch_lines(["accept.json: applied 1 of 1"])
    result = pytester.runpytest(*accept(("gone.keras::baseline", "0" * 16)))
    assert (result.ret, counts(result)) == (0, (6, 0, 0))  # it may be in the part that did not run
    result.stdout.fnmatch_lines(
        ["accept.json: applied 1 of 2", "not applied: gone.keras::baseline: no test of this run*"]
    )


def test_a_list_of_which_nothing_applies_is_an_error(pytester, listed):
    accept, restore = listed
    restore()
    result = pytester.runpytest(*accept())
    assert (result.ret, counts(result)) == (1, (6, 0, 0))
    result.stdout.fnmatch_lines(
        ["accept.json: applied 0 of 1", "not applied: *: what is there now is not the change*"]
    )
    pytester.makepyfile("def test_it(): pass")
    result = pytester.runpytest(*RUN, "--convlens-accept=accept.json")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["accept.json: applied 0 of 1", "*1 passed*"])


@pytest.mark.slow
def test_workers_know_together_what_was_applied(pytester, listed):
    accept, restore = listed
    result = pytester.runpytest_subprocess(*accept(), "-n2")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["accept.json: applied 1 of 1"])
    restore()
    result = pytester.runpytest_subprocess(*accept(), "-n2")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["accept.json: applied 0 of 1"])


def test_node_ids_run_no_other_model_of_addopts(pytester, tiny_file):
    pytester.makeini(f"[pytest]\naddopts = --convlens {tiny_file} --convlens mnist_cnn")
    result = pytester.runpytest(*RUN, "--co", "-q", "mnist_cnn::finite")
    assert {line.partition("::")[0] for line in result.outlines if "::" in line} == {"mnist_cnn"}
    result = pytester.runpytest(*RUN, "--co", "-q", f"{tiny_file}::finite")
    assert {line.partition("::")[0] for line in result.outlines if "::" in line} == {"tiny.keras"}
    pytester.makepyfile("def test_it(convlens_model): assert convlens_model.count_params()")
    name = next(pytester.path.glob("test_*.py")).name
    pytester.runpytest(*RUN, f"{name}::test_it").assert_outcomes(passed=2)
