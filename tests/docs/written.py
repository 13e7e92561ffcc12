"""Parts of pages that tests make, between two comments."""

from __future__ import annotations

import re

from pages import ROOT, text_of


def check_written(page: str, mark: str, made: str, write: bool) -> None:
    """Hold the part of a page between ``<!-- mark:begin -->`` and ``<!-- mark:end -->`` to `made`.

    Args:
        page: the page, from the project's folder.
        mark: what the comments are called.
        made: what must be there.
        write: put it there first.

    Raises:
        AssertionError: something else is there.
    """
    # Blank lines: a comment beside a table would be one of its rows.
    made = f"\n{made.strip()}\n\n"
    region = re.compile(rf"(?<=<!-- {mark}:begin -->\n).*?(?=<!-- {mark}:end -->)", re.DOTALL)
    assert len(region.findall(text_of(page))) == 1, f"{page} has no single region {mark!r}"
    if write:
        written = region.sub(lambda _: made, text_of(page))
        (ROOT / page).write_text(written, encoding="utf-8")
    assert region.findall(text_of(page)) == [made], "run `pytest tests/docs --write-docs`"
