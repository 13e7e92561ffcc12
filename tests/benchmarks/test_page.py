"""The page and the tables show the figures and escape names; the page is written atomically."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import Any

import pytest

from convlens.benchmarks.__main__ import main
from convlens.benchmarks.page import render, write_page
from convlens.benchmarks.tables import markdown, terminal_table

EVIL = "<script>alert(1)</script>|&"
WHEN = datetime(2026, 11, 24, 9, 30, tzinfo=UTC)


def info(case: str = "ascent-mnist_cnn", **more: Any) -> dict[str, Any]:
    around = {"median": 0.5, "q1": 0.4, "q3": 0.6}
    return {
        "case": case,
        "title": f"ascent of {case}",
        "ours": "convlens",
        "references": ["bare passes", "peer"],
        "seconds": {"bare passes": around, "convlens": around, "peer": around},
        "ratios": {"convlens": {"bare passes": {"median": 1.06, "q1": 1.04, "q3": 1.09}}},
        "images_per_second": 128.0,
        "steps_per_second": 100.0,
        "gflop_per_second": 91.0,
        "peak_fraction": 0.42,
        "tracing_seconds": 0.3,
        "host_MiB": 1024.0,
        "device_MiB": None,
    } | more


SERIES = info(
    "units",
    series={"label": "units", "sizes": [1, 4, 16], "seconds": [0.1, 0.3, 1.0], "slope": 0.83},
)


class Elements(HTMLParser):
    """Elements and texts of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_the_page_shows_each_case_its_contestants_and_the_machine():
    page = Elements(render([info(), SERIES], {"processor": "Some CPU", "driver": None}, WHEN))
    text = " ".join(page.texts)
    for wanted in ("Some CPU", "2026-11-24 09:30", "42 %", "1.06 (1.04–1.09) of bare passes"):
        assert wanted in text
    assert "driver" not in text
    assert page.tags.count("polyline") == 1
    assert page.tags.count("circle") == 3
    assert "slope 0.83" in text
    assert sum(v == "fill" for _, v in page.attributes) == 3


def test_the_page_escapes_names_and_loads_nothing():
    hostile = info(EVIL, title=EVIL, seconds={EVIL: info()["seconds"]["convlens"]}, ours=EVIL)
    hostile["ratios"] = {EVIL: {EVIL: {"median": 1.0, "q1": 1.0, "q3": 1.0}}}
    text = render([hostile], {"processor": EVIL, "accelerators": [EVIL]}, WHEN)
    page = Elements(text)
    assert "script" not in page.tags
    assert not {"link", "img", "iframe"} & set(page.tags)
    assert not {"src", "href"} & {name for name, _ in page.attributes}
    assert " ".join(page.texts).count(EVIL) >= 5
    assert "url(" not in text


def test_a_failed_page_leaves_the_old_file(tmp_path):
    place = tmp_path / "page.html"
    write_page(place, [info()], {}, WHEN)
    before = place.read_text(encoding="utf-8")
    with pytest.raises(KeyError):
        write_page(place, [{"case": "broken"}], {}, WHEN)
    assert place.read_text(encoding="utf-8") == before
    assert [f.name for f in tmp_path.iterdir()] == ["page.html"]


def test_the_tables_have_one_line_per_case():
    head, *lines = terminal_table([info(), SERIES])
    assert head.split()[:2] == ["case", "seconds"]
    assert [line.split()[0] for line in lines] == ["ascent-mnist_cnn", "units"]
    assert lines[1].endswith("slope 0.83 over units")
    rows = markdown([info(EVIL)]).splitlines()
    assert len({line.count("|") for line in rows}) == 1


def test_a_stored_run_is_shown(tmp_path, capsys):
    run = {
        "benchmarks": [{"extra_info": info()}, {"extra_info": {}}],
        "machine_info": {"convlens": {"processor": "Some CPU"}},
        "datetime": "2026-11-24T09:30:00+00:00",
    }
    file = tmp_path / "run.json"
    file.write_text(json.dumps(run), encoding="utf-8")
    assert main([str(file), "--page", str(tmp_path / "page.html")]) == 0
    assert "ascent-mnist_cnn" in capsys.readouterr().out
    assert "Some CPU" in (tmp_path / "page.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"benchmarks": [], "machine_info": {}}'])
def test_a_file_that_is_not_a_run_is_refused(tmp_path, capsys, text):
    file = tmp_path / "run.json"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(SystemExit):
        main([str(file)])
    assert "is not a run of the suite" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([str(tmp_path / "missing.json")])
    assert "cannot be read" in capsys.readouterr().err
