"""An item that cannot be shown, or a file that cannot be read, costs no other item."""

from __future__ import annotations

import numpy as np
import pytest
from tests.report.conftest import EVIL, add, event, exhibit

from convlens.pictures import Curves, HeatMap, Tiles
from convlens.report import page as page_module
from convlens.report.assemble import assemble
from convlens.report.markdown import render_markdown
from convlens.report.page import render
from convlens.report.plain import plain_markdown, plain_page
from convlens.report.spool import Spool
from convlens.report.text import one_line

TILES = Tiles([np.zeros((4, 4), np.uint8)], ["one"], "maps")


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


def test_report_survives_values_that_are_not_finite(tmp_path):
    spool = Spool(tmp_path)
    bad = [float("nan"), float("inf"), float("-inf"), 1.0]
    figure = Curves({"a": bad, "b": [float("nan")] * 4}, [0, 1, 2, 3], "t", "step", "value")
    add(spool, exhibit("one"), figure, numbers={"convlens.gain": float("nan")})
    text = render(assemble(spool), spool)
    assert "is shown as text alone" not in text
    assert text.count("<polyline") == 1
    assert "<dd>nan</dd>" in text


def test_report_survives_a_template_that_fails_for_one_item(spool, monkeypatch):
    def chart(lines):
        raise ZeroDivisionError("planted " + EVIL)

    monkeypatch.setattr(page_module.chart, "chart", chart)
    problems: list[str] = []
    whole = assemble(spool)
    text = render(whole, spool, on_problem=problems.append)
    assert problems == [f"m::passes is shown as text alone: planted {EVIL}"]
    assert text.count("<article") == len(whole.entries)
    assert text.count("is shown as text alone: planted &lt;img") == 1
    assert EVIL not in text
    assert text.count("data:image/webp") > 2  # the other items have their pictures
    render(whole, spool)  # also where nobody listens


def test_report_survives_pictures_that_are_lost(tmp_path):
    spool = Spool(tmp_path)
    add(spool, exhibit("one"), TILES)
    add(spool, exhibit("two"), Tiles([np.full((4, 4), 9, np.uint8)], ["two"], "maps"))
    first = assemble(spool).entries[0].exhibit.galleries[0].pictures[0]
    (tmp_path / first.file).unlink()
    problems: list[str] = []
    text = render(assemble(spool), spool, on_problem=problems.append)
    assert len(problems) == 1
    assert text.count("data:image/webp") == 1


def test_report_survives_a_file_of_the_spool_that_cannot_be_read(tmp_path):
    spool = Spool(tmp_path)
    add(spool, exhibit("one"), outcome="failed", message="broken")
    add(spool, exhibit("two"))
    add(spool, exhibit("three"))
    names = sorted(tmp_path.glob("*.json"))
    names[0].write_text("{")
    names[1].write_text('{"nodeid": 3}')
    problems: list[str] = []
    run = assemble(spool, problems.append)
    assert [p.partition(" ")[0] for p in problems] == [name.name for name in names[:2]]
    assert len(run.entries) == 1
    assert sum(run.counts.values()) == 3  # the others count all the same
    render(run, spool)
    render_markdown(run)


def test_report_survives_a_check_whose_layer_is_no_text(tmp_path):
    spool = Spool(tmp_path)
    shown = exhibit("one", layer=np.int64(3))
    add(spool, shown, HeatMap(np.eye(3), "m"))
    (entry,) = assemble(spool).entries
    assert entry.exhibit.layer == "3"


def test_the_plain_page_and_summary_have_every_outcome():
    events = [
        {"kind": "facts", "facts": {}},
        event("a", when="setup"),
        event("a", "failed", message=f"why\n{EVIL}\ud800\x1b[31m"),
        event("a", when="teardown"),
        event("b", when="setup"),
        event("b"),
        event("c", "skipped", "setup"),
        event("c", when="teardown"),
        event("d", when="setup"),
        event(EVIL, "error", "setup", message="no"),
        {"kind": "finished"},
    ]
    text = plain_page(events, "planted <b>")
    for outcome, name in (("failed", "a"), ("passed", "b"), ("skipped", "c"), ("unfinished", "d")):
        assert f"<b>{outcome}</b> <code>{name}</code>" in text
    assert EVIL not in text
    assert "planted &lt;b&gt;" in text
    text.encode()
    summary = plain_markdown(events, "planted <b>")
    assert summary.startswith("# 3 of 5 items failed\n")
    assert "- **a**: why\n" in summary
    assert "<" not in summary.replace("\\<", "")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("a\n b"), "a b"),
        (KeyError(), "KeyError"),
        (UnprintableError(), "UnprintableError"),
    ],
)
def test_an_error_is_one_line(error, text):
    assert one_line(error) == text
