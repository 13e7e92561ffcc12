"""An ascent of too few steps says so, and does not fail a healthy model."""

from __future__ import annotations

import pytest

RUN = ("-p", "no:cacheprovider", "-rs", "-k", "classes and not finite")


def test_too_few_steps_are_told_and_fail_no_healthy_model(pytester, tiny_file):
    result = pytester.runpytest(*RUN, str(tiny_file), "--convlens-steps=1")
    assert result.ret == pytest.ExitCode.OK
    assert result.parseoutcomes()["skipped"] == 1
    result.stdout.fnmatch_lines(
        ["*1 step is too few to judge the model: at least 20 are needed; leave --convlens-steps*"]
    )
    (line,) = [line for line in result.outlines if line.startswith("SKIPPED")]
    assert "it would fail: tiny.keras does not recognize" in line


@pytest.mark.slow
def test_enough_steps_judge(pytester, tiny_file, monkeypatch):
    from convlens.checks.classes import Classes

    def fail(self, seen):
        raise AssertionError("planted")

    monkeypatch.setattr(Classes, "verdict", fail)
    for steps, outcome in ((19, "skipped"), (20, "failed")):
        result = pytester.runpytest(*RUN, str(tiny_file), f"--convlens-steps={steps}")
        assert result.parseoutcomes()[outcome] == 1
    assert result.ret == pytest.ExitCode.TESTS_FAILED
