"""Links lead somewhere, and every picture is shown."""

from __future__ import annotations

import re

import pytest
from directives import directives
from pages import PAGES, ROOT, text_of

_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
_BLOCKS = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
WITH_LINKS = [*PAGES, "benchmarks/README.md"]


def links_of(page: str) -> list[str]:
    found = _LINK.findall(_BLOCKS.sub("", text_of(page)))
    return [link for link in found if not link.startswith(("https://", "http://"))]


def anchors_of(page: str) -> set[str]:
    """Return the names of a page's headings and directives, as links call them."""
    headings = _HEADING.findall(_BLOCKS.sub("", text_of(page)))
    named = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    return named | {d.target for d in directives() if d.page == page}


@pytest.mark.parametrize("page", WITH_LINKS)
def test_links_lead_somewhere(page):
    for link in links_of(page):
        file, _, anchor = link.partition("#")
        target = (ROOT / page).parent / file if file else ROOT / page
        assert target.exists(), f"{page}: {link}"
        if anchor:
            assert anchor in anchors_of(str(target.resolve().relative_to(ROOT))), f"{page}: {link}"


def test_the_readme_leads_to_the_site_and_that_to_every_guide():
    assert "docs/index.md" in links_of("README.md")
    guides = {path.name for path in ROOT.glob("docs/*.md")} - {"index.md"}
    assert guides <= {link.partition("#")[0] for link in links_of("docs/index.md")}


def test_every_picture_of_the_docs_is_shown():
    shown = {link for page in WITH_LINKS for link in links_of(page)}
    for picture in ROOT.glob("docs/*.[pj][np]g"):
        assert {picture.name, f"docs/{picture.name}"} & shown, f"{picture.name} is shown nowhere"
