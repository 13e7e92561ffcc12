"""One cause is one failure: the layers behind the first that diverges follow in a line each."""

from __future__ import annotations

import shlex
import xml.etree.ElementTree as ET

import numpy as np
import pytest

RUN = ("-p", "no:cacheprovider")
BASELINE = (*RUN, "-k", "baseline")
FIRST = "the first layer that diverges is 'conv_a'"


@pytest.fixture
def changed(pytester, tiny, tiny_file):
    """A model whose first convolution changed since its baseline was recorded."""
    pytester.runpytest(*BASELINE, str(tiny_file), "--convlens-update=missing")
    kernel, bias = tiny.get_layer("conv_a").get_weights()
    kernel[..., 2] *= 1.01
    tiny.get_layer("conv_a").set_weights([kernel, bias])
    tiny.save(tiny_file)
    return tiny_file.relative_to(pytester.path)


def counts(result):
    found = result.parseoutcomes()
    return tuple(found.get(name, 0) for name in ("passed", "failed", "follow"))


def accept_command(result):
    """The arguments of the command that the terminal ends with."""
    (line,) = {line for line in result.outlines if line.startswith("  to accept it: ")}
    words = shlex.split(line.partition(": ")[2])
    return words[words.index("pytest") + 1 :]


@pytest.mark.quick(1)
@pytest.mark.parametrize(
    ("options", "ci"),
    [
        ((), "true"),
        (("--tb=line",), ""),
        pytest.param((), "", marks=pytest.mark.slow),
        pytest.param(("-vv",), "", marks=pytest.mark.slow),
        pytest.param(("-rA",), "true", marks=pytest.mark.slow),
        pytest.param(("-n2",), "true", marks=pytest.mark.slow),
    ],
)
def test_the_cause_is_told_once_and_the_rest_follows(pytester, changed, monkeypatch, options, ci):
    monkeypatch.setenv("CI", ci)
    result = pytester.runpytest(*BASELINE, str(changed), *options)
    assert counts(result) == (1, 1, 4)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    failed = [line for line in result.outlines if line.startswith("FAILED ")]
    assert len(failed) == 1
    assert "tiny.keras::baseline[conv_a] - the first layer" in failed[0]
    # Once in the failure, once in pytest's short summary, and once in the end, each in one line.
    assert 2 <= sum(FIRST in line for line in result.outlines) <= 3
    assert sum("likely cause: " in line for line in result.outlines) == ("--tb=line" not in options)
    result.stdout.fnmatch_lines(["pool_a … classes: 4 follow"])
    assert len(result.outlines) <= 40
    headed = result.outlines.index(next(x for x in result.outlines if "what changed ==" in x))
    assert result.outlines[headed + 1] == "tiny.keras"
    titles = [line.split(":")[0].strip() for line in result.outlines[headed + 2 : headed + 5]]
    assert titles == ["cause", "usually", "to accept it"]


@pytest.mark.slow
def test_a_line_of_a_failure_is_whole(pytester, changed):
    result = pytester.runpytest(*BASELINE, str(changed), "--tb=line")
    (line,) = [x for x in result.outlines if FIRST in x and x.startswith("tiny.keras:1: ")]
    assert line.endswith("1 of 6 channels diverge (tolerance 5e-05).")


def test_verdicts_of_other_checks_are_whole_in_a_line_too(pytester, tiny, tiny_file):
    kernel, bias = tiny.get_layer("conv_b").get_weights()
    kernel[..., 2], bias[2] = 0, 0
    tiny.get_layer("conv_b").set_weights([kernel, bias])
    tiny.save(tiny_file)
    result = pytester.runpytest(*RUN, str(tiny_file), "-k", "dead and conv_b", "--tb=line")
    result.stdout.fnmatch_lines(
        ["tiny.keras:1: *filters that never fire on *(allowed in a layer: 0):"]
    )


@pytest.mark.slow
def test_the_command_accepts_what_it_says(pytester, changed):
    result = pytester.runpytest(*BASELINE, str(changed))
    command = accept_command(result)
    assert command[-2:] == ["--convlens-update=failed", "tiny.keras::baseline"]
    accepted = pytester.runpytest(*command)
    assert counts(accepted) == (6, 0, 0)
    assert counts(pytester.runpytest(*BASELINE, str(changed))) == (6, 0, 0)


