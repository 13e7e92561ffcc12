"""Checks that a conftest adds, and errors in drawing, which change no verdict."""

from __future__ import annotations

import pytest

CHECKS = """
import numpy as np

from convlens import Column, LayerCheck, ModelCheck
from convlens.pictures import HeatMap

class Largest(LayerCheck):
    name = "largest"
    summary = "no weight is larger than the limit"
    columns = (Column("largest weight", "{{largest:.2f}}"),)

    def run(self, lens, layer, effort):
        return lens.network.layers[layer].get_weights()[0]

    def measures(self, seen):
        return {{"largest": float(np.abs(seen).max())}}

    def verdict(self, seen):
        if not np.abs(seen).max() < {limit}:
            raise AssertionError("a weight is too large")
        return {{}}

    def figures(self, lens, layer, seen):
        return {figures}

class Parameters(ModelCheck):
    name = "parameters"
    summary = "the model has weights"
    line = "parameters: {{parameters}} in all"

    def run(self, lens, layer, effort):
        return lens.model.count_params()

    def verdict(self, seen):
        assert seen > 0
        return {{"parameters": seen}}

def pytest_convlens_checks(config):
    return [{added}]
"""
DRAWN = '{"weights": lambda: HeatMap(seen[:, :, 0, 0], "one kernel")}'
RAISES = {
    "all": "[][0]",
    "one": '{"weights": lambda: 1 / 0, "kernel": lambda: HeatMap(seen[:, :, 0, 0], "one kernel")}',
}  # fmt: skip
RUN = ("-p", "no:cacheprovider", "-k", "largest or parameters")
SHOWN = ("--convlens-pictures=seen", "--convlens-report=report.html")


def add(
    pytester: pytest.Pytester,
    added: str = "Largest(), Parameters()",
    *,
    limit: float = 9.0,
    figures: str = DRAWN,
) -> None:
    """Write a conftest that adds checks."""
    pytester.makeconftest(CHECKS.format(added=added, limit=limit, figures=figures))


def test_added_checks_are_items_with_a_column_a_line_and_a_place_in_the_report(
    pytester, tiny_file, tiny_items
):
    add(pytester)
    result = pytester.runpytest(str(tiny_file), "-v", *RUN, *SHOWN)
    result.assert_outcomes(passed=3, deselected=tiny_items)
    result.stdout.fnmatch_lines(
        [
            "tiny.keras::largest?conv_a? PASSED*",
            "tiny.keras::largest?conv_b? PASSED*",
            "tiny.keras::parameters PASSED*",
            "layer * largest weight *failed",
            "conv_a * 0.[0-9][0-9] *",
            "conv_b * 0.[0-9][0-9] *",
            "parameters: 452 in all",
        ]
    )
    assert "was not made" not in result.stdout.str()
    assert "no picture was made" not in result.stdout.str()
    drawn = {p.name for p in (pytester.path / "seen" / "tiny.keras").iterdir()}
    assert drawn == {"conv_a-weights.png", "conv_b-weights.png"}
    report = (pytester.path / "report.html").read_text(encoding="utf-8")
    assert "tiny.keras::largest[conv_a]" in report
    assert "one kernel" in report


def test_an_added_check_that_fails_is_reported_with_its_message_and_numbers(
    pytester, tiny_file, tiny_items
):
    add(pytester, limit=0.0)
    result = pytester.runpytest(str(tiny_file), *RUN, "--convlens-report=report.html")
    result.assert_outcomes(failed=2, passed=1, deselected=tiny_items)
    result.stdout.fnmatch_lines(["a weight is too large", "conv_a * 0.[0-9][0-9] *largest"])
    assert "Traceback" not in result.stdout.str()
    report = (pytester.path / "report.html").read_text(encoding="utf-8")
    assert "Requirement: no weight is larger than the limit." in report


@pytest.mark.quick(1)
@pytest.mark.parametrize(
    ("added", "message"),
    [
        ("Largest(), Largest()", "returned a check named 'largest', which is the name of another"),
        ("type('Own', (Largest,), {'name': 'gram'})()", "a check named 'gram', which is the name"),
        ("type('Own', (Largest,), {'name': 'tests'})()", "a check named 'tests', which is"),
        ("type('Own', (Largest,), {'name': 'a b'})()", "with a name of letters, digits, - and _"),
        ("type('Own', (LayerCheck,), {})()", "must return instances of subclasses of convlens.Lay"),
        ("Largest", "must return instances of subclasses of convlens.LayerCheck"),
        ("3", "must return instances of subclasses of convlens.LayerCheck *, not 3"),
    ],
)
def test_checks_that_cannot_be_added_are_usage_errors(pytester, tiny_file, added, message):
    add(pytester, added)
    result = pytester.runpytest(str(tiny_file), *RUN)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: *{message}*"])
    assert "Traceback" not in result.stdout.str() + result.stderr.str()


@pytest.mark.parametrize("value", ["3", "Largest()", "iter([3])"])
def test_a_value_that_is_no_list_of_checks_is_a_usage_error(pytester, tiny_file, value):
    code = CHECKS.replace("return [{added}]", "return {added}")
    pytester.makeconftest(code.format(added=value, limit=9.0, figures=DRAWN))
    result = pytester.runpytest(str(tiny_file), *RUN)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: pytest_convlens_checks must return *"])
    assert "Traceback" not in result.stdout.str() + result.stderr.str()


@pytest.mark.quick(1)
@pytest.mark.parametrize("kind", RAISES)
@pytest.mark.parametrize(
    ("limit", "outcome"), [(9.0, "passed"), pytest.param(0.0, "failed", marks=pytest.mark.slow)]
)
def test_an_error_in_drawing_is_a_note_and_changes_no_verdict(
    pytester, tiny_file, kind, limit, outcome, tiny_items
):
    add(pytester, "Largest()", limit=limit, figures=RAISES[kind])
    result = pytester.runpytest(str(tiny_file), *RUN, *SHOWN)
    result.assert_outcomes(**{outcome: 2, "deselected": tiny_items})
    note = {
        "all": "no picture was made: list index out of range",
        "one": "the picture 'weights' was not made: division by zero",
    }[kind]
    for layer in ("conv_a", "conv_b"):
        result.stdout.fnmatch_lines([f"*largest?{layer}?: {note}*"])
    if outcome == "failed":
        result.stdout.fnmatch_lines(["a weight is too large"])
    others = {p.name for p in pytester.path.glob("seen/*/*.png")}
    assert others == (set() if kind == "all" else {"conv_a-kernel.png", "conv_b-kernel.png"})
    report = (pytester.path / "report.html").read_text(encoding="utf-8")
    assert report.count(f'data-outcome="{outcome}"') >= 2
