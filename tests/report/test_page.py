"""The page shows all figures, escapes all names, and has a limited size."""

from __future__ import annotations

import base64
import hashlib
import io
import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.report.conftest import EVIL, EVIL_SCRIPT, add, exhibit

from convlens.pictures import Curves, Tiles
from convlens.report.assemble import assemble
from convlens.report.chart import chart
from convlens.report.entry import Lines
from convlens.report.page import render
from convlens.report.spool import Spool


class Page(HTMLParser):
    """Elements of a page by tag, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: dict[str, list[dict[str, str | None]]] = {}
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.found.setdefault(tag, []).append(dict(attrs))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@pytest.fixture
def page(spool) -> Page:
    return Page(render(assemble(spool), spool))


def test_hostile_names_are_escaped(page):
    assert len(page.found["script"]) == 1
    assert all(img["src"].startswith("data:image/webp;base64,") for img in page.found["img"])
    assert not any(name.startswith("on") for tag in page.found.values() for a in tag for name in a)
    text = "".join(page.texts)
    assert text.count(EVIL) >= 5
    assert EVIL_SCRIPT in text


def test_the_page_loads_nothing_and_allows_only_its_own_script(spool):
    text = render(assemble(spool), spool)
    page = Page(text)
    assert not {"iframe", "object", "embed", "base"} & page.found.keys()
    assert [link["href"] for link in page.found["link"]] == ["data:,"]
    assert "@import" not in text
    assert "url(" not in text
    (policy,) = [m["content"] for m in page.found["meta"] if m.get("http-equiv")]
    script = re.search(r"<script>(.*)</script>", text, re.DOTALL).group(1)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy


def test_each_item_shows_its_figures(page):
    articles = {a["data-model"]: a for a in page.found["article"]}
    assert len(page.found["article"]) == 6
    assert articles[EVIL]["data-layer"] == EVIL
    assert len(page.found["svg"]) == 1
    assert "Gram matrix" in page.texts
    labels = {img["alt"] for img in page.found["img"]}
    assert {"unit 0", "unit 5", "expected", "actual", "difference", EVIL} <= labels
    assert "inf" in page.texts  # an infinite relative error


def test_small_pictures_are_lossless(page):
    (shot,) = [img for img in page.found["img"] if img["alt"] == "expected"]
    data = base64.b64decode(shot["src"].partition(",")[2])
    with Image.open(io.BytesIO(data)) as image:
        seen = np.asarray(image.convert("RGB"))
    wanted = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    np.testing.assert_array_equal(seen, wanted)


def test_identifiers_are_unique(page):
    ids = [a["id"] for tag in page.found.values() for a in tag if "id" in a]
    assert len(ids) == len(set(ids))


@pytest.mark.slow
def test_a_large_page_shows_fewer_pictures_of_passed_items(tmp_path):
    spool = Spool(tmp_path)
    noise = np.random.default_rng(0).integers(0, 256, (40, 64, 64, 3), dtype=np.uint8)
    for name, outcome in (("good", "passed"), ("bad", "failed")):
        for i in range(4):
            own = [n ^ np.uint8(i + 8 * len(name)) for n in noise]
            figure = Tiles(own, [f"{name} {j}" for j in range(40)], "maps", together=2)
            add(spool, exhibit(f"{name} {i}"), figure, outcome=outcome, message="")
    limit = 3 * 2**20
    text = render(assemble(spool), spool, limit=limit)
    shown = [img["alt"] for img in Page(text).found["img"]]
    assert len(text) < limit + 300_000
    assert sum(s.startswith("bad") for s in shown) == 160
    assert 0 < sum(s.startswith("good") for s in shown) < 160
    assert "items that passed show only some" in text
    assert "items that passed show only some" not in render(assemble(spool), spool, limit=9 * 2**20)
    assert len(render(assemble(spool), spool)) < 5_000_000
    smallest = render(assemble(spool), spool, limit=1000)
    assert len(smallest) < 300_000


def test_large_pictures_are_reduced(tmp_path):
    spool = Spool(tmp_path)
    large = np.random.default_rng(0).integers(0, 256, (900, 600, 3), dtype=np.uint8)
    add(spool, exhibit("one"), Tiles([large] * 9, [str(i) for i in range(9)], "maps"))
    (entry,) = assemble(spool).entries
    picture = entry.exhibit.galleries[0].pictures[0]
    assert max(picture.width, picture.height) <= 112
    assert len(spool.read_picture(picture.file)) < 20_000


def test_evenly_spaced_images_of_a_large_figure_are_kept(tmp_path):
    spool = Spool(tmp_path)
    tiles = [np.full((4, 4), i, np.uint8) for i in range(200)]
    add(spool, exhibit("one"), Tiles(tiles, [str(i) for i in range(200)], "maps", together=4))
    (entry,) = assemble(spool).entries
    labels = [int(p.label) for p in entry.exhibit.galleries[0].pictures]
    assert len(labels) == 64
    assert labels[:4] == [0, 1, 2, 3]
    assert labels[-4:] == [196, 197, 198, 199]
    assert "64 of 200 are shown" in render(assemble(spool), spool)


def test_the_page_of_a_run_without_items_says_so(tmp_path):
    spool = Spool(tmp_path)
    text = render(assemble(spool), spool)
    assert "No tests were run" in text
    assert "No test of this run used convlens" in text
    assert "was interrupted" in text


def test_a_chart_has_lines_legend_and_summary():
    few = chart(Lines("t", "step", "loss", [0, 1, 2], [("a", [3.0, 2.0, 1.0]), ("b", [1.0] * 3)]))
    assert [path.name for path in few.legend] == ["a", "b"]
    assert few.summary == "loss over step: a ends at 1; b ends at 1"
    points = [tuple(map(float, p.split(","))) for p in few.paths[0].parts[0].split()]
    assert points == sorted(points)
    assert points[0][1] < points[-1][1]  # the y coordinate grows downwards as the loss falls
    many = chart(Lines("t", "x", "y", [0, 1], [(str(i), [0.0, float(i)]) for i in range(9)]))
    assert [path.name for path in many.legend] == ["median"]
    assert many.legend[0].end == "4"
    flat = chart(Lines("t", "x", "y", [0], [("a", [1.0])]))
    assert flat.paths[0].parts


def test_values_that_are_not_finite_are_gaps_of_a_chart():
    nan, inf = float("nan"), float("inf")
    found = chart(Lines("t", "x", "y", [0, 1, 2, 3, 4], [("a", [0.0, 1.0, nan, 2.0, inf])]))
    (path,) = found.paths
    assert [len(part.split()) for part in path.parts] == [2, 2]
    assert path.parts[1].split()[0] == path.parts[1].split()[1]  # a dot
    assert path.end == "inf"
    assert "nan" not in "".join(path.parts)
    assert found.y_ticks[-1].text == "2"
    nothing = chart(Lines("t", "x", "y", [0, 1], [("a", [nan, nan]), ("b", [-inf, 1e308])]))
    assert [path.parts for path in nothing.paths] == [[], []]
    many = chart(Lines("t", "x", "y", [0, 1], [(str(i), [float(i), nan]) for i in range(9)]))
    assert [len(part.split()) for part in many.legend[0].parts] == [2]
    one = chart(
        Lines("t", "x", "y", [0, 1], [(str(i), [nan, [nan, 3.0][i == 4]]) for i in range(9)])
    )
    assert one.legend[0].end == "3"
    assert chart(Lines("t", "x", "y", [], [("a", [])])).legend[0].end == "nothing"


def test_curves_are_reduced_and_keep_their_ends(tmp_path):
    spool = Spool(tmp_path)
    add(
        spool,
        exhibit("one"),
        Curves({"a": [float(i) for i in range(500)]}, list(range(500)), "t", "x", "y"),
    )
    (lines,) = assemble(spool).entries[0].exhibit.curves
    assert len(lines.x) == 60
    assert (lines.x[0], lines.x[-1]) == (0.0, 499.0)
