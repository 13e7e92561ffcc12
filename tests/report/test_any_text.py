"""The elements of the page do not depend on the text of names and messages."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from tests.report.conftest import event

from convlens.report.assemble import assemble
from convlens.report.cause import Cause
from convlens.report.entry import Comparison, Exhibit, LayerComparison
from convlens.report.markdown import render_markdown
from convlens.report.page import render
from convlens.report.spool import Spool

ANY = st.text(st.characters(codec=None), max_size=60)
PLAIN = "plain"


def pages(text: str) -> tuple[str, str]:
    """Return the page and the Markdown of a run whose names and messages all include a text."""
    with TemporaryDirectory() as folder:
        spool = Spool(Path(folder))
        spool.add_event({"kind": "facts", "facts": {"command": f"a{text}"}})
        layers = [LayerComparison(f"a{text}", 0.5, 0.1, 1, False)]
        table = spool.write_table(layers)
        seen = Comparison(f"a{text}", "0" * 16, f"a{text}", False, f"a{text}", table, [])
        shown = Exhibit(*(f"a{text}" for _ in range(6)), comparisons=[seen])
        spool.write_exhibit(shown)
        folded = replace(seen, key=f"c{text}")
        passed = [Exhibit(f"{n}{text}", *[f"a{text}"] * 5, comparisons=[folded]) for n in "xyz"]
        for one in passed:
            spool.write_exhibit(one)
            spool.add_event(event(one.nodeid, reason=f"a{text}", notes=[f"a{text}"]))
            spool.add_event(event(one.nodeid, when="teardown"))
        texts = {"explanation": f"a{text}", "command": f"a{text}", "followers": [f"a{text}"] * 3}
        texts |= {"key": seen.key, "fingerprint": seen.fingerprint, "file": f"a{text}"}
        cause = Cause(shown.nodeid, *[f"a{text}"] * 4, **texts)
        lost = replace(cause, nodeid=f"lost{text}")  # one whose item left nothing
        spool.add_event({"kind": "causes", "causes": [cause, lost]})
        numbers = {f"convlens.a{text}": f"a{text}"}
        more: dict[str, Any] = {"message": f"a{text}", "reason": f"a{text}", "numbers": numbers}
        more["notes"] = [f"a{text}"]
        for nodeid in (shown.nodeid, f"b{text}"):
            spool.add_event(event(nodeid, "failed", **more))
            spool.add_event(event(nodeid, when="teardown"))
        run = assemble(spool)
        return render(run, spool), render_markdown(run)


class Elements(HTMLParser):
    """Tags of a page with the names of their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, ...]] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, *(name for name, _ in attrs)))


@pytest.mark.slow
@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(text=ANY)
def test_the_page_has_the_same_elements_for_any_text(text):
    assert_same_elements(text)


@pytest.mark.parametrize(
    "text",
    [
        "</script><script>alert(1)</script>",
        "<!-- ]]> --> \" ' onload=alert(1) x=`",
        "\ud800\x00\x1b[31m\u202e\u2028",
        "{{ 7 * 7 }}{% raw %}",
    ],
)
def test_the_page_has_the_same_elements_for_hostile_text(text):
    assert_same_elements(text)


def assert_same_elements(text: str) -> None:
    page, markdown = pages(text)
    plain_page, plain_markdown = pages(PLAIN)
    assert set(Elements(page).found) == set(Elements(plain_page).found)
    assert len(Elements(page).found) == len(Elements(plain_page).found)
    assert "7 * 7" not in text or "49" not in page
    # A command stands in a block of code, indented.
    markdown, plain_markdown = (
        re.sub(r"(?m)^  .*\n", "", text) for text in (markdown, plain_markdown)
    )
    # All lines begin as for plain text, so that no name starts a heading, list or table.
    heads = [re.match(r"[#|-]*", line)[0] for line in markdown.splitlines()]
    assert heads == [re.match(r"[#|-]*", line)[0] for line in plain_markdown.splitlines()]
    assert not re.search(r"(?<!\\)[<`\[]", markdown)


def test_an_injected_element_would_be_detected():
    page, _ = pages(PLAIN)
    planted = page.replace(PLAIN, "<b onclick=x>", 1)
    assert Elements(planted).found != Elements(page).found