@pytest.mark.slow
def test_the_command_of_a_model_among_others_leaves_the_others(pytester, changed, tiny):
    other = pytester.path / "models" / "with space.keras"
    other.parent.mkdir()
    tiny.save(other)
    run = (*BASELINE, "--convlens", str(changed), "--convlens", str(other))
    result = pytester.runpytest(*run)
    assert counts(result) == (1, 2, 9)  # one changed, and one has no baseline
    command = accept_command(result)
    assert "--convlens" not in command
    assert counts(pytester.runpytest(*command)) == (6, 0, 0)
    assert len(list((pytester.path / "convlens-baselines").glob("*.npz"))) == 1
    (line,) = [line for line in result.outlines if line.startswith("  to record it: ")]
    assert line.endswith("--convlens-update=missing 'models/with space.keras::baseline'")


def test_the_command_of_a_test_runs_that_test_alone(pytester):
    test = """
        import pytest

        @pytest.mark.parametrize("n", [1, 2])
        def test_it(baseline, n): baseline.check(n{})
    """
    pytester.makepyfile(test_it=test.format(""))
    pytester.runpytest(*RUN, "--convlens-update=missing").assert_outcomes(passed=2)
    pytester.makepyfile(test_it=test.format(" + (n == 2)"))
    result = pytester.runpytest(*RUN, "test_it.py")
    result.assert_outcomes(passed=1, failed=1)
    command = accept_command(result)
    assert command[-1] == "test_it.py::test_it[2]"
    pytester.runpytest(*command).assert_outcomes(passed=1)


@pytest.mark.slow
def test_a_follower_whose_first_layer_is_not_run_fails_in_full(pytester, changed):
    result = pytester.runpytest(
        *RUN, f"{changed}::baseline[conv_b]", f"{changed}::baseline[classes]"
    )
    assert counts(result) == (0, 1, 1)
    result.stdout.fnmatch_lines(["layer 'conv_b' diverges too (*); the first layer that diverges*"])


@pytest.mark.slow
def test_followers_fail_for_whatever_reads_outcomes(pytester, changed):
    result = pytester.runpytest("-k", "baseline", str(changed), "--junitxml=junit.xml")
    assert counts(result) == (1, 1, 4)
    cases = {case.get("name"): case for case in ET.parse("junit.xml").iter("testcase")}
    failures = {name: case.find("failure") for name, case in cases.items()}
    messages = {name: f.get("message") for name, f in failures.items() if f is not None}
    assert len(messages) == 5
    assert messages["baseline[classes]"] == "diverges after conv_a"
    assert messages["baseline[conv_a]"].startswith(FIRST)
    again = pytester.runpytest("--lf", "-k", "baseline", str(changed))
    assert counts(again) == (0, 1, 4)
    first = pytester.runpytest(*BASELINE, "-x", str(changed))
    assert counts(first) == (1, 1, 0)


@pytest.mark.slow
def test_a_network_that_cannot_be_compared_fails_once(pytester, changed, tiny):
    kernel, bias = tiny.get_layer("conv_b").get_weights()
    kernel[0, 0, 0, 0] = np.nan
    tiny.get_layer("conv_b").set_weights([kernel, bias])
    tiny.save(changed)
    result = pytester.runpytest(*BASELINE, str(changed))
    assert counts(result) == (0, 1, 5)
    assert sum("NaN" in line for line in result.outlines) <= 2
    assert not any("to accept it" in line for line in result.outlines)


@pytest.mark.slow
def test_the_last_screen_of_a_run_of_many_models_is_short(pytester, changed, tiny):
    others = [pytester.path / f"m{number}.keras" for number in range(8)]
    for path in others:
        tiny.save(path)
    result = pytester.runpytest(*RUN, "-k", "baseline", *map(str, others))
    assert counts(result) == (0, 8, 40)
    at = next(i for i, line in enumerate(result.outlines) if "what changed ==" in line)
    assert len(result.outlines[at:]) < 30
    result.stdout.fnmatch_lines(["and 3 more, above"])
