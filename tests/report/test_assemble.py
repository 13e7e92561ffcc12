"""The contents of a spool are combined into entries, even if a process crashed."""

from __future__ import annotations

import pytest
from tests.report.conftest import EVIL, add, event, exhibit

from convlens.report.assemble import assemble, clean
from convlens.report.cause import Cause
from convlens.report.markdown import MAX_BYTES, escape_markdown, render_markdown
from convlens.report.overview import overview
from convlens.report.spool import Spool


def outcomes(spool: Spool) -> dict[str, str]:
    return {entry.exhibit.title: entry.outcome for entry in assemble(spool).entries}


def test_each_item_has_an_outcome_a_verdict_and_numbers(spool):
    run = assemble(spool)
    by = {entry.exhibit.title: entry for entry in run.entries}
    assert by["passes"].verdict == "Passes holds."
    assert by["passes"].numbers == {"gram_residual": 1.5e-7}
    assert by["passes"].seconds == 1.0
    assert by["dead"].verdict == "Dead filters."
    assert by["dead"].message == "dead filters:\n  unit 3"
    assert by["skips"].verdict == "Skipped: it has no softmax."
    assert by["baseline"].verdict == "conv_a diverges."
    assert run.headline == "5 of 8 items failed"
    assert run.finished
    assert [f.nodeid for f in run.failures] == ["tests/test_plain.py::test_bad"]
    assert run.others == {"failed": 1, "passed": 1}


@pytest.mark.parametrize(
    ("events", "outcome"),
    [
        ([], "unfinished"),
        ([("passed", "setup")], "unfinished"),
        ([("passed", "setup"), ("passed", "call"), ("passed", "teardown")], "passed"),
        ([("passed", "setup"), ("passed", "call"), ("error", "teardown")], "error"),
        ([("error", "setup"), ("passed", "teardown")], "error"),
        ([("passed", "setup"), ("crashed", "???")], "crashed"),
        ([("xfailed", "call"), ("passed", "teardown")], "xfailed"),
        ([("xpassed", "call"), ("passed", "teardown")], "xpassed"),
        ([("skipped", "setup"), ("passed", "teardown")], "skipped"),
    ],
)
def test_the_worst_phase_determines_the_outcome(tmp_path, events, outcome):
    spool = Spool(tmp_path)
    one = exhibit("one")
    spool.write_exhibit(one)
    for found, when in events:
        spool.add_event(event(one.nodeid, found, when))
    assert outcomes(spool) == {"one": outcome}


def test_layers_are_in_network_order(tmp_path):
    spool = Spool(tmp_path)
    for prop, layers in {
        "finite": ("a", "c"),
        "baseline": ("a", "b", "d"),
        "classes": ("",),
        "extra": ("b", "x"),
    }.items():
        for layer in layers:
            add(spool, exhibit(f"{prop}-{layer}", layer, prop))
    entries = sorted(assemble(spool).entries, key=lambda e: e.exhibit.layer)
    (block,) = overview(entries).blocks
    names = [row.layer for row in block.rows]
    assert names.index("a") < names.index("b") < names.index("d")
    assert names.index("a") < names.index("c")
    assert names.index("b") < names.index("x")
    assert names[-1] == ""


def test_the_overview_shows_the_worst_outcome_and_counts_passed_items(spool):
    table = overview(assemble(spool).entries)
    (block,) = [b for b in table.blocks if b.model == "m"]
    cells = dict(zip(table.properties, block.cells, strict=True))
    assert cells["baseline"].status == "failed"
    assert (cells["baseline"].good, len(cells["baseline"].entries)) == (0, 2)
    assert cells["gram"].status == "passed"
    assert cells["classes"].status == "skipped"
    assert cells[EVIL].status is None


def test_terminal_colors_and_unprintable_characters_are_removed():
    assert clean("\x1b[31mred\x1b[0m \x00\udc80") == "red \N{REPLACEMENT CHARACTER}?"
    assert clean("x" * 30_000).endswith("more characters")


def test_the_markdown_lists_failures_and_escapes_names(spool):
    text = render_markdown(assemble(spool))
    assert text.startswith("# 5 of 8 items failed\n")
    assert "| conv\\_b | " in text
    assert "✗" in text
    assert "<" not in text.replace("\\<", "")
    assert "tests/test\\_plain\\.py::test\\_bad" in text.replace("\\:", ":")
    assert escape_markdown("a|b\nc") == "a\\|b c"


def test_the_markdown_shows_only_the_first_of_many_failures(tmp_path):
    spool = Spool(tmp_path)
    for i in range(60):
        add(spool, exhibit(f"item {i}"), outcome="failed", message="no")
    text = render_markdown(assemble(spool))
    assert text.count("\n- **") == 50
    assert "- and 10 more" in text


def changed(model: str = "m", **more) -> Cause:
    given = {"explanation": "the weights of 'a' changed", "command": "pytest m`` -k 'x\n```'"}
    given |= {"followers": ("b", "c", "z"), "key": f"{model}::baseline", **more}
    return Cause(f"{model}::baseline[a]", model, "a", "baseline", "'a' diverges", **given)


def test_the_markdown_starts_with_the_cause_and_tells_it_once(tmp_path):
    spool = Spool(tmp_path)
    add(spool, exhibit("baseline[a]"), outcome="failed", message="'a' diverges")
    for layer in "bcz":
        shown = exhibit(f"baseline[{layer}]")
        add(spool, shown, outcome="failed", message="diverges after a", follows="a")
    spool.add_event({"kind": "causes", "causes": [changed()]})
    spool.add_event({"kind": "finished"})
    text = render_markdown(assemble(spool))
    assert text.startswith(
        "# 1 of 4 items failed, and 3 follow\n\n## What changed\n\n### m\n\n- **cause**: 'a' "
    )
    assert text.index("**usually**: the weights") < text.index("- to accept it:")
    # No text of a command ends the block that it is in.
    assert "  ````console\n  pytest m`` -k 'x\n  ```'\n  ````\n" in text
    assert "b … z\\: 3 follow" in text
    assert "Failures" not in text
    assert text.count("diverges after") == 0


def test_a_summary_is_no_larger_than_a_job_may_have(tmp_path):
    spool = Spool(tmp_path)
    for number in range(40):
        shown = exhibit("x" * 40, layer="ü" * 2000, model=f"m{number}")
        add(spool, shown, outcome="failed" if number == 39 else "passed", message="no " * 20_000)
    spool.add_event({"kind": "causes", "causes": [changed("|" * 50_000, command="-" * 5000)]})
    run = assemble(spool)
    assert len(render_markdown(run).encode()) < MAX_BYTES < 2**20
    text = render_markdown(run, limit=20_000)
    assert len(text.encode()) <= 20_000
    assert text.index("What changed") < text.index("Failures") < text.index("## m39")
    assert text.endswith(
        "The rest is left out, as a summary of a CI job may have no more than 1 MiB.\n"
    )
